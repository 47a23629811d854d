"""Seeded faults around any environment: what tools do in production and simulators do not."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from envs.actions import ACTION_NAMES
from envs.component import Component
from envs.env import Env, compact
from envs.types import Call, Json, Message, Outcome, Step, Task, ToolCall, ToolResult, ToolStatus

_NOISE: Mapping[str, Json] = {
    "trace": "a41f-07c2",
    "cached": False,
    "warning": "deprecated field",
    "debug": "took 12 ms",
    "version": "2.1.0",
}
_IRRELEVANT: tuple[Json, ...] = (
    {"notice": "maintenance on sunday"},
    {"page": "<html><body>welcome</body></html>"},
    {"tip": "try our new plan"},
    {"items": []},
)


class FaultyEnv:
    """Another environment whose tools sometimes fail. The actions never do.

    Only calls of offered tools draw a fault. One that times out or fails does not reach the inner environment. All
    faults follow from the seed and the task's id, and each call draws anew: a retry may succeed. Calls of one message
    need distinct ids.
    """

    def __init__(
        self,
        task: Task,
        *,
        env: Mapping[str, Any] | Callable[[Task], Env],
        seed: int = 0,
        timeouts: float = 0.0,
        failures: float = 0.0,
        noise: float = 0.0,
        irrelevant: float = 0.0,
    ) -> None:
        """Build the inner environment.

        Args:
            task: the task, also the inner environment's.
            env: {"factory", "options"} of the inner environment, or a function that makes it of the task.
            seed: decides the faults.
            timeouts: share of tool calls that time out.
            failures: share of tool calls that fail with a transient error.
            noise: share whose result has fields added that nobody asked for.
            irrelevant: share whose result is replaced by one that has nothing to do with the call.

        Raises:
            ValueError: a share below 0, or shares that add up to more than 1.
        """
        self._shares = {"timeout": timeouts, "failure": failures, "noise": noise, "irrelevant": irrelevant}
        if min(self._shares.values()) < 0 or sum(self._shares.values()) > 1:
            raise ValueError(f"shares {self._shares}: expected none below 0 and a sum of at most 1")
        self._env: Env = env(task) if callable(env) else Component(**env).build(task)
        self._offered = {tool.name for tool in task.tools}
        self._rng = random.Random(f"faults {seed} {task.task_id}")

    async def open(self) -> tuple[Message, ...]:
        """The inner environment's prompt."""
        return await self._env.open()

    async def step(self, message: Message) -> Step:
        """Step the inner environment with the calls that get through, and spoil some of its results."""
        faults = {call.call_id: self._draw(call) for call in message.calls}
        lost = {
            call.call_id: _lost(call.call_id, faults[call.call_id])
            for call in message.calls
            if faults[call.call_id] in ("timeout", "failure")
        }
        passed = tuple(call for call in message.calls if call.call_id not in lost)
        inner = Step(messages=())
        if passed or not message.calls:
            inner = await self._env.step(replace(message, calls=passed))
        if inner.tools is not None:
            self._offered = {tool.name for tool in inner.tools} - ACTION_NAMES
        results = {result.call_id: self._spoil(result, faults[result.call_id]) for result in inner.results} | lost
        ordered = tuple(results[call.call_id] for call in message.calls)
        if inner.done:
            return replace(inner, results=ordered)
        others = tuple(reply for reply in inner.messages if reply.role != "tool")
        messages = tuple(Message(role="tool", content=result.content, call_id=result.call_id) for result in ordered)
        return replace(inner, messages=messages + others, results=ordered)

    async def close(self) -> Outcome:
        """Close the inner environment."""
        return await self._env.close()

    def _draw(self, call: Call) -> str:
        if not isinstance(call, ToolCall) or call.name not in self._offered:
            return ""
        names = [*self._shares, ""]
        weights = [*self._shares.values(), 1 - sum(self._shares.values())]
        return self._rng.choices(names, weights)[0]

    def _spoil(self, result: ToolResult, fault: str) -> ToolResult:
        if result.status != ToolStatus.OK:
            return result
        if fault == "noise":
            return replace(result, content=self._with_noise(result.content))
        if fault == "irrelevant":
            return replace(result, content=compact(self._rng.choice(_IRRELEVANT)))
        return result

    def _with_noise(self, content: str) -> str:
        names = self._rng.sample(list(_NOISE), 2)
        added = {name: _NOISE[name] for name in names}
        try:
            value = json.loads(content)
        except json.JSONDecodeError:
            return f"{content} {compact(added)}"
        if not isinstance(value, dict):
            return compact({"result": value, **added})
        items = [*value.items(), *((name, noise) for name, noise in added.items() if name not in value)]
        self._rng.shuffle(items)
        return compact(dict(items))


def _lost(call_id: str, fault: str) -> ToolResult:
    status = ToolStatus.TIMED_OUT if fault == "timeout" else ToolStatus.FAILED
    error = "timed out" if fault == "timeout" else "service unavailable, try again"
    return ToolResult(call_id=call_id, status=status, content=compact({"error": error}))
