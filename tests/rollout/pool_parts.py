"""Small parts for the pool's tests, importable by Ray workers: an engine, a renderer and an env without any model.

The fake weights are a text file with one number; an engine's log-probs depend on that number alone, so `verify`
tells engines with other weights from those with the right ones.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from envs.types import Message, Outcome, Step, Task
from rollout.engine import EngineFailed, Sampling
from rollout.trajectory import Completion, Finish

STOP = 3


def fake_logprobs(weight: float, token_ids: Sequence[int]) -> np.ndarray:
    """[L]: what a model with this weight says about every token."""
    return np.asarray([-weight - token % 7 for token in token_ids], dtype=np.float32)


class FakeEngine:
    """Echoes a few tokens.

    `ignore_loads`: this many loads change the version and not the weights. `dead_after`: a file; once it exists, the
    engine of the process that finds it first is dead for good.
    """

    def __init__(
        self, model_path: str, *, version: int, seconds: float = 0.0, ignore_loads: int = 0, dead_after: str = ""
    ) -> None:
        self.version = version
        self._weight = float(Path(model_path).read_text())
        self._seconds = seconds
        self._ignore_loads = ignore_loads
        self._dead_after = dead_after
        self._dead = False

    async def generate(self, prompt_ids: Sequence[int], sampling: Sampling, request_id: str) -> Completion:
        await asyncio.sleep(self._seconds)
        if self._dead_after and Path(self._dead_after).exists():
            os.unlink(self._dead_after)
            self._dead = True
        if self._dead:
            raise EngineFailed("the engine core is dead")
        token_ids = np.asarray([40 + len(prompt_ids) % 10, 50, STOP], dtype=np.int32)
        return Completion(
            token_ids=token_ids,
            logprobs=fake_logprobs(self._weight, token_ids.tolist()),
            finish=Finish.STOP,
            policy_version=self.version,
        )

    async def load(self, version: int, weights: str) -> None:
        self.version = version
        if self._ignore_loads > 0:
            self._ignore_loads -= 1
        else:
            self._weight = float(Path(weights).read_text())

    async def close(self) -> None:
        self._dead = True


class FakeRenderer:
    """One token per character."""

    max_context = 4096
    stop_token_ids = (STOP,)

    def __init__(self, model_path: str) -> None:
        pass

    def prompt(self, messages, tools) -> list[int]:
        return [ord(character) for message in messages for character in message.content]

    def observation(self, messages) -> list[int]:
        return self.prompt(messages, ())

    def parse(self, token_ids, start: int = 0) -> Message:
        return Message(role="assistant", content="".join(map(chr, token_ids)))


class FakeEnv:
    """Ends after `turns` turns; writes a line "task pid" to `journal` when an episode starts.

    The task with the fact `kill` ends its whole process the first time it is met; the one with `bug` raises.
    """

    def __init__(self, task: Task, *, journal: str, turns: int = 1, seconds: float = 0.0) -> None:
        self._task = task
        self._turns = turns
        self._seconds = seconds
        with open(journal, "a") as file:
            file.write(f"{task.task_id} {os.getpid()}\n")

    async def open(self) -> tuple[Message, ...]:
        kill = self._task.facts.get("kill")
        if kill and not Path(kill).exists():
            Path(kill).touch()
            await asyncio.sleep(0.2)
            os._exit(1)
        if self._task.facts.get("bug"):
            raise RuntimeError("a bug of the env")
        return self._task.prompt

    async def step(self, message: Message) -> Step:
        await asyncio.sleep(self._seconds)
        self._turns -= 1
        if self._turns == 0:
            return Step(messages=(), done=True)
        return Step(messages=(Message(role="user", content="more"),))

    async def close(self) -> Outcome:
        return Outcome(finished=True)
