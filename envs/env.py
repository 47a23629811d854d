"""The environment protocol, and the environment that dispatches calls to tools."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Protocol

from envs.actions import ACTION_NAMES, CHANGE_TOOLS, FINISH, TALK_TO_USER, offered_actions
from envs.schema import check
from envs.types import (
    Call,
    Json,
    MalformedCall,
    Message,
    Outcome,
    Step,
    Task,
    ToolCall,
    ToolResult,
    ToolSpec,
    ToolStatus,
)

_SURROGATE = re.compile("[\ud800-\udfff]")
"""Half of a pair has no UTF-8 and can only be escaped."""
_REFUSED = (ToolStatus.MALFORMED, ToolStatus.UNKNOWN_TOOL, ToolStatus.INVALID_ARGUMENTS)


class Env(Protocol):
    """Made for one task, used once."""

    async def open(self) -> tuple[Message, ...]:
        """The messages before the policy's first turn."""
        ...

    async def step(self, message: Message) -> Step:
        """What happens after one assistant message."""
        ...

    async def close(self) -> Outcome:
        """Release what the episode held and say how it ended. Always called, also after a failure."""
        ...


class ToolRunner(Protocol):
    """Runs one call that names an offered tool and fits its schema."""

    async def run(self, call: ToolCall) -> ToolResult:
        """The result, with status ok, failed or timed_out."""
        ...


class ToolEnv:
    """Dispatches the calls of each assistant message, in order, to a runner; handles the actions itself.

    Three entries of `Task.facts` are read: `user` (values by parameter name: all that the simulated user can answer),
    `new_tools` (function schemas: what change_tools brings, once) and `actions` (names of the actions that are offered,
    else all). Each may be absent.
    """

    def __init__(self, task: Task, runner: ToolRunner, patience: int | None = None) -> None:
        """Start with the tools of the task.

        Args:
            task: what is to be done.
            runner: runs the calls that fit.
            patience: the episode ends, unfinished, with so many refused calls (malformed, of no tool, against the
                schema); None: it goes on. Training wastes no turns on a policy that has lost its way.
        """
        self.task = task
        self._runner = runner
        self._patience = patience
        self._actions = {action.name: action for action in offered_actions(task)}
        self._tools = {tool.name: tool for tool in task.tools}
        self._new_tools: tuple[ToolSpec, ...] | None = None
        self._tools_changed = False
        self._outcome: Outcome | None = None

    async def open(self) -> tuple[Message, ...]:
        """The task's prompt."""
        return self.task.prompt

    async def step(self, message: Message) -> Step:
        """Answer every call; an assistant message without a call ends the episode unfinished."""
        if self._outcome is not None:
            raise RuntimeError(f"task {self.task.task_id}: step after the end of the episode")
        if not message.calls:
            self._outcome = Outcome(finished=False, answer=message.content)
            return Step(messages=(), done=True)
        self._new_tools = None
        results = tuple([await self._answer(call) for call in message.calls])
        self._lose_patience(results)
        if self._outcome is not None:
            return Step(messages=(), results=results, done=True)
        messages = tuple(Message(role="tool", content=result.content, call_id=result.call_id) for result in results)
        return Step(messages=messages, results=results, tools=self._switch_tools())

    async def close(self) -> Outcome:
        """How the episode ended."""
        return self._outcome or Outcome()

    def _lose_patience(self, results: Sequence[ToolResult]) -> None:
        if self._patience is None or self._outcome is not None:
            return
        self._patience -= sum(result.status in _REFUSED for result in results)
        if self._patience <= 0:
            self._outcome = Outcome(finished=False)

    def describe_tools(self, tools: Sequence[ToolSpec]) -> Json:
        """New tools as the policy reads them in the result of change_tools."""
        return [tool.to_json() for tool in tools]

    def _switch_tools(self) -> tuple[ToolSpec, ...] | None:
        """Take up tools that a call brought; only now, as the calls of its message were written for the old ones."""
        if self._new_tools is None:
            return None
        self._tools = {tool.name: tool for tool in self._new_tools}
        return (*self._new_tools, *self._actions.values())

    async def _answer(self, call: Call) -> ToolResult:
        if isinstance(call, MalformedCall):
            return _refusal(call, ToolStatus.MALFORMED, f"malformed call: {call.reason}")
        tool = self._actions.get(call.name) or self._tools.get(call.name)
        if tool is None:
            return _refusal(call, ToolStatus.UNKNOWN_TOOL, f"no tool {call.name}")
        problems = check(call.arguments, tool.parameters)
        if problems:
            return _refusal(call, ToolStatus.INVALID_ARGUMENTS, "; ".join(problem.detail for problem in problems))
        if call.name in ACTION_NAMES:
            return self._act(call)
        return await self._runner.run(call)

    def _act(self, call: ToolCall) -> ToolResult:
        content: Json = {}
        if call.name == TALK_TO_USER:
            content = self._ask(call.arguments["missing"])
        elif call.name == CHANGE_TOOLS:
            content = self._change()
        elif call.name == FINISH:
            self._outcome = Outcome(finished=True, answer=call.arguments["answer"])
        return ToolResult(call_id=call.call_id, status=ToolStatus.OK, content=compact(content))

    def _ask(self, missing: Sequence[str]) -> Json:
        known = self.task.facts.get("user") or {}
        if not missing:
            return "which parameters are missing?"
        return {name: known.get(name, "I do not know") for name in missing}

    def _change(self) -> Json:
        fresh = tuple(ToolSpec.from_json(tool) for tool in self.task.facts.get("new_tools") or ())
        if self._tools_changed or not fresh:
            return {"tools": [], "note": "no other tools"}
        self._tools_changed = True
        self._new_tools = fresh
        return {"tools": self.describe_tools(fresh)}


def compact(value: Json) -> str:
    """JSON without spaces, with the letters of every script as they are: a policy reads it."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return text if text.isascii() or not _SURROGATE.search(text) else json.dumps(value, separators=(",", ":"))


def _refusal(call: Call, status: ToolStatus, error: str) -> ToolResult:
    return ToolResult(call_id=call.call_id, status=status, content=compact({"error": error}))
