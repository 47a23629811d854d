"""The environment of benchmark tasks that are scored by what the policy says first."""

from __future__ import annotations

from envs.actions import ACTIONS
from envs.schema import check
from envs.types import Call, MalformedCall, Message, Outcome, Step, Task, ToolResult, ToolStatus


class SingleTurnEnv:
    """Records the calls of one assistant message and ends the episode. Nothing is run.

    The status of a call says whether it names an offered tool and fits its schema; an action counts as offered.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self._tools = {tool.name: tool for tool in (*ACTIONS, *task.tools)}
        self._answer: str | None = None

    async def open(self) -> tuple[Message, ...]:
        """The task's prompt."""
        return self._task.prompt

    async def step(self, message: Message) -> Step:
        """Take the calls down; the episode is over."""
        self._answer = message.content
        return Step(messages=(), results=tuple(map(self.result, message.calls)), done=True)

    async def close(self) -> Outcome:
        """Finished, as nothing more was asked for; the answer is the text beside the calls."""
        return Outcome(finished=self._answer is not None, answer=self._answer or None)

    def result(self, call: Call) -> ToolResult:
        """What the environment can say of a call that it does not run."""
        return ToolResult(call_id=call.call_id, status=self._status(call), content="")

    def _status(self, call: Call) -> ToolStatus:
        if isinstance(call, MalformedCall):
            return ToolStatus.MALFORMED
        tool = self._tools.get(call.name)
        if tool is None:
            return ToolStatus.UNKNOWN_TOOL
        return ToolStatus.INVALID_ARGUMENTS if check(call.arguments, tool.parameters) else ToolStatus.OK
