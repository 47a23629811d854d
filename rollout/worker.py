"""A rollout worker: one engine and many concurrent episodes. The pool makes it a Ray actor; it knows no Ray itself.

This is one of the two places that catch every exception: what goes wrong in an episode becomes a trajectory.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from envs.actions import ACTIONS, offered_actions
from envs.component import Component
from envs.types import Message, Outcome, Task
from rollout.engine import Engine, EngineFailed, Sampling
from rollout.episode import run_episode
from rollout.exploration import Exploration, explore
from rollout.trajectory import UNKNOWN_VERSION, Completion, Ending, Trajectory

CANARY_SAMPLING = Sampling(temperature=2.0, max_tokens=16, seed=0)
"""Hot, because the log-probs of unlikely tokens move with every weight, those of a certain one hardly at all;
seeded, because engines with the same weights are then expected to sample the same tokens."""

CANARY_MESSAGE = Message(role="user", content=" ".join(map(str, range(60))))
"""Longer than a KV block under any tokenizer, so that the prefix cache holds part of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeSettings:
    """What the episodes of one purpose (training, evaluation) have in common."""

    env: Component
    """Makes the environment of one task: factory(task, **options)."""
    sampling: Sampling
    max_turns: int
    offer_actions: bool = True
    """Whether `envs.actions` are offered beside the task's tools."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeRequest:
    """One episode to run."""

    task: Task
    trajectory_id: str
    group_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """What an engine sampled after the canary prompt; the proof of its weights."""

    version: int
    token_ids: np.ndarray
    """int32 [L]: prompt and sampled tokens."""
    logprobs: np.ndarray
    """float32 [n]: of the last n tokens, as the engine saw them."""


class Gate:
    """The engine as episodes see it: closed until the weights are proven.

    While an update is under way episodes wait; before the first proof and after a failed one they are refused.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._moved = asyncio.Event()
        self._refusal = "no weights were accepted yet"
        self._moved.set()

    @property
    def version(self) -> int:
        """Version of the weights that are live."""
        return self._engine.version

    async def generate(self, prompt_ids: Sequence[int], sampling: Sampling, request_id: str) -> Completion:
        """Sample with accepted weights.

        Raises:
            EngineFailed: the weights were not accepted, or the engine failed.
        """
        await self._moved.wait()
        if self._refusal:
            raise EngineFailed(self._refusal)
        return await self._engine.generate(prompt_ids, sampling, request_id)

    async def load(self, version: int, weights: str) -> None:
        """Close the gate and make `weights` live; the gate stays closed until `open` or `refuse`."""
        self._moved.clear()
        await self._engine.load(version, weights)

    async def close(self) -> None:
        """Refuse from now on, and stop the engine."""
        self.refuse("the worker is closed")
        await self._engine.close()

    def open(self) -> None:
        """Let episodes through."""
        self._refusal = ""
        self._moved.set()

    def refuse(self, reason: str) -> None:
        """Fail every episode that wants a completion."""
        self._refusal = reason
        self._moved.set()


