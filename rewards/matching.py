"""Made calls against reference calls: equality of values, what differs, and who is paired with whom."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

from envs.types import Json, ToolCall, ToolSpec

_ABSENT = object()
_PLAIN = frozenset({str, int, float})
"""Of what is equal to one of these, only a boolean is not the same."""
_INTEGER = re.compile(r"[+-]?\d+")
_MANY_DIGITS = 300
"""No float holds a number of so many digits."""
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")


def normalise(text: str) -> str:
    """NFKC, case folded, runs of white space as one space, trimmed."""
    if text.isascii():
        return " ".join(text.lower().split())
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def alternatives(reference: Json) -> list[Json] | None:
    """The accepted values of a reference argument {"any_of": [...]}; None if it is a plain value."""
    if type(reference) in _PLAIN:
        return None
    if isinstance(reference, (dict, Mapping)) and len(reference) == 1:
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
    if left is None or right is None:
        return False
    if isinstance(left, int) and isinstance(right, int):
        return left == right
    # Of numbers that may be ids every digit counts; those with a fraction may come out of a calculation.
    left, right = float(left), float(right)
    exact = left.is_integer() and right.is_integer()
    return left == right or (not exact and math.isclose(left, right, rel_tol=1e-9, abs_tol=0.0))


def _same_object(made: Mapping[str, Json], reference: Mapping[str, Json]) -> bool:
    if any(key not in reference for key in made):
        return False
    return all(
        same_value(made[key], value) if key in made else may_be_omitted(value) for key, value in reference.items()
    )


def _number(value: Json) -> int | float | None:
    """The number that a value is or spells, exactly where it is an integer; None for what no float can hold."""
    if isinstance(value, str):
        text = value.strip()
        if not _NUMBER.fullmatch(text):
            return None
        value = int(text) if len(text) < _MANY_DIGITS and _INTEGER.fullmatch(text) else float(text)
    if not isinstance(value, (int, float)):
        return None
    try:
        return value if math.isfinite(float(value)) else None
    except OverflowError:
        return None


def identical(made: Json, other: Json) -> bool:
    """Whether two made values are the same JSON: types count, key order does not, 3.0 is 3, strings to the letter."""
    if type(made) in _PLAIN:
        return type(other) is not bool and bool(made == other)
    if isinstance(made, (dict, Mapping)):
        if not isinstance(other, (dict, Mapping)) or made.keys() != other.keys():
            return False
        return all(map(identical, made.values(), [other[key] for key in made]))
    if isinstance(made, (list, tuple)):
        return isinstance(other, (list, tuple)) and len(made) == len(other) and all(map(identical, made, other))
    if isinstance(made, bool) or isinstance(other, bool):
        return made is other
    return bool(made == other)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One place in which a made call differs from the reference call of the same tool."""

    kind: Literal["missing", "unknown", "redundant", "value"]
    argument: str
    """Name of the argument."""
    inside: tuple[str | int, ...] = ()
    """Keys and indices that lead from the argument to what differs; empty: the argument itself."""
    made: Json = field(default=None, compare=False)
    """The value that is wrong, of the kind `value`."""
    wanted: Json = field(default=None, compare=False)

    @property
    def pointer(self) -> str:
        """JSON pointer of what differs."""
        return "".join(map(pointer, (self.argument, *map(str, self.inside))))


def differences(made: ToolCall, reference: ToolCall, tool: ToolSpec) -> list[Difference]:
    """Every place in which `made` differs from `reference`, as deep in its arguments as can be told; empty if none.

    What the schema gives as default may be left out or written down: the call is the same. What it requires is never
    redundant, even where an incomplete reference does not name it. Of several accepted objects or arrays the one that
    differs least counts. Inside an object whose schema names no keys, none is unknown: one too many is redundant.
    """
    found: list[Difference] = []
    properties = tool.properties
    for name, wanted in reference.arguments.items():
        if name in made.arguments:
            _compare(made.arguments[name], wanted, properties.get(name), (name,), found)
        elif not may_be_omitted(wanted) and not _is_default(tool.parameters, name, wanted):
            found.append(_difference("missing", (name,)))
    for name, value in made.arguments.items():
        if name in reference.arguments:
            continue
        if name not in properties:
            found.append(_difference("unknown", (name,)))
        elif _is_redundant(tool.parameters, name, value):
            found.append(_difference("redundant", (name,)))
    return found


