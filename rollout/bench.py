"""Rollout throughput: the whole path (Ray, episodes, parsing, rewards, Parquet) against the bare engine.

Both do the same work in turn, several times in one run: the bare engine samples, after the very prompts that the
episodes met, as many tokens as the episodes sampled. So what else the machine does falls on both alike.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from envs.types import Json, Task
from rollout.pool import RolloutPool
from rollout.store import write_trajectories
from rollout.trajectory import Trajectory

Score = Callable[[Sequence[Trajectory]], Awaitable[object]]
"""Scores one group; the result is not looked at."""

BareGenerate = Callable[[Sequence[tuple[Sequence[int], int]]], int]
"""(prompt, tokens to sample) of many requests -> tokens sampled; blocks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """Both sides' time for the same completions."""

    num_episodes: int
    num_completions: int
    num_tokens: int
    """Sampled; the bare engine's are the same."""
    path_seconds: float
    engine_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutBench:
    """The result of the bench."""

    concurrency: int
    """Episodes at a time, over all workers, and requests at a time in the bare engine."""
    rounds: tuple[Round, ...]

    @property
    def path_tokens_per_second(self) -> float:
        """Sampled tokens through the whole path."""
        return sum(r.num_tokens for r in self.rounds) / sum(r.path_seconds for r in self.rounds)

    @property
    def engine_tokens_per_second(self) -> float:
        """Sampled tokens of the bare engine."""
        return sum(r.num_tokens for r in self.rounds) / sum(r.engine_seconds for r in self.rounds)

    @property
    def ratio(self) -> float:
        """What the path keeps of the bare engine's throughput."""
        return self.path_tokens_per_second / self.engine_tokens_per_second

    def to_json(self) -> dict[str, Json]:
        """The figures and the rounds they come from."""
        return {
            "path_tokens_per_second": self.path_tokens_per_second,
            "engine_tokens_per_second": self.engine_tokens_per_second,
            "ratio": self.ratio,
            "concurrency": self.concurrency,
            "rounds": [
                {
                    "num_episodes": r.num_episodes,
                    "num_completions": r.num_completions,
                    "num_tokens": r.num_tokens,
                    "path_seconds": r.path_seconds,
                    "engine_seconds": r.engine_seconds,
                }
                for r in self.rounds
            ],
        }


async def bench_rollout(
    pool: RolloutPool,
    bare: BareGenerate,
    tasks: Sequence[Task],
    *,
    group_size: int,
    num_rounds: int,
    score: Score,
    directory: Path,
    after_round: Callable[[], object] = lambda: None,
) -> RolloutBench:
    """Time path and bare engine in turn.

    Args:
        pool: started.
        bare: the same model on an engine of its own, idle while the path is timed.
        tasks: of each round; one more round than `num_rounds` is run first, to warm both sides up.
        group_size: episodes of each task.
        num_rounds: timed rounds.
        score: what the rewards cost.
        directory: gets the trajectories as a Parquet dataset, one step a round.
        after_round: called when a round is over, the first one too.

    Raises:
        ValueError: no token was sampled.
    """
    rounds: list[Round] = []
    for number in range(num_rounds + 1):
        started = time.perf_counter()
        trajectories = await _path(pool, tasks, number, group_size, score)
        write_trajectories(directory, number, trajectories)
        path_seconds = time.perf_counter() - started
        requests = completions_of(trajectories)
        if not requests:
            raise ValueError(f"no token was sampled: {trajectories[0].ending}: {trajectories[0].error}")
        started = time.perf_counter()
        num_tokens = await asyncio.to_thread(bare, requests)
        engine_seconds = time.perf_counter() - started
        timed = Round(
            num_episodes=len(trajectories),
            num_completions=len(requests),
            num_tokens=num_tokens,
            path_seconds=path_seconds,
            engine_seconds=engine_seconds,
        )
        assert num_tokens == sum(num for _, num in requests), "the bare engine sampled another number of tokens"
        if number:
            rounds.append(timed)
        after_round()
    return RolloutBench(concurrency=pool.config.concurrency * pool.num_workers, rounds=tuple(rounds))


def completions_of(trajectories: Sequence[Trajectory]) -> list[tuple[list[int], int]]:
    """(prompt, tokens sampled) of every turn."""
    return [
        (trajectory.token_ids[: turn.start].tolist(), turn.end - turn.start)
        for trajectory in trajectories
        for turn in trajectory.turns
    ]


async def _path(
    pool: RolloutPool, tasks: Sequence[Task], number: int, group_size: int, score: Score
) -> list[Trajectory]:
    async def group(index: int, task: Task) -> Sequence[Trajectory]:
        trajectories = await pool.run(task, group_id=f"bench-{number}-{index}", group_size=group_size)
        await score(trajectories)
        return trajectories

    groups = await asyncio.gather(*[group(index, task) for index, task in enumerate(tasks)])
    return [trajectory for trajectories in groups for trajectory in trajectories]
