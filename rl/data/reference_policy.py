"""The policy that does what the reference of a task says: TTPA asks for candidates behind such a history."""

from __future__ import annotations

from collections.abc import Sequence

from envs.actions import DEFERRALS, FINISH
from envs.types import Message, Step, Task, ToolCall, ToolSpec, ToolStatus
from rewards.gold import gold_calls, in_full
from rollout.renderer import numbered

_UNANSWERED = frozenset({ToolStatus.FAILED, ToolStatus.TIMED_OUT})


class ReferencePolicy:
    """Makes the reference calls of one task, those that need not wait for each other in one message, and finishes.

    Of several accepted values the first one is given. A call that got no answer is made again.
    """

    def __init__(self, task: Task) -> None:
        """Plan the episode.

        Raises:
            ValueError: the reference of the task is unknown.
        """
        self._answer = task.answer or ""
        self._plan: list[list[ToolCall]] = []
        for call in gold_calls(task):
            alone = task.ordered or call.name in DEFERRALS or not self._plan or self._plan[-1][0].name in DEFERRALS
            if alone:
                self._plan.append([])
            self._plan[-1].append(in_full(call, task))
        self._num_calls = 0
        self._last: list[ToolCall] = []

    def reply(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec], last_step: Step | None
    ) -> tuple[Message, bool]:
        """The next assistant message; none is an error."""
        results = last_step.results if last_step else ()
        again = [call for call, result in zip(self._last, results, strict=False) if result.status in _UNANSWERED]
        calls = again or (self._plan.pop(0) if self._plan else [_finish(self._answer)])
        offered = {tool.name for tool in tools}
        if any(call.name not in offered for call in calls):  # change_tools brought nothing that serves.
            self._plan, calls = [], [_finish(self._answer)]
        self._last = calls
        message = numbered(Message(role="assistant", calls=tuple(calls)), self._num_calls)
        self._num_calls += len(calls)
        return message, False


def _finish(answer: str) -> ToolCall:
    return ToolCall(name=FINISH, arguments={"answer": answer})
