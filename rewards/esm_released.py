"""TTPA's error-oriented score of a call exactly as its code computes it, faults included.

Source: TTPA (arXiv 2505.20016), the scoring script of the authors' release; for the corrected score see `rewards.esm`.
"""

from __future__ import annotations

from collections.abc import Mapping

from envs.types import Json, ToolCall, ToolSpec
from rewards.classify import Verdict, by_name, judge
from rewards.matching import alternatives, may_be_omitted
from rewards.replies import UNKNOWN_REFERENCE, Reply, made_calls, per_turn, unscored, why_unscored
from rewards.types import Score
from rollout.trajectory import Trajectory

_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "array": list,
    "object": dict,
    "null": type(None),
}
"""As the release maps them: in Python a boolean is an integer."""


def released_score(made: ToolCall | None, reference: ToolCall, tool: ToolSpec | None) -> float:
    """The score of one call, 0 to 1: (3 name + 3 required + 1 key + 2 type + 2 value) / 11.

    The release knows neither alternatives nor arguments that may be left out: of an {"any_of": ...} the value that
    scores best counts, and what may be left out and is was never asked for. Where the release raises, here is:

    - a tool that is not offered: 0;
    - a schema without `required`: nothing is required;
    - a parameter without `type`, or of a type that the release does not know: every value fits.

    Args:
        made: the call; None if there is none, or none that could be parsed.
        reference: the right call.
        tool: what `made.name` names; None if that is not offered.
    """
    if made is None:
        return 0.0
    given = made.arguments
    wanted = {name: value for name, value in reference.arguments.items() if name in given or not may_be_omitted(value)}
    if not given:
        return 1.0 if not wanted and made.name == reference.name else 0.0
    if tool is None:
        return 0.0
    num = len(wanted) if len(given) < len(wanted) else len(given)
    properties, needed = tool.properties, tool.required
    name = 1 if made.name == reference.name else 0
    required = sum([r in wanted for r in needed]) / len(needed) if needed else 1
    known = [key for key in given if key in properties]
    key = len(known) / num
    type_ = sum([_has_type(given[k], properties[k]) for k in known]) / num
    value = sum([_value(given[k], wanted[k]) for k in given if k in wanted]) / num
    return (3 * name + 3 * required + 1 * key + 2 * type_ + 2 * value) / 11


def _has_type(value: Json, schema: Json) -> bool:
    declared = schema.get("type") if isinstance(schema, (dict, Mapping)) else None
    if not isinstance(declared, str) or declared not in _TYPES:
        return True
    return isinstance(value, _TYPES[declared])


def _value(made: Json, wanted: Json) -> float:
    accepted = alternatives(wanted)
    if accepted is not None:
        return max((_value(made, value) for value in accepted), default=0.0)
    if made == wanted:
        return 1.0
    if not isinstance(made, str) or not isinstance(wanted, str):
        return 0.0
    return 0.5 * (made.lower() == wanted.lower()) + 0.5 * (made in wanted or wanted in made)


class EsmReleased:
    """The released score as a reward.

    The release compares one call with one. Here the n-th call made is compared with the n-th reference call, calls too
    many and reference calls that were not reached are worth 0, and the sum is divided by the larger of the two numbers.
    Unscored: failures of the infrastructure, and tasks whose reference is not known.
    """

    def __call__(self, trajectory: Trajectory) -> Score:
        """Score one trajectory."""
        reason = why_unscored(trajectory, needs_reference=True)
        if reason:
            return unscored(trajectory, reason)
        scores, num = _scores(trajectory)
        values = [(turn, score / num) for turn, score in scores] if num else [(0, 1.0)]
        return Score(
            per_turn=per_turn(trajectory, values),
            errors=judge(trajectory).errors,
            parts={"esm": sum(value for _, value in values)},
        )

    def reply(self, trajectory: Trajectory, verdict: Verdict) -> Reply:
        """Score one recorded reply."""
        if trajectory.task.reference is None:
            return Reply(value=None, unscored=UNKNOWN_REFERENCE)
        scores, num = _scores(trajectory)
        return Reply(value=sum([score for _, score in scores]) / num if num else 1.0)


def _scores(trajectory: Trajectory) -> tuple[list[tuple[int, float]], int]:
    """(turn, score) of each call that has a reference call, and max(calls made, reference calls)."""
    reference = trajectory.task.reference or ()
    made = made_calls(trajectory)
    offered: dict[int, Mapping[str, ToolSpec]] = {}
    scores: list[tuple[int, float]] = []
    for one, wanted in zip(made, reference, strict=False):
        if one.turn not in offered:
            offered[one.turn] = by_name(trajectory.offered_tools(one.turn))
        tool = None if one.made is None else offered[one.turn].get(one.made.name)
        scores.append((one.turn, released_score(one.made, wanted, tool)))
    return scores, max(len(made), len(reference))
