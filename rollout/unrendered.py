"""Trajectories without tokens: recorded outputs that are scored and never trained on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from envs.types import Message, Outcome, Task, ToolResult, ToolSpec
from rollout.trajectory import UNKNOWN_VERSION, Ending, Trajectory, Turn

_NO_IDS = np.zeros(0, dtype=np.int32)
_NO_MASK = np.zeros(0, dtype=bool)
_NO_LOGPROBS = np.zeros(0, dtype=np.float32)
_FINISHED = Outcome(finished=True)


def unrendered(
    task: Task,
    replies: Sequence[tuple[Message, Sequence[ToolResult]]],
    *,
    tools: Sequence[ToolSpec] | None = None,
    heard: Sequence[Sequence[Message]] = (),
    trajectory_id: str = "",
    finished: bool = True,
    answer: str | None = None,
) -> Trajectory:
    """A trajectory of recorded assistant messages and their results, with no tokens and so no token spans.

    Args:
        task: what was to be done.
        replies: each assistant message with the results of its calls, in order.
        tools: what was offered; None: the tools of the task alone, without tether's actions.
        heard: what the user said after each reply; empty: nothing after any.
        trajectory_id: the task's id if empty.
        finished: whether the policy ended the episode itself.
        answer: its final answer, if it gave one.
    """
    return Trajectory(
        trajectory_id=trajectory_id or task.task_id,
        group_id=task.task_id,
        task=task,
        tools=task.tools if tools is None else tuple(tools),
        turns=tuple(
            [
                Turn(message=message, results=tuple(results), start=0, end=0, heard=tuple(words))
                for (message, results), words in zip(replies, heard or [()] * len(replies), strict=True)
            ]
        ),
        token_ids=_NO_IDS,
        action_mask=_NO_MASK,
        logprobs=_NO_LOGPROBS,
        oldest_version=UNKNOWN_VERSION,
        newest_version=UNKNOWN_VERSION,
        ending=Ending.COMPLETED,
        outcome=_FINISHED if finished and answer is None else Outcome(finished=finished, answer=answer),
    )
