"""Rewards in Ray: actors that hold one reward, and the pool that spreads trajectories over them.

A reward is a pure function, so one that raises is our bug: the run stops, and says at which trajectory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray.exceptions import RayTaskError

from envs.component import Component
from rewards.types import Reward, Score
from rollout.trajectory import Trajectory


class RewardFailed(RuntimeError):
    """A reward raised. Its message names the trajectory."""


def score_all(reward: Reward, trajectories: Sequence[Trajectory]) -> list[Score]:
    """Score trajectories in order.

    Raises:
        RewardFailed: the reward raised, or its `per_turn` does not fit the trajectory.
    """
    scores = []
    for trajectory in trajectories:
        try:
            score = reward(trajectory)
        except Exception as error:
            raise RewardFailed(f"trajectory {trajectory.trajectory_id}: {type(error).__name__}: {error}") from error
        if score.per_turn.shape != (len(trajectory.turns),):
            raise RewardFailed(
                f"trajectory {trajectory.trajectory_id}: per_turn has shape {score.per_turn.shape}, "
                f"expected ({len(trajectory.turns)},)"
            )
        scores.append(score)
    return scores


class RewardActor:
    """One reward in a process of its own."""

    def __init__(self, reward: Component) -> None:
        self._reward: Reward = reward.build()

    def score(self, trajectories: Sequence[Trajectory]) -> list[Score]:
        """Score trajectories in order; raises RewardFailed."""
        return score_all(self._reward, trajectories)


class RewardPool:
    """Scores trajectories on several actors.

    Each call is cut into one slice per actor; slices of concurrent calls queue at the actors.
    """

    def __init__(self, num_actors: int, reward: Component, actor_options: Mapping[str, Any] | None = None) -> None:
        """Start the actors.

        Args:
            num_actors: how many processes.
            reward: the reward that each of them builds.
            actor_options: Ray's options of an actor, such as {"num_cpus": 0.1}.

        Raises:
            ValueError: no actor, or a reward that cannot be built from these options.
        """
        if num_actors < 1:
            raise ValueError(f"num_actors: expected at least 1, got {num_actors}")
        reward.check()
        actor = ray.remote(RewardActor).options(**(actor_options or {}))
        self._actors: list[Any] = [actor.remote(reward) for _ in range(num_actors)]
        self._next = 0

    async def score(self, trajectories: Sequence[Trajectory]) -> list[Score]:
        """Scores in the order of the trajectories.

        Raises:
            RewardFailed: the reward raised; the message names the trajectory.
        """
        if not trajectories:
            return []
        size = -(-len(trajectories) // len(self._actors))
        slices = [list(trajectories[start : start + size]) for start in range(0, len(trajectories), size)]
        references = []
        for part in slices:
            # Small calls would otherwise all go to the first actor.
            actor = self._actors[self._next % len(self._actors)]
            self._next += 1
            references.append(actor.score.remote(part))
        try:
            scores = await asyncio.gather(*references)
        except RayTaskError as error:
            if isinstance(error.cause, RewardFailed):
                raise RewardFailed(str(error.cause)) from error
            raise
        return [score for part in scores for score in part]

    def close(self) -> None:
        """End the actors."""
        for actor in self._actors:
            ray.kill(actor)
        self._actors = []
