"""Relign's verdict on one task: passed, reliably passed, and what that was worth against the calls it took.

Source: Relign (arXiv 2412.04141), metrics of its release, with their constants. The release asks LLM judges twice; what
stands here in their place is said at `Status` and `uses_result`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum

from envs.actions import DEFERRALS, FINISH
from envs.record import record
from envs.types import Json, TaskKind, ToolCall, ToolStatus
from rewards.classify import Verdict
from rewards.matching import normalise
from rewards.relign import CLEAN, CLEAN_FINISH, LABELS, Labelled, labels
from rewards.types import ErrorKind
from rollout.trajectory import Trajectory

PASSED, UNSURE, FAILED = 1.0, 0.5, 0.0

SOLVED_WORTH, UNSURE_WORTH, HALLUCINATED_WORTH = 20.0, 10.0, -10.0
MAX_CALLS = 10
"""Calls beyond this many cost nothing more."""

WITHOUT_JUDGE = (
    "no LLM judge: solved is what the reference or the environment says; an answer is made of a hallucinated call's "
    "result if it holds a value of it"
)

_TAINTING = frozenset({LABELS[ErrorKind.IRRELEVANT_TOOL], LABELS[ErrorKind.UNGROUNDED_VALUE]})
"""Labels of calls that may have got a result of which the answer must not be made."""
_NO_CONTENT = frozenset({"", "ok", "true", "false", "none", "null", "success", "done"})


class Status(StrEnum):
    """Whether the final answer solves the task.

    The release asks a judge. Here the reference or, without one, the environment says so: a task is solved if its calls
    were made and it was finished. What was not solved is unsolved if the task could be solved as it stood, if it was
    given up (a deferral, or no answer), or if it was not ended by `finish`. An answer to a task that could not be
    solved as it stood, or whose solution nobody knows, is unsure: it may be an honest no.
    """

    SOLVED = "solved"
    UNSOLVED = "unsolved"
    UNSURE = "unsure"


@record
class Reliability:
    """What Relign's metrics say of one task."""

    status: Status
    answer_hallucinated: bool
    """The answer is solved or unsure, and comes from no clean call."""
    passed: float
    """1 passed, 0.5 unsure, 0 failed."""
    reliable: float
    """The same, and failed if the answer is hallucinated."""
    num_calls: int
    """Calls made, without the actions."""
    cost: int
    """Calls that count: all but the first where the task can be solved as it stands, at most ten."""

    @property
    def utility(self) -> float:
        """Benefit minus cost, -20 to 20."""
        return benefit(self) - self.cost


def benefit(found: Reliability) -> float:
    """-10 for a hallucinated answer, else 20 for a reliable pass, 10 for an unsure one, 0 for a failure."""
    if found.answer_hallucinated:
        return HALLUCINATED_WORTH
    return {PASSED: SOLVED_WORTH, UNSURE: UNSURE_WORTH, FAILED: 0.0}[found.reliable]


def cost_of(num_calls: int, *, solvable: bool) -> int:
    """What calls cost: one each, ten at most; the first is free where the task can be solved as it stands."""
    return max(min(MAX_CALLS, num_calls) - 1, 0) if solvable else min(num_calls, MAX_CALLS)


def is_solvable(trajectory: Trajectory, verdict: Verdict) -> bool:
    """Whether the task could be solved as it stood: no deferral was due, and some call was right."""
    if verdict.deferral_due or trajectory.task.kind in (TaskKind.MISSING_ARGUMENT, TaskKind.UNMATCHED_TOOLS):
        return False
    return trajectory.task.reference is None or bool(trajectory.task.reference)


def reliability(trajectory: Trajectory, verdict: Verdict, found: Sequence[Labelled]) -> Reliability:
    """The verdict on one episode.

    Args:
        trajectory: it did not fail for reasons of the infrastructure.
        verdict: what `rewards.classify.judge` says of it.
        found: what `rewards.relign.labels` says of it.
    """
    success = trajectory.outcome.facts.get("success") if verdict.success is None else verdict.success
    return _reliability(
        trajectory,
        verdict,
        lambda: found,
        solved=None if success is None else bool(success),
        finished=trajectory.outcome.finished,
        answer=_answer(trajectory),
    )


