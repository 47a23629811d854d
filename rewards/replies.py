"""What the scoring schemes share: the calls that were made, and the worth of one recorded reply."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from envs.actions import FINISH
from envs.record import record
from envs.types import ToolCall
from rewards.classify import Verdict
from rewards.types import CallError, Score
from rollout.trajectory import Trajectory

UNKNOWN_REFERENCE = "the reference is unknown"


@record
class Reply:
    """What one recorded reply was worth."""

    value: float | None
    """None: it cannot be said."""
    unscored: str = ""
    """Why there is no value."""


class Scheme(Protocol):
    """A way to score calls: a reward for episodes, and a value for one recorded reply."""

    def __call__(self, trajectory: Trajectory) -> Score:
        """Score one episode; per_turn is as long as its turns."""
        ...

    def reply(self, trajectory: Trajectory, verdict: Verdict) -> Reply:
        """Score the calls of one recorded reply: their mean over max(calls made, reference calls).

        Args:
            trajectory: one turn.
            verdict: what `rewards.classify.judge` says of it.
        """
        ...


class Made(NamedTuple):
    """One call of the policy and where it stands."""

    turn: int
    call: int
    made: ToolCall | None
    """None: it could not be parsed."""


def made_calls(trajectory: Trajectory, *, finish: bool = False) -> list[Made]:
    """Every call in order.

    Args:
        trajectory: the episode.
        finish: whether `finish` counts too; it always does where the reference holds it.
    """
    counted = finish or FINISH in [call.name for call in trajectory.task.reference or ()]
    return [
        Made(index, position, call if isinstance(call, ToolCall) else None)
        for index, turn in enumerate(trajectory.turns)
        for position, call in enumerate(turn.message.calls)
        if counted or not isinstance(call, ToolCall) or call.name != FINISH
    ]


def is_right(trajectory: Trajectory, verdict: Verdict) -> bool:
    """Whether a recorded reply is its reference, call for call, with nothing to say against it."""
    return (
        trajectory.task.reference is not None
        and not verdict.errors
        and not verdict.open
        and len(verdict.matches) == len(trajectory.turns[0].message.calls)
    )


def per_turn(trajectory: Trajectory, values: Sequence[tuple[int, float]]) -> np.ndarray:
    """(turn, value) of each call -> float32 [K], the sum of each turn."""
    sums = [0.0] * len(trajectory.turns)
    for turn, value in values:
        sums[turn] += value
    return np.asarray(sums, dtype=np.float32)


def unscored(trajectory: Trajectory, reason: str, errors: tuple[CallError, ...] = ()) -> Score:
    """No score, and why."""
    return Score(per_turn=np.zeros(len(trajectory.turns), dtype=np.float32), errors=errors, unscored=reason)


def why_unscored(trajectory: Trajectory, *, needs_reference: bool) -> str:
    """The reason for which no scheme can score an episode; "" if there is none."""
    if trajectory.ending.is_failure:
        return f"infrastructure: {trajectory.ending}"
    if needs_reference and trajectory.task.reference is None:
        return UNKNOWN_REFERENCE
    return "" if trajectory.turns else "no turn"
