"""The reply that benchmarks of one turn judge: the first message of an episode, without tether's own actions."""

from __future__ import annotations

from envs.actions import ACTION_NAMES
from envs.types import MalformedCall, Message, ToolCall
from rollout.trajectory import Trajectory


def first_reply(trajectory: Trajectory) -> Message:
    """The first message of the policy; an empty one if it made none."""
    return trajectory.turns[0].message if trajectory.turns else Message(role="assistant")


def function_calls(trajectory: Trajectory) -> list[ToolCall] | None:
    """The calls of the first reply, without tether's actions; None if one of them could not be read.

    A tool of the task that bears the name of an action is a tool.
    """
    offered = {tool.name for tool in trajectory.task.tools}
    calls: list[ToolCall] = []
    for call in first_reply(trajectory).calls:
        if isinstance(call, MalformedCall):
            return None
        if call.name in offered or call.name not in ACTION_NAMES:
            calls.append(call)
    return calls


def actions(trajectory: Trajectory) -> list[ToolCall]:
    """tether's actions in the first reply."""
    offered = {tool.name for tool in trajectory.task.tools}
    return [
        call
        for call in first_reply(trajectory).calls
        if isinstance(call, ToolCall) and call.name in ACTION_NAMES and call.name not in offered
    ]