def reply_reliability(trajectory: Trajectory, verdict: Verdict) -> Reliability:
    """The verdict on one recorded reply: solved if its calls are right; ended if they are, or by an action."""
    calls = trajectory.turns[0].message.calls
    last = calls[-1] if calls else None
    ended = isinstance(last, ToolCall) and (last.name == FINISH or last.name in DEFERRALS)
    solved = None if trajectory.task.reference is None else not verdict.open
    return _reliability(
        trajectory,
        verdict,
        lambda: labels(trajectory, verdict),
        solved=solved,
        finished=bool(solved) or ended,
        answer=_answer(trajectory),
    )


def _reliability(
    trajectory: Trajectory,
    verdict: Verdict,
    found: Callable[[], Sequence[Labelled]],
    *,
    solved: bool | None,
    finished: bool,
    answer: str,
) -> Reliability:
    solvable = is_solvable(trajectory, verdict)
    status = _status(solved=solved, solvable=solvable, gave_up=_gave_up(trajectory) or not answer)
    if not finished:
        status = Status.UNSOLVED
    hallucinated = status is not Status.UNSOLVED and _is_made_up(trajectory, found(), answer, solved=solved)
    passed = _passed(status, solvable=solvable) if finished else FAILED
    num_calls = verdict.num_calls
    return Reliability(
        status=status,
        answer_hallucinated=hallucinated,
        passed=passed,
        reliable=FAILED if hallucinated else passed,
        num_calls=num_calls,
        cost=cost_of(num_calls, solvable=solvable),
    )


def _status(*, solved: bool | None, solvable: bool, gave_up: bool) -> Status:
    if solved:
        return Status.SOLVED
    if gave_up or (solvable and solved is not None):
        return Status.UNSOLVED
    return Status.UNSURE


def _passed(status: Status, *, solvable: bool) -> float:
    if status is Status.SOLVED:
        return PASSED
    if status is Status.UNSOLVED:
        return FAILED if solvable else PASSED
    return UNSURE if solvable else PASSED


def _gave_up(trajectory: Trajectory) -> bool:
    """Whether the last move but `finish` was a deferral."""
    for turn in reversed(trajectory.turns):
        for call in reversed(turn.message.calls):
            if not isinstance(call, ToolCall) or call.name != FINISH:
                return isinstance(call, ToolCall) and call.name in DEFERRALS
    return False


def _answer(trajectory: Trajectory) -> str:
    """What `finish` said, else what the outcome says, else the last text that came without a call."""
    for turn in reversed(trajectory.turns):
        for call in reversed(turn.message.calls):
            if isinstance(call, ToolCall) and call.name == FINISH:
                said = call.arguments.get("answer")
                return said.strip() if isinstance(said, str) else ""
    if trajectory.outcome.answer is not None:
        return trajectory.outcome.answer.strip()
    last = trajectory.turns[-1].message if trajectory.turns else None
    return last.content.strip() if last is not None and not last.calls else ""


def _is_made_up(trajectory: Trajectory, found: Sequence[Labelled], answer: str, *, solved: bool | None) -> bool:
    calls = [one for one in found if one.label != CLEAN_FINISH]
    if solved and not calls:
        return False  # Right deferrals alone, or rightly nothing.
    if not any(one.label == CLEAN for one in calls):
        return True
    return any(one.label in _TAINTING and uses_result(trajectory, one.turn, one.call, answer) for one in calls)


def uses_result(trajectory: Trajectory, turn: int, call: int, answer: str) -> bool:
    """Whether an answer holds a value of the result of a call, which the request does not hold.

    In place of the release's judge of answer relevance. Results of refused and failed calls give nothing.
    """
    results = trajectory.turns[turn].results
    if call >= len(results) or results[call].status != ToolStatus.OK:
        return False
    told = _spaced(" ".join(message.content for message in trajectory.task.prompt))
    said = _spaced(answer)
    return any(f" {text} " in said and f" {text} " not in told for text in _leaves(results[call].content))


def _leaves(content: str) -> Iterator[str]:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        value = content
    for leaf in _scalars(value):
        text = _spaced(str(leaf)).strip()
        if text not in _NO_CONTENT:
            yield text


def _scalars(value: Json) -> Iterator[Json]:
    """Every value that holds no others. Not recursive: results may be nested deeply."""
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, dict):
            left.extend(one.values())
        elif isinstance(one, list):
            left.extend(one)
        elif one is not None:
            yield one


def _spaced(text: str) -> str:
    words = (word.strip(".,;:!?()[]{}\"'") for word in normalise(text).split())
    return f" {' '.join(word for word in words if word)} "
