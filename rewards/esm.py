"""TTPA's error-oriented score of a call, corrected: five terms, the class of the error, and parallel calls.

Source: TTPA (arXiv 2505.20016), its error-oriented scoring mechanism; for the formula as released see
`rewards.esm_released`. What differs from it: required parameters are looked for in the call and not in the reference;
a tool that is not offered is worth 0; types are strict and enums, patterns, ranges and nested values count as types;
strings are compared after NFKC, trimming and case folding, and only a substantial part of a string is nearly right;
numbers, dates and sets are compared by what they mean, and a reference may accept several values; a schema may lack
`required` and `type`; optional arguments equal to their default are not demanded; parallel calls are matched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

from envs.actions import DEFERRALS
from envs.record import record
from envs.schema import check
from envs.types import Json, ToolCall, ToolSpec
from rewards.classify import Verdict, by_name, judge, same_missing
from rewards.matching import (
    alternatives,
    best_pairs,
    differences,
    identical,
    may_be_omitted,
    normalise,
    pointer,
    same_value,
)
from rewards.moments import same_date
from rewards.replies import UNKNOWN_REFERENCE, Made, Reply, is_right, made_calls, per_turn, unscored, why_unscored
from rewards.types import Score
from rollout.trajectory import Trajectory

WEIGHTS: Mapping[str, float] = {"name": 3.0, "required": 3.0, "key": 1.0, "type": 2.0, "value": 2.0}
"""Weight of each term, as released."""

_NEAR = 0.5
"""Worth of a nearly right string, and the share of the longer one that the shorter one must make up."""


class EsmClass(StrEnum):
    """What is wrong with a call: the first term that it misses."""

    NO_CALL = "no_call"
    NONEXISTENT_TOOL = "nonexistent_tool"
    WRONG_TOOL = "wrong_tool"
    MISSING_REQUIRED = "missing_required"
    MISSING_OPTIONAL = "missing_optional"
    """Not required by the schema, and demanded by the reference."""
    UNKNOWN_KEY = "unknown_key"
    REDUNDANT_KEY = "redundant_key"
    """Known to the schema, and not asked for."""
    WRONG_TYPE = "wrong_type"
    WRONG_VALUE = "wrong_value"
    NEAR_VALUE = "near_value"
    RIGHT = "right"


@record
class EsmTerms:
    """The five terms of one call, each 0 to 1, and its class."""

    name: float = 0.0
    required: float = 0.0
    """Share of the required parameters that the call gives."""
    key: float = 0.0
    """Share of keys that the schema knows."""
    type: float = 0.0
    """Share of arguments that the schema accepts."""
    value: float = 0.0
    """Share of arguments with the right value."""
    error: EsmClass

    def total(self, weights: Mapping[str, float] = WEIGHTS) -> float:
        """The weighted mean of the terms."""
        terms = (
            weights["name"] * self.name
            + weights["required"] * self.required
            + weights["key"] * self.key
            + weights["type"] * self.type
            + weights["value"] * self.value
        )
        return terms / sum(weights.values())


_RIGHT = EsmTerms(name=1.0, required=1.0, key=1.0, type=1.0, value=1.0, error=EsmClass.RIGHT)


def esm_terms(made: ToolCall | None, reference: ToolCall, tool: ToolSpec | None) -> EsmTerms:
    """The terms of one call against one reference call.

    Args:
        made: the call; None if there is none, or none that could be parsed.
        reference: the right call. A call identical to it is right, whatever its schema says.
        tool: what `made.name` names; None if that is not offered.
    """
    if made is None:
        return EsmTerms(error=EsmClass.NO_CALL)
    if tool is None:
        return EsmTerms(error=EsmClass.NONEXISTENT_TOOL)
    same = made.name == reference.name
    if same and _is_right(made, reference, tool):
        return _RIGHT
    parts = _Parts(made, reference, tool, same=same)
    error = parts.error()
    if not parts.given:
        right = same and not parts.missing
        return _RIGHT if right else EsmTerms(error=error)
    num = max(len(parts.given), len(parts.shared) + len(parts.missing))
    needed = tool.required
    return EsmTerms(
        name=float(same),
        required=sum(name in made.arguments for name in needed) / len(needed) if needed else 1.0,
        key=len(parts.known) / num,
        type=sum(name not in parts.refused for name in parts.known) / num,
        value=sum(parts.values.values()) / num,
        error=error,
    )


class _Parts:
    """The arguments of a call, sorted by what is to be said of each."""

    def __init__(self, made: ToolCall, reference: ToolCall, tool: ToolSpec, *, same: bool) -> None:
        arguments, wanted, properties = made.arguments, reference.arguments, tool.properties
        self.same = same
        self.required = frozenset(tool.required)
        self.arguments = arguments
        self.shared = [name for name in arguments if name in wanted]
        extra = [name for name in arguments if name not in wanted and not (same and self._is_free(name, tool))]
        self.given = self.shared + extra
        """What is counted: not what is as good as unsaid."""
        self.known = [name for name in self.given if name in properties or name in wanted]
        self.redundant = [name for name in extra if name in properties]
        self.missing = [
            name
            for name, value in wanted.items()
            if name not in arguments
            and not may_be_omitted(value)
            and not (same and self._is_default(name, value, tool))
        ]
        places = {problem.pointer[1:].split("/", 1)[0] for problem in check(arguments, tool.parameters)}
        self.refused = {name for name in arguments if pointer(name)[1:] in places}
        self.values = {name: _worth(arguments[name], wanted[name], properties.get(name)) for name in self.shared}

    def _is_free(self, name: str, tool: ToolSpec) -> bool:
        """Whether the right tool may be given it though the reference does not say so."""
        return name in tool.properties and (
            name in self.required or same_value(self.arguments[name], _default(tool, name))
        )

    def _is_default(self, name: str, value: Json, tool: ToolSpec) -> bool:
        return name not in self.required and same_value(_default(tool, name), value)

    def error(self) -> EsmClass:
        """The first term that is missed."""
        if not self.same:
            return EsmClass.WRONG_TOOL
        if any(name not in self.arguments for name in self.required):
            return EsmClass.MISSING_REQUIRED
        if self.missing:
            return EsmClass.MISSING_OPTIONAL
        if len(self.known) < len(self.given):
            return EsmClass.UNKNOWN_KEY
        if self.redundant:
            return EsmClass.REDUNDANT_KEY
        if any(name in self.refused for name in self.known):
            return EsmClass.WRONG_TYPE
        worst = min(self.values.values(), default=1.0)
        return EsmClass.RIGHT if worst == 1.0 else EsmClass.NEAR_VALUE if worst else EsmClass.WRONG_VALUE


_ABSENT = object()
"""Equal to nothing."""


def _default(tool: ToolSpec, name: str) -> Json:
    schema = tool.properties.get(name)
    return schema.get("default", _ABSENT) if isinstance(schema, Mapping) else _ABSENT


def _is_right(made: ToolCall, reference: ToolCall, tool: ToolSpec) -> bool:
    """What the judge takes for right is right here too; the question of a deferral is free."""
    if identical(made.arguments, reference.arguments):
        return True
    if made.name in DEFERRALS:
        return same_missing(made, reference) and not check(made.arguments, tool.parameters)
    return not differences(made, reference, tool) and not check(made.arguments, tool.parameters)


def _worth(made: Json, wanted: Json, schema: Json) -> float:
    """1 for the right value, 0.5 for a string that is nearly right, else 0."""
    accepted = alternatives(wanted)
    if accepted is not None:
        return max((_worth(made, value, schema) for value in accepted), default=0.0)
    if same_value(made, wanted) or _same_meaning(made, wanted, schema):
        return 1.0
    if not isinstance(made, str) or not isinstance(wanted, str):
        return 0.0
    shorter, longer = sorted((normalise(made), normalise(wanted)), key=len)
    return _NEAR if shorter and shorter in longer and len(shorter) >= _NEAR * len(longer) else 0.0


def _same_meaning(made: Json, wanted: Json, schema: Json) -> bool:
    """Whether the schema makes two different writings one: the order of a set, the format of a date."""
    if not isinstance(schema, Mapping):
        return False
    if isinstance(made, list) and isinstance(wanted, list):
        return schema.get("uniqueItems") is True and _same_set(made, wanted)
    if isinstance(made, str) and isinstance(wanted, str):
        return schema.get("format") == "date" and same_date(normalise(made), normalise(wanted))
    return False


def _same_set(made: Sequence[Json], wanted: Sequence[Json]) -> bool:
    left = list(wanted)
    for value in made:
        place = next((index for index, other in enumerate(left) if same_value(value, other)), None)
        if place is None:
            return False
        del left[place]
    return not left


class Esm:
    """The corrected score as a reward.

    Calls and reference calls are matched for the largest sum of scores; calls and reference calls without a partner
    are worth 0, and the sum is divided by the larger of the two numbers. Each call's share is earned on its turn.
    `Score.parts` holds `name`, `required`, `key`, `type` and `value`, the terms divided in the same way, and under
    `class/NAME` the share of calls of each class.
    Unscored: failures of the infrastructure, and tasks whose reference is not known.
    """

    def __init__(self, weights: Mapping[str, float] | None = None) -> None:
        """Choose the weights.

        Args:
            weights: of the terms, where they differ from WEIGHTS.

        Raises:
            ValueError: an unknown term, a negative weight, or nothing but zeros.
        """
        unknown = sorted(set(weights or {}) - set(WEIGHTS))
        if unknown:
            raise ValueError(f"weights {unknown}: expected terms of {', '.join(WEIGHTS)}")
        self.weights: Mapping[str, float] = {**WEIGHTS, **(weights or {})}
        if min(self.weights.values()) < 0 or not sum(self.weights.values()) > 0:
            raise ValueError(f"weights {dict(self.weights)}: expected positive numbers or zeros, and not only zeros")

    def __call__(self, trajectory: Trajectory) -> Score:
        """Score one trajectory."""
        reason = why_unscored(trajectory, needs_reference=True)
        if reason:
            return unscored(trajectory, reason)
        matched, num = self._matched(trajectory)
        if not num:
            return Score(per_turn=per_turn(trajectory, [(0, 1.0)]), errors=judge(trajectory).errors)
        values = [(made.turn, terms.total(self.weights) / num) for made, terms in matched if made is not None]
        parts = {name: sum(_term(terms, name) for _, terms in matched) / num for name in WEIGHTS}
        for _, terms in matched:
            name = f"class/{terms.error}"
            parts[name] = parts.get(name, 0.0) + 1 / num
        return Score(per_turn=per_turn(trajectory, values), errors=judge(trajectory).errors, parts=parts)

    def reply(self, trajectory: Trajectory, verdict: Verdict) -> Reply:
        """Score one recorded reply."""
        if trajectory.task.reference is None:
            return Reply(value=None, unscored=UNKNOWN_REFERENCE)
        if is_right(trajectory, verdict):
            return Reply(value=1.0)
        matched, num = self._matched(trajectory)
        return Reply(value=sum(terms.total(self.weights) for _, terms in matched) / num if num else 1.0)

    def _matched(self, trajectory: Trajectory) -> tuple[list[tuple[Made | None, EsmTerms]], int]:
        """Each call or reference call with its terms, those of a pair together; and max(calls made, reference calls).

        A call without a partner is too many: its class is the one it would have with another tool's reference.
        """
        reference = trajectory.task.reference or ()
        made = made_calls(trajectory)
        num = max(len(made), len(reference))
        offered: dict[int, Mapping[str, ToolSpec]] = {}
        tools: list[ToolSpec | None] = []
        for one in made:
            if one.turn not in offered:
                offered[one.turn] = by_name(trajectory.offered_tools(one.turn))
            tools.append(None if one.made is None else offered[one.turn].get(one.made.name))
        terms = [
            [esm_terms(one.made, wanted, tool) for wanted in reference] for one, tool in zip(made, tools, strict=True)
        ]
        partners = best_pairs([[cell.total(self.weights) for cell in row] for row in terms], len(reference))
        found: list[tuple[Made | None, EsmTerms]] = []
        for row, (one, partner) in enumerate(zip(made, partners, strict=True)):
            found.append(
                (one, terms[row][partner] if partner is not None else EsmTerms(error=_unpaired(one, tools[row])))
            )
        num_missing = num - len(made)
        return found + [(None, EsmTerms(error=EsmClass.NO_CALL))] * num_missing, num


def _unpaired(one: Made, tool: ToolSpec | None) -> EsmClass:
    if one.made is None:
        return EsmClass.NO_CALL
    return EsmClass.NONEXISTENT_TOOL if tool is None else EsmClass.WRONG_TOOL


def _term(terms: EsmTerms, name: str) -> float:
    match name:
        case "name":
            return terms.name
        case "required":
            return terms.required
        case "key":
            return terms.key
        case "type":
            return terms.type
    return terms.value
