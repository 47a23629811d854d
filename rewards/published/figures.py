"""What several published metrics count alike."""

from __future__ import annotations

from collections.abc import Sequence

from envs.actions import ACTION_NAMES
from envs.types import Call, MalformedCall, ToolCall, ToolResult
from rollout.trajectory import Trajectory


def first_call(trajectory: Trajectory) -> ToolCall | None:
    """The first call that was made; None if it cannot be parsed or there is none."""
    for turn in trajectory.turns:
        for call in turn.message.calls:
            return None if isinstance(call, MalformedCall) else call
    return None


def made_calls(trajectory: Trajectory) -> list[tuple[Call, ToolResult | None]]:
    """Every call with its result, without tether's actions. A tool of the task that bears their name is a tool."""
    tools = {tool.name for tool in trajectory.task.tools}
    return [
        (call, turn.results[position] if position < len(turn.results) else None)
        for turn in trajectory.turns
        for position, call in enumerate(turn.message.calls)
        if isinstance(call, MalformedCall) or call.name in tools or call.name not in ACTION_NAMES
    ]


def said(trajectory: Trajectory) -> str:
    """What the policy said: the text of its messages, or the answer with which it finished if there is none."""
    texts = [turn.message.content for turn in trajectory.turns if turn.message.content]
    return "\n".join(texts) or trajectory.outcome.answer or ""


def mean(values: Sequence[float | None]) -> float | None:
    """Mean of the values that there are; None if there is none."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def f1(precision: float, recall: float) -> float:
    """Harmonic mean; 0 if both are 0."""
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0