class RolloutWorker:
    """One engine, its renderer, and at most `concurrency` episodes at a time."""

    def __init__(
        self, *, engine: Component, renderer: Component, model_path: str, version: int, concurrency: int
    ) -> None:
        """Start the engine.

        Args:
            engine: factory(model_path, version=..., **options) -> Engine.
            renderer: factory(model_path, **options) -> renderer.
            model_path: checkpoint the engine starts from.
            version: policy version of that checkpoint.
            concurrency: episodes at a time; more wait.
        """
        self._renderer = renderer.build(model_path)
        self._engine: Engine = engine.build(model_path, version=version)
        self._gate = Gate(self._engine)
        self._slots = asyncio.Semaphore(concurrency)
        self._num_canaries = 0

    async def run(self, requests: Sequence[EpisodeRequest], settings: EpisodeSettings) -> list[Trajectory]:
        """Run the episodes concurrently; one trajectory for each, in order, whatever happens."""
        return await asyncio.gather(*[self._episode(request, settings) for request in requests])

    async def explore(
        self, requests: Sequence[EpisodeRequest], settings: EpisodeSettings, exploration: Exploration
    ) -> list[list[Trajectory]]:
        """Follow an episode of each request, with the candidates of its turns behind it, whatever happens."""
        return await asyncio.gather(*[self._explored(request, settings, exploration) for request in requests])

    async def load(self, version: int, weights: str) -> Canary | str:
        """Make `weights` live and sample the canary; nothing is served until `accept`.

        Returns:
            the canary, or what went wrong.
        """
        try:
            # Puts the canary's prefix into the cache, so that a cache which outlives the update shows.
            await self._sample_canary()
            await self._gate.load(version, weights)
            return await self._sample_canary()
        except Exception:
            return traceback.format_exc()

    async def canary(self) -> Canary | str:
        """Sample after the canary prompt, whether the weights were accepted or not; or what went wrong."""
        try:
            return await self._sample_canary()
        except Exception:
            return traceback.format_exc()

    async def accept(self, version: int) -> None:
        """The canary of `version` was proven: serve.

        Raises:
            ValueError: another version is live.
        """
        if version != self._engine.version:
            raise ValueError(f"version {version} was accepted, but {self._engine.version} is live")
        self._gate.open()

    async def refuse(self, reason: str) -> None:
        """Serve nothing."""
        self._gate.refuse(reason)

    async def ping(self) -> int:
        """The live version, once the worker has started."""
        return self._engine.version

    async def close(self) -> None:
        """Stop the engine."""
        await self._gate.close()

    async def _episode(self, request: EpisodeRequest, settings: EpisodeSettings) -> Trajectory:
        async with self._slots:
            try:
                return await run_episode(
                    request.task,
                    settings.env.build,
                    self._gate,
                    self._renderer,
                    settings.sampling,
                    trajectory_id=request.trajectory_id,
                    group_id=request.group_id,
                    max_turns=settings.max_turns,
                    offer_actions=settings.offer_actions,
                )
            except Exception:
                return failed_trajectory(request, Ending.ENV_FAILED, traceback.format_exc())

    async def _explored(
        self, request: EpisodeRequest, settings: EpisodeSettings, exploration: Exploration
    ) -> list[Trajectory]:
        async with self._slots:
            try:
                return await explore(
                    request.task,
                    settings.env.build,
                    self._gate,
                    self._renderer,
                    settings.sampling,
                    exploration,
                    trajectory_id=request.trajectory_id,
                    group_id=request.group_id,
                    max_turns=settings.max_turns,
                    offer_actions=settings.offer_actions,
                )
            except Exception:
                return [failed_trajectory(request, Ending.ENV_FAILED, traceback.format_exc())]

    async def _sample_canary(self) -> Canary:
        self._num_canaries += 1
        prompt_ids = self._renderer.prompt((CANARY_MESSAGE,), ACTIONS)
        completion = await self._engine.generate(prompt_ids, CANARY_SAMPLING, f"canary-{self._num_canaries}")
        return Canary(
            version=completion.policy_version,
            token_ids=np.concatenate([np.asarray(prompt_ids, dtype=np.int32), completion.token_ids]),
            logprobs=completion.logprobs,
        )


def failed_trajectory(request: EpisodeRequest, ending: Ending, error: str) -> Trajectory:
    """The record of an episode of which nothing is left but the reason."""
    return Trajectory(
        trajectory_id=request.trajectory_id,
        group_id=request.group_id,
        task=request.task,
        tools=(*request.task.tools, *offered_actions(request.task)),
        turns=(),
        token_ids=np.zeros(0, dtype=np.int32),
        action_mask=np.zeros(0, dtype=bool),
        logprobs=np.zeros(0, dtype=np.float32),
        oldest_version=UNKNOWN_VERSION,
        newest_version=UNKNOWN_VERSION,
        ending=ending,
        outcome=Outcome(),
        error=error,
    )
