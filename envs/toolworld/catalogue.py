"""Tools of the world: records, plausible values, and the procedural catalogue with its two disjoint splits."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, Protocol

from envs.toolworld import words
from envs.types import Json, ToolSpec

Split = Literal["train", "heldout"]

_HELDOUT_ONE_IN = 6
_CODE_LETTERS = "ABCDEFGHKMPRSTX"
_RESULT_NAMES = ("code", "total", "count", "cost", "place", "person", "level", "date", "state", "number")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldTool:
    """A tool, the words that ask for it, and what it returns."""

    spec: ToolSpec
    phrase: str
    """The words of its name: "book hotel room"."""
    results: Mapping[str, Json]
    """Schema of each field of its result, by name."""

    @property
    def name(self) -> str:
        """The name of the tool."""
        return self.spec.name


class Catalogue(Protocol):
    """A set of tools to make tasks of."""

    def sample(self, rng: random.Random) -> WorldTool:
        """Any tool."""
        ...

    def neighbour(self, rng: random.Random, tool: WorldTool, *, same_start: bool) -> WorldTool:
        """Another tool with a similar name; with the same beginning if `same_start`."""
        ...


def split_of(first: str, second: str) -> Split:
    """The side of the split on which the compound noun of two words lies, by a hash of the pair."""
    digest = hashlib.sha256(f"{first}_{second}".encode()).digest()
    return "heldout" if digest[0] % _HELDOUT_ONE_IN == 0 else "train"


class ProceduralCatalogue:
    """Every verb with every compound noun of its split. A tool follows from its name; none is stored."""

    def __init__(self, split: Split) -> None:
        self.split: Split = split
        self._seconds = _seconds_by_first(split)
        self._firsts = _firsts_by_second(split)

    def sample(self, rng: random.Random) -> WorldTool:
        """Any tool of the split."""
        first = rng.choice(words.NOUNS)
        return self._tool(rng, rng.choice(words.VERBS), first, rng.choice(self._seconds[first]))

    def neighbour(self, rng: random.Random, tool: WorldTool, *, same_start: bool) -> WorldTool:
        """A tool that shares the verb, the compound noun or a part of it with `tool`."""
        verb, first, second, *suffix = tool.name.split("_")
        choice = rng.random()
        if same_start:
            if choice < 0.5:
                second = rng.choice(self._seconds[first])
            elif choice < 0.7 and not suffix:
                return _procedural_tool("_".join((verb, first, second, rng.choice(words.SUFFIXES))))
            else:
                first = rng.choice(words.NOUNS)
                second = rng.choice(self._seconds[first])
        elif choice < 0.45:
            verb = rng.choice(words.VERBS)
        elif choice < 0.7:
            verb, first = rng.choice(words.VERBS), rng.choice(self._firsts[second])
        else:
            return self.sample(rng)
        return self._tool(rng, verb, first, second)

    def _tool(self, rng: random.Random, verb: str, first: str, second: str) -> WorldTool:
        suffix = (rng.choice(words.SUFFIXES),) if rng.random() < 0.12 else ()
        return _procedural_tool("_".join((verb, first, second, *suffix)))


def plausible_value(name: str, schema: Mapping[str, Json], rng: random.Random) -> Json:
    """A value that fits the schema and would pass for one a user gives."""
    if "enum" in schema:
        return rng.choice(schema["enum"])
    if schema.get("examples"):
        return rng.choice(schema["examples"])
    match schema.get("type"):
        case "boolean":
            return rng.random() < 0.5
        case "integer":
            low, high = words.INTEGERS.get(name, (1, 99))
            return rng.randint(int(schema.get("minimum", low)), int(schema.get("maximum", high)))
        case "number":
            low, high = words.NUMBERS.get(name, (1, 99))
            whole = rng.randint(int(schema.get("minimum", low)), max(0, int(schema.get("maximum", high)) - 1))
            return float(f"{whole}.{rng.randint(1, 9)}")
    if schema.get("format") == "date":
        return f"2026-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}"
    return _word(name, rng)


def _word(name: str, rng: random.Random) -> str:
    if name in words.WORD_POOLS:
        return rng.choice(words.WORD_POOLS[name])
    kind = _kind_of_name(name)
    if kind in words.WORD_POOLS:
        return rng.choice(words.WORD_POOLS[kind])
    match kind:
        case "code":
            return f"{rng.choice(_CODE_LETTERS)}{rng.randint(0, 9999):04d}"
        case "date":
            return f"2026-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}"
        case "year":
            return str(rng.randint(1990, 2026))
        case "digits":
            return str(rng.randint(1, 99))
    return f"{rng.choice(words.ADJECTIVES)} {rng.choice(words.THINGS)}"


@lru_cache(maxsize=4096)
def _kind_of_name(name: str) -> str:
    """What the last telling word of a parameter's name says about its values: a pool of words, or "phrase"."""
    for word in reversed(spoken(name).lower().split()):
        for kind, telling in words.TELLING_WORDS.items():
            if word in telling:
                return kind
    return "phrase"


