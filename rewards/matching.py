"""Made calls against reference calls: equality of values, what differs, and who is paired with whom."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from envs.types import Json, ToolCall, ToolSpec

_ABSENT = object()
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")


def normalise(text: str) -> str:
    """NFKC, case folded, runs of white space as one space, trimmed."""
    if text.isascii():
        return " ".join(text.lower().split())
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def alternatives(reference: Json) -> list[Json] | None:
    """The accepted values of a reference argument {"any_of": [...]}; None if it is a plain value."""
    if isinstance(reference, Mapping) and len(reference) == 1:
        values = reference.get("any_of")
        if isinstance(values, (list, tuple)):
            return list(values)
    return None


def may_be_omitted(reference: Json) -> bool:
    """Whether "" is among the accepted values: the argument may be left out."""
    values = alternatives(reference)
    return values is not None and any(isinstance(value, str) and not value for value in values)


def same_value(made: Json, reference: Json) -> bool:
    """Whether `made` is the reference value: numbers as numbers, strings normalised, nested.

    A number equals the string that spells it: that the type is wrong is for the schema to say.
    """
    kind = type(made)
    if kind is type(reference):
        if kind is str:
            return made == reference or normalise(made) == normalise(reference)
        if kind is int:
            return made == reference
    accepted = alternatives(reference)
    if accepted is not None:
        return any(same_value(made, value) for value in accepted)
    if isinstance(made, Mapping) or isinstance(reference, Mapping):
        return isinstance(made, Mapping) and isinstance(reference, Mapping) and _same_object(made, reference)
    if isinstance(made, (list, tuple)) or isinstance(reference, (list, tuple)):
        return (
            isinstance(made, (list, tuple))
            and isinstance(reference, (list, tuple))
            and len(made) == len(reference)
            and all(map(same_value, made, reference))
        )
    if isinstance(made, bool) or isinstance(reference, bool) or made is None or reference is None:
        return made is reference
    left, right = _number(made), _number(reference)
    return left is not None and right is not None and math.isclose(left, right, rel_tol=1e-9, abs_tol=0.0)


def _same_object(made: Mapping[str, Json], reference: Mapping[str, Json]) -> bool:
    if any(key not in reference for key in made):
        return False
    return all(
        same_value(made[key], value) if key in made else may_be_omitted(value) for key, value in reference.items()
    )


def _number(value: Json) -> float | None:
    if isinstance(value, (int, float)):
        try:
            return float(value)
        except OverflowError:
            return None
    return float(value) if isinstance(value, str) and _NUMBER.fullmatch(value.strip()) else None


def identical(made: Json, other: Json) -> bool:
    """Whether two made values are the same JSON: types count, key order does not, 3.0 is 3, strings to the letter."""
    if type(made) is str or type(made) is int:
        return type(other) is not bool and bool(made == other)
    if isinstance(made, Mapping):
        return (
            isinstance(other, Mapping)
            and len(made) == len(other)
            and all(key in other and identical(value, other[key]) for key, value in made.items())
        )
    if isinstance(made, (list, tuple)):
        return isinstance(other, (list, tuple)) and len(made) == len(other) and all(map(identical, made, other))
    if isinstance(made, bool) or isinstance(other, bool):
        return made is other
    return bool(made == other)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How one argument of a made call differs from the reference call of the same tool."""

    kind: Literal["missing", "unknown", "redundant", "value"]
    argument: str
    """Name of the argument."""


def differences(made: ToolCall, reference: ToolCall, tool: ToolSpec) -> list[Difference]:
    """Every argument in which `made` differs from `reference`; empty if `made` is right.

    What the schema gives as default may be left out or written down: the call is the same. What it requires is never
    redundant, even where an incomplete reference does not name it.
    """
    found: list[Difference] = []
    arguments = made.arguments
    for name, wanted in reference.arguments.items():
        if name in arguments:
            if not same_value(arguments[name], wanted):
                found.append(Difference(kind="value", argument=name))
        elif not may_be_omitted(wanted) and not _is_default(tool, name, wanted):
            found.append(Difference(kind="missing", argument=name))
    for name, value in arguments.items():
        if name in reference.arguments:
            continue
        if name not in tool.properties:
            found.append(Difference(kind="unknown", argument=name))
        elif name not in tool.required and not same_value(value, _default(tool, name)):
            found.append(Difference(kind="redundant", argument=name))
    return found


def _default(tool: ToolSpec, name: str) -> Json:
    schema = tool.properties.get(name)
    return schema.get("default", _ABSENT) if isinstance(schema, Mapping) else _ABSENT


def _is_default(tool: ToolSpec, name: str, wanted: Json) -> bool:
    if name in tool.required:
        return False
    default = _default(tool, name)
    return default is not _ABSENT and same_value(default, wanted)


def similarity(made: ToolCall | None, reference: ToolCall) -> float:
    """How well a made call fits a reference call, 0 to 2: one for the tool, the rest for its arguments.

    None stands for a call that could not be parsed.
    """
    if made is None or made.name != reference.name:
        return 0.0
    names = set(made.arguments) | set(reference.arguments)
    if not names:
        return 2.0
    equal = sum(
        name in made.arguments and same_value(made.arguments[name], wanted)
        for name, wanted in reference.arguments.items()
    )
    shared = sum(name in made.arguments for name in reference.arguments)
    return 1.0 + (equal + 0.1 * shared) / (1.1 * len(names))


def pair(made: Sequence[ToolCall | None], reference: Sequence[ToolCall]) -> list[int | None]:
    """For each made call the index of the reference call it was an attempt at, or None for a call too many.

    A matching of maximum weight: each reference call is used at most once, and as many calls as possible are paired.
    """
    if not made or not reference:
        return [None] * len(made)
    if len(made) == len(reference) == 1:
        return [0]
    weights = [[similarity(call, wanted) for wanted in reference] for call in made]
    if len(made) == 1:
        return [max(range(len(reference)), key=weights[0].__getitem__)]
    if len(reference) == 1:
        best = max(range(len(made)), key=lambda row: weights[row][0])
        return [0 if row == best else None for row in range(len(made))]
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(weights, maximize=True)
    found: list[int | None] = [None] * len(made)
    for row, column in zip(rows, columns, strict=True):
        found[int(row)] = int(column)
    return found


class ExactMatching:
    """Grows a maximum matching between right calls and reference calls, one call at a time.

    A call that was matched stays matched; alternatives ({"any_of": ...}) may move it to another reference call to make
    room for a later one. This is Kuhn's augmenting-path algorithm in the order of the calls.
    """

    def __init__(self) -> None:
        self._choices: dict[int, Sequence[int]] = {}
        self.call_of: dict[int, int] = {}
        """Reference index -> made call."""

    def add(self, call: int, choices: Sequence[int]) -> bool:
        """Try to match `call`, which is equal to each of the reference calls `choices`."""
        for choice in choices:
            if choice not in self.call_of:
                self._choices[call] = choices
                self.call_of[choice] = call
                return True
        if not choices:
            return False
        self._choices[call] = choices
        if self._augment(call, set()):
            return True
        del self._choices[call]
        return False

    def _augment(self, call: int, seen: set[int]) -> bool:
        for choice in self._choices[call]:
            if choice in seen:
                continue
            seen.add(choice)
            holder = self.call_of.get(choice)
            if holder is None or self._augment(holder, seen):
                self.call_of[choice] = call
                return True
        return False


@lru_cache(maxsize=4096)
def pointer(name: str) -> str:
    """JSON pointer of a top-level argument."""
    return "/" + name.replace("~", "~0").replace("/", "~1")
