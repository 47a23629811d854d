"""Results of the world's tools as a pure function of seed, tool and arguments; and the environment on it."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence

from envs.env import ToolEnv, compact
from envs.schema import signature
from envs.toolworld.catalogue import plausible_value
from envs.types import Json, Task, ToolCall, ToolResult, ToolSpec, ToolStatus


def simulate(seed: int, tool: str, arguments: Mapping[str, Json], results: Mapping[str, Json]) -> dict[str, Json]:
    """What a tool returns: a value for each field of `results`, the same for the same call of the same task."""
    rng = random.Random(f"{seed} {tool} {json.dumps(arguments, sort_keys=True)}")
    return {name: plausible_value(name, schema, rng) for name, schema in results.items()}


class ToolWorldEnv(ToolEnv):
    """The environment of one toolworld task, built from the task alone.

    `task.facts["results"]` holds the result schema of every tool of the task, by name.
    """

    def __init__(self, task: Task, patience: int | None = None) -> None:
        super().__init__(task, _Simulator(task), patience)

    def describe_tools(self, tools: Sequence[ToolSpec]) -> Json:
        """One line each, as the tiny model's template lists tools."""
        return [signature(tool) for tool in tools]


class _Simulator:
    def __init__(self, task: Task) -> None:
        self._seed = task.seed
        self._results: Mapping[str, Mapping[str, Json]] = task.facts.get("results") or {}

    async def run(self, call: ToolCall) -> ToolResult:
        content = simulate(self._seed, call.name, call.arguments, self._results.get(call.name, {}))
        return ToolResult(call_id=call.call_id, status=ToolStatus.OK, content=compact(content))
