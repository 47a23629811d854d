"""What the reference asks for at one turn: the calls that are due there, and what a reply earns.

The judge looks at whole episodes; preference pairs compare replies to one context.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from envs.actions import CHANGE_TOOLS, DEFERRALS, FINISH, TALK_TO_USER
from envs.types import Json, TaskKind, ToolCall, ToolSpec, ToolStatus
from rewards.classify import judge
from rewards.esm import WEIGHTS, EsmClass, EsmTerms, esm_terms
from rewards.esm_released import released_score
from rewards.gold import in_full
from rewards.grounding import context_before, ungrounded_places, ungrounded_words
from rewards.matching import alternatives, best_pairs
from rewards.types import CallError
from rollout.trajectory import Ending, Trajectory

_UNANSWERED = frozenset({ToolStatus.FAILED, ToolStatus.TIMED_OUT})


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """What is to be done at one turn."""

    calls: tuple[ToolCall, ...]
    """Reference calls that may be made now, in the order of the reference; none is a deferral."""
    deferral: ToolCall | None
    """The deferral of the reference that is still to be made, and behind which nothing may be."""
    ordered: bool
    """Whether the calls have to be made in this order."""

    @property
    def targets(self) -> tuple[ToolCall, ...]:
        """All that may be called now. Empty: nothing, and the episode is to be finished."""
        return self.calls if self.deferral is None else (*self.calls, self.deferral)


def before(trajectory: Trajectory, turn: int) -> Trajectory:
    """The episode as it stood when turn `turn` was to be written."""
    end = trajectory.turns[turn - 1].end if turn else 0
    return replace(
        trajectory,
        turns=trajectory.turns[:turn],
        token_ids=trajectory.token_ids[:end],
        action_mask=trajectory.action_mask[:end],
        logprobs=trajectory.logprobs[:end],
        ending=Ending.MAX_TURNS,
        error="",
    )


def due(trajectory: Trajectory, turn: int) -> Due | None:
    """What the reference asks for at turn `turn` of an episode.

    Returns:
        None where it cannot be said: the reference is unknown, or a call of the turn before got no answer, so that it
        may be made again.
    """
    task = trajectory.task
    if task.reference is None:
        return None
    if turn and any(result.status in _UNANSWERED for result in trajectory.turns[turn - 1].results):
        return None
    still_open = judge(before(trajectory, turn)).open
    gate = next((j for j in still_open if task.reference[j].name in DEFERRALS), None)
    return Due(
        calls=tuple(task.reference[j] for j in still_open if gate is None or j < gate),
        deferral=None if gate is None else task.reference[gate],
        ordered=task.ordered,
    )


def due_calls(trajectory: Trajectory, turn: int, wanted: Due) -> tuple[ToolCall, ...] | str:
    """The calls of the one right message at turn `turn`, or why there is none that is certain.

    Calls that need not wait for each other are made in one message. Values have to follow from what was read: a right
    call that the policy could only guess is none to prefer.
    """
    if wanted.deferral is not None:
        return "a call and a deferral are both right" if wanted.calls else _checked(trajectory, turn, [wanted.deferral])
    if not wanted.calls:
        return _finishing(trajectory, turn)
    return _checked(trajectory, turn, wanted.calls[:1] if wanted.ordered else wanted.calls)


def certain(trajectory: Trajectory, turn: int, call: ToolCall) -> ToolCall | str:
    """A reference call as it would be made at turn `turn`, or why that is not certain."""
    tool = offered(trajectory, turn).get(call.name)
    if tool is None:
        return "the right tool is not offered"
    if any(_has_alternatives(value) for value in call.arguments.values()):
        return "several values are right"
    if call.name == TALK_TO_USER:
        missing = call.arguments.get("missing")
        if not isinstance(missing, (list, tuple)) or not missing:
            return "what is missing is not said"
    if call.name in DEFERRALS:
        return in_full(call, trajectory.task)
    read = context_before(trajectory, turn)
    defaults = trajectory.task.kind != TaskKind.MISSING_ARGUMENT
    for name, value in call.arguments.items():
        if ungrounded_places(name, value, tool.properties.get(name), read, defaults=defaults):
            return "a right value does not follow from what was read"
    return call


def offered(trajectory: Trajectory, turn: int) -> Mapping[str, ToolSpec]:
    """The tools of a turn by name, actions included."""
    return {tool.name: tool for tool in trajectory.offered_tools(turn)}


def reply_terms(trajectory: Trajectory, turn: int, wanted: Due, errors: Sequence[CallError]) -> EsmTerms:
    """TTPA's terms (`rewards.esm`) of the message of turn `turn` against what was due there.

    Its calls are matched with what is due, in order where there is an order, and the terms are means over the calls
    made; calls without a partner are worth nothing. The class is that of the worst call. Where nothing is due, `finish`
    is right, and so is, where no call is right at all, to make none.

    Args:
        trajectory: the episode.
        turn: index of the turn.
        wanted: what was due.
        errors: of this turn, by `rewards.classify`.
    """
    message, tools = trajectory.turns[turn].message, offered(trajectory, turn)
    made = [call if isinstance(call, ToolCall) else None for call in message.calls]
    if not wanted.targets:
        return _ending_terms(trajectory, made, errors, tools)
    if not made:
        return EsmTerms(error=EsmClass.NO_CALL)
    table = [
        [esm_terms(call, target, None if call is None else tools.get(call.name)) for target in wanted.targets]
        for call in made
    ]
    if wanted.ordered:
        partners = [_next_in_order(row, index, wanted) for index, row in enumerate(table)]
    else:
        partners = best_pairs([[cell.total() for cell in row] for row in table], len(wanted.targets))
    found = [
        EsmTerms(error=EsmClass.WRONG_TOOL) if partner is None else row[partner]
        for row, partner in zip(table, partners, strict=True)
    ]
    return _mean(found)


def released_reply_score(trajectory: Trajectory, turn: int, right: ToolCall) -> float:
    """The score of TTPA's release for turn `turn`: its first call against the right one, 0 without a call."""
    calls = trajectory.turns[turn].message.calls
    made = calls[0] if calls and isinstance(calls[0], ToolCall) else None
    tool = None if made is None else offered(trajectory, turn).get(made.name)
    return released_score(made, right, tool)