def _compare(made: Json, wanted: Json, schema: Json, path: tuple[str | int, ...], found: list[Difference]) -> None:
    """Add to `found` where `made` differs from `wanted`."""
    if same_value(made, wanted):
        return
    accepted = alternatives(wanted)
    if accepted is not None:
        tries: list[list[Difference]] = []
        for value in accepted:
            if _is_alike(made, value):
                tries.append([])
                _compare(made, value, schema, path, tries[-1])
        if tries:
            found.extend(min(tries, key=len))
            return
    elif _is_alike(made, wanted):
        if isinstance(made, Mapping):
            _compare_objects(made, wanted, schema if isinstance(schema, Mapping) else {}, path, found)
        else:
            items = schema.get("items") if isinstance(schema, Mapping) else None
            for index, (value, element) in enumerate(zip(made, wanted, strict=True)):
                _compare(value, element, items, (*path, index), found)
        return
    found.append(_difference("value", path, made=made, wanted=wanted))


def _is_alike(made: Json, wanted: Json) -> bool:
    """Whether what differs can be looked for inside: two objects, or two arrays of one length."""
    if isinstance(made, Mapping):
        return isinstance(wanted, Mapping)
    return isinstance(made, (list, tuple)) and isinstance(wanted, (list, tuple)) and len(made) == len(wanted)


def _compare_objects(
    made: Mapping[str, Json],
    wanted: Mapping[str, Json],
    schema: Mapping[str, Json],
    path: tuple[str | int, ...],
    found: list[Difference],
) -> None:
    properties = _properties(schema)
    for name, value in wanted.items():
        if name in made:
            _compare(made[name], value, properties.get(name), (*path, name), found)
        elif not may_be_omitted(value) and not _is_default(schema, name, value):
            found.append(_difference("missing", (*path, name)))
    for name, value in made.items():
        if name in wanted:
            continue
        if name not in properties:
            found.append(_difference("unknown" if properties else "redundant", (*path, name)))
        elif _is_redundant(schema, name, value):
            found.append(_difference("redundant", (*path, name)))


def _difference(
    kind: Literal["missing", "unknown", "redundant", "value"],
    path: tuple[str | int, ...],
    made: Json = None,
    wanted: Json = None,
) -> Difference:
    return Difference(kind=kind, argument=str(path[0]), inside=path[1:], made=made, wanted=wanted)


def _properties(schema: Mapping[str, Json]) -> Mapping[str, Json]:
    properties = schema.get("properties")
    return properties if isinstance(properties, Mapping) else {}


def _default(schema: Mapping[str, Json], name: str) -> Json:
    own = _properties(schema).get(name)
    return own.get("default", _ABSENT) if isinstance(own, Mapping) else _ABSENT


def _is_required(schema: Mapping[str, Json], name: str) -> bool:
    required = schema.get("required")
    return isinstance(required, (list, tuple)) and name in required


def _is_default(schema: Mapping[str, Json], name: str, wanted: Json) -> bool:
    if _is_required(schema, name):
        return False
    default = _default(schema, name)
    return default is not _ABSENT and same_value(default, wanted)


def _is_redundant(schema: Mapping[str, Json], name: str, value: Json) -> bool:
    return not _is_required(schema, name) and not same_value(value, _default(schema, name))


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
    if len(made) == len(reference) == 1:
        return [0]
    return best_pairs([[similarity(call, wanted) for wanted in reference] for call in made], len(reference))


def best_pairs(weights: Sequence[Sequence[float]], num_columns: int) -> list[int | None]:
    """For each row of a matrix its column in a matching of maximum weight, None for a row without one.

    Args:
        weights: [R, C], rows by columns.
        num_columns: C.
    """
    if not weights or not num_columns:
        return [None] * len(weights)
    if len(weights) == 1:
        return [max(range(num_columns), key=weights[0].__getitem__)]
    if num_columns == 1:
        best = max(range(len(weights)), key=lambda row: weights[row][0])
        return [0 if row == best else None for row in range(len(weights))]
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(weights, maximize=True)
    found: list[int | None] = [None] * len(weights)
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


def value_at(arguments: Json, place: str) -> Json:
    """The value that a JSON pointer into `arguments` leads to.

    Raises:
        LookupError: there is none.
    """
    value = arguments
    for step in place.split("/")[1:]:
        key = step.replace("~1", "/").replace("~0", "~")
        value = value[int(key)] if isinstance(value, (list, tuple)) else value[key]
    return value
