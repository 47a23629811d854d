"""What several published metrics count alike."""

from __future__ import annotations

from collections.abc import Sequence

from envs.types import MalformedCall, ToolCall
from rollout.trajectory import Trajectory


def first_call(trajectory: Trajectory) -> ToolCall | None:
    """The first call that was made; None if it cannot be parsed or there is none."""
    for turn in trajectory.turns:
        for call in turn.message.calls:
            return None if isinstance(call, MalformedCall) else call
    return None


def mean(values: Sequence[float | None]) -> float | None:
    """Mean of the values that there are; None if there is none."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def f1(precision: float, recall: float) -> float:
    """Harmonic mean; 0 if both are 0."""
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0