def _next_in_order(row: Sequence[EsmTerms], index: int, wanted: Due) -> int | None:
    """Of the call at `index` its partner: the call whose turn it is, or the deferral if that fits better."""
    choices = [index] if index < len(wanted.calls) else []
    if wanted.deferral is not None:
        choices.append(len(wanted.calls))
    return max(choices, key=lambda choice: row[choice].total(), default=None)


def _ending_terms(
    trajectory: Trajectory,
    made: Sequence[ToolCall | None],
    errors: Sequence[CallError],
    tools: Mapping[str, ToolSpec],
) -> EsmTerms:
    right = EsmTerms(name=1.0, required=1.0, key=1.0, type=1.0, value=1.0, error=EsmClass.RIGHT)
    none_is_right = not trajectory.task.reference
    if not made:
        return right if none_is_right else EsmTerms(error=EsmClass.NO_CALL)
    (first, *more), task = made, trajectory.task
    if more or first is None:
        return EsmTerms(error=EsmClass.NO_CALL if first is None else EsmClass.WRONG_TOOL)
    if first.name == FINISH and not errors:
        return right
    if first.name == CHANGE_TOOLS and none_is_right and not errors:
        return right
    if first.name not in tools:
        return EsmTerms(error=EsmClass.NONEXISTENT_TOOL)
    if first.name != FINISH:
        return EsmTerms(error=EsmClass.WRONG_TOOL)
    terms = esm_terms(first, ToolCall(name=FINISH, arguments={"answer": task.answer}), tools[FINISH])
    return terms if terms.error is not EsmClass.RIGHT else replace(terms, value=0.0, error=EsmClass.WRONG_VALUE)


def _mean(found: Sequence[EsmTerms]) -> EsmTerms:
    num = len(found)
    return EsmTerms(
        name=sum(terms.name for terms in found) / num,
        required=sum(terms.required for terms in found) / num,
        key=sum(terms.key for terms in found) / num,
        type=sum(terms.type for terms in found) / num,
        value=sum(terms.value for terms in found) / num,
        error=min(found, key=lambda terms: terms.total(WEIGHTS)).error,
    )


def _checked(trajectory: Trajectory, turn: int, calls: Sequence[ToolCall]) -> tuple[ToolCall, ...] | str:
    found: list[ToolCall] = []
    for call in calls:
        one = certain(trajectory, turn, call)
        if isinstance(one, str):
            return one
        found.append(one)
    return tuple(found)


def _finishing(trajectory: Trajectory, turn: int) -> tuple[ToolCall, ...] | str:
    answer = trajectory.task.answer
    if not trajectory.task.reference:
        return "no call is right"
    if FINISH not in offered(trajectory, turn):
        return "finish is not offered"
    if answer is None:
        return "the right answer is unknown"
    if ungrounded_words(answer, context_before(trajectory, turn)):
        return "a right value does not follow from what was read"
    return (ToolCall(name=FINISH, arguments={"answer": answer}),)


def _has_alternatives(value: Json) -> bool:
    if alternatives(value) is not None:
        return True
    if isinstance(value, Mapping):
        return any(map(_has_alternatives, value.values()))
    return isinstance(value, (list, tuple)) and any(map(_has_alternatives, value))