@lru_cache(maxsize=16384)
def spoken(name: str) -> str:
    """The words of an identifier: "startDate" and "start_date" become "start date"."""
    parts = []
    for index, char in enumerate(name):
        previous = name[index - 1] if index else ""
        following = name[index + 1 : index + 2]
        starts_word = char.isupper() and (previous.islower() or (previous.isalnum() and following.islower()))
        parts.append(f" {char}" if starts_word else char)
    text = "".join(parts).replace("_", " ").replace("-", " ").split()
    return " ".join(word if word.isupper() and len(word) > 1 else word.lower() for word in text)


def result_schema(name: str) -> dict[str, Json]:
    """The schema of a result field of the procedural world."""
    match name:
        case "total" | "count" | "number":
            return {"type": "integer"}
        case "cost":
            return {"type": "number"}
        case "level":
            return {"type": "string", "enum": ["low", "middle", "high"]}
        case "state":
            return {"type": "string", "enum": ["done", "open", "closed", "planned"]}
        case "date":
            return {"type": "string", "format": "date"}
    return {"type": "string"}


def result_fields(name: str) -> dict[str, dict[str, Json]]:
    """What a tool returns: one or two fields, decided by its name."""
    rng = random.Random(f"results {name}")
    fields = rng.sample(_RESULT_NAMES, 2 if rng.random() < 0.2 else 1)
    return {field: result_schema(field) for field in fields}


@lru_cache(maxsize=100_000)
def _procedural_tool(name: str) -> WorldTool:
    """Tools of one compound noun share a parameter or two, so that a near tool is tempting."""
    compound = "_".join(name.split("_")[1:3])
    shared, own = random.Random(f"compound {compound}"), random.Random(f"tool {name}")
    count = own.choices((1, 2, 3, 4), weights=(30, 42, 24, 4))[0]
    parameters = {}
    for rng in [shared] * min(2, count) + [own] * 8:
        if len(parameters) < count:
            parameter = _parameter_name(rng)
            if parameter not in parameters:
                parameters[parameter] = _parameter_schema(parameter, rng)
    order = list(parameters)
    own.shuffle(order)
    num_optional = own.choices((0, 1, 2), weights=(55, 35, 10))[0] if count > 1 else 0
    optional = set(own.sample(order, min(num_optional, count - 1)))
    spec = ToolSpec(
        name=name,
        description=name.replace("_", " ").capitalize() + ".",
        parameters={
            "type": "object",
            "properties": {parameter: parameters[parameter] for parameter in order},
            "required": [parameter for parameter in order if parameter not in optional],
        },
    )
    return WorldTool(spec=spec, phrase=name.replace("_", " "), results=result_fields(name))


def _parameter_name(rng: random.Random) -> str:
    groups = (
        tuple(words.WORD_POOLS),
        words.PHRASES,
        words.CODES,
        tuple(words.INTEGERS),
        tuple(words.NUMBERS),
        words.BOOLEANS,
        words.DATES,
        tuple(words.ENUMS),
    )
    return rng.choice(rng.choices(groups, weights=(28, 9, 10, 16, 9, 8, 9, 11))[0])


def _parameter_schema(name: str, rng: random.Random) -> dict[str, Json]:
    if name in words.INTEGERS:
        return {"type": "integer"}
    if name in words.NUMBERS:
        return {"type": "number"}
    if name in words.BOOLEANS:
        return {"type": "boolean"}
    if name in words.DATES:
        return {"type": "string", "format": "date"}
    if name in words.ENUMS:
        values = words.ENUMS[name]
        return {"type": "string", "enum": rng.sample(values, rng.randint(2, min(3, len(values))))}
    return {"type": "string"}


@lru_cache(maxsize=4)
def _seconds_by_first(split: Split) -> dict[str, tuple[str, ...]]:
    return {
        first: tuple(second for second in words.NOUNS if second != first and split_of(first, second) == split)
        for first in words.NOUNS
    }


@lru_cache(maxsize=4)
def _firsts_by_second(split: Split) -> dict[str, tuple[str, ...]]:
    return {
        second: tuple(first for first in words.NOUNS if first != second and split_of(first, second) == split)
        for second in words.NOUNS
    }
