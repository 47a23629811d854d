"""Relign's hallucination detector: the label of each call, and the reward made of the labels.

Source: Relign (arXiv 2412.04141), section 3 and the detector of its release. Its rules are tried in order and the first
one that fires gives the label; two of them take an LLM judge there and rules here: whether a tool can serve the request
(known for tasks with unmatched tools), and whether values are supported (`rewards.grounding`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from envs.actions import ACTION_NAMES, FINISH
from envs.types import TaskKind, ToolCall
from rewards.classify import RELIGN_CLASSES, Verdict, judge
from rewards.grounding import context_before, ungrounded_places
from rewards.replies import Made, Reply, made_calls, per_turn, unscored, why_unscored
from rewards.types import CallError, ErrorKind, Score
from rollout.trajectory import Trajectory

LABELS: Mapping[ErrorKind, str] = {
    ErrorKind.UNKNOWN_TOOL: "tool_name_hallucination",
    ErrorKind.IRRELEVANT_TOOL: "tool_relevance_hallucination",
    ErrorKind.DUPLICATE_CALL: "tool_duplicated_hallucination",
    ErrorKind.MALFORMED: "parameter_json_format_hallucination",
    ErrorKind.MISSING_ARGUMENT: "parameter_required_missing",
    ErrorKind.UNKNOWN_ARGUMENT: "parameter_name_hallucination",
    ErrorKind.BAD_TYPE: "parameter_value_type_error",
    ErrorKind.BAD_ENUM: "parameter_value_type_error",
    ErrorKind.BAD_FORMAT: "parameter_value_type_error",
    ErrorKind.UNGROUNDED_VALUE: "parameter_value_hallucination",
}
"""The label of each kind of error, in the order of the detector's rules."""

CLEAN = "no_hallucination"
CLEAN_FINISH = "no_hallucination_finish"
"""Of the actions, which the detector does not check."""

CLASS_OF: Mapping[str, str] = {label: RELIGN_CLASSES[kind] for kind, label in LABELS.items()}
"""The class of each label."""
CLASSES = tuple(dict.fromkeys(CLASS_OF.values()))
"""type, timing, format and content, in the detector's order."""

WORTH: Mapping[str, float] = {CLEAN: 1.0, CLEAN_FINISH: 0.5}
"""What a label is worth; hallucinations nothing. The order is that of Relign's preference pairs."""


class Labelled(NamedTuple):
    """One call and what the detector says of it."""

    turn: int
    call: int
    label: str
    group: str | None
    """Which of CLASSES, of a hallucination."""


def labels(trajectory: Trajectory, verdict: Verdict) -> list[Labelled]:
    """The label of every call, actions included, in order.

    An argument that only the reference demands is none that the detector misses: it knows the schema alone. A value
    that the reference gives is supported.

    Args:
        trajectory: the episode.
        verdict: what `rewards.classify.judge` says of it.
    """
    errors: dict[tuple[int, int], list[CallError]] = {}
    for error in verdict.errors:
        if error.call is not None:
            errors.setdefault((error.turn, error.call), []).append(error)
    return [
        _label(trajectory, made, errors.get((made.turn, made.call), [])) for made in made_calls(trajectory, finish=True)
    ]


def _label(trajectory: Trajectory, made: Made, errors: list[CallError]) -> Labelled:
    if made.made is not None and made.made.name in ACTION_NAMES:
        return Labelled(made.turn, made.call, CLEAN_FINISH, None)
    kinds = {error.kind for error in errors if not _is_only_asked_for(trajectory, made, error)}
    kind = next((kind for kind in LABELS if kind in kinds), None)
    if kind is None and made.made is not None and _is_unsupported(trajectory, made.turn, made.made, kinds):
        kind = ErrorKind.UNGROUNDED_VALUE
    if kind is None:
        return Labelled(made.turn, made.call, CLEAN, None)
    return Labelled(made.turn, made.call, LABELS[kind], CLASS_OF[LABELS[kind]])


def _is_only_asked_for(trajectory: Trajectory, made: Made, error: CallError) -> bool:
    """Whether a missing argument is one that the schema leaves free."""
    if error.kind != ErrorKind.MISSING_ARGUMENT or made.made is None or error.argument is None:
        return False
    name = error.argument[1:].replace("~1", "/").replace("~0", "~")
    tool = next((tool for tool in trajectory.offered_tools(made.turn) if tool.name == made.made.name), None)
    return tool is not None and name in tool.properties and name not in tool.required


def _is_unsupported(trajectory: Trajectory, turn: int, call: ToolCall, kinds: set[ErrorKind]) -> bool:
    """The rule on values for a wrong tool, whose values the judge leaves alone once the reference is known."""
    if not kinds & {ErrorKind.WRONG_TOOL, ErrorKind.EXTRA_CALL}:
        return False
    tool = next((tool for tool in trajectory.offered_tools(turn) if tool.name == call.name), None)
    if tool is None:
        return False
    read = context_before(trajectory, turn)
    defaults = trajectory.task.kind != TaskKind.MISSING_ARGUMENT
    return any(
        ungrounded_places(name, call.arguments[name], tool.properties.get(name), read, defaults=defaults)
        for name in tool.required
        if name in call.arguments
    )


class RelignReward:
    """A clean call 1, finish or a deferral 0.5, a hallucinated call 0: their mean over the episode.

    The mean is over max(calls made, reference calls), `finish` being one of both where it is offered; so each clean
    call more is worth less than the one before, and stopping without `finish` is worth less than saying it. Needs no
    reference: without one, the calls made are all there is.
    Unscored: failures of the infrastructure.
    """

    def __call__(self, trajectory: Trajectory) -> Score:
        """Score one trajectory."""
        reason = why_unscored(trajectory, needs_reference=False)
        if reason:
            return unscored(trajectory, reason)
        verdict = judge(trajectory)
        found = labels(trajectory, verdict)
        last = len(trajectory.turns) - 1
        offers_finish = any(tool.name == FINISH for tool in trajectory.offered_tools(last))
        unsaid = offers_finish and not trajectory.outcome.finished
        num = max(len(found) + unsaid, len(trajectory.task.reference or ()) + offers_finish)
        worth = [(one.turn, WORTH.get(one.label, 0.0) / num) for one in found]
        parts: dict[str, float] = {}
        for one, (_, value) in zip(found, worth, strict=True):
            parts[one.label] = parts.get(one.label, 0.0) + value
        return Score(per_turn=per_turn(trajectory, worth), errors=verdict.errors, parts=parts)

    def reply(self, trajectory: Trajectory, verdict: Verdict) -> Reply:
        """Score one recorded reply: where no call is right and none was made, that is worth a clean call."""
        reference = trajectory.task.reference
        num = max(len(trajectory.turns[0].message.calls), len(reference or ()))
        if not num:
            return Reply(value=None, unscored="no call") if reference is None else Reply(value=WORTH[CLEAN])
        if not verdict.errors and len(verdict.matches) == num == verdict.num_calls:
            return Reply(value=WORTH[CLEAN])
        return Reply(value=sum(WORTH.get(one.label, 0.0) for one in labels(trajectory, verdict)) / num)
