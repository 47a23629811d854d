from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from envs.component import Component
from envs.types import Message, Task
from rollout.engine import Sampling
from rollout.store import read_trajectories
from rollout.trajectory import Trajectory

pytest.importorskip("ray")

from rollout.bench import bench_rollout
from rollout.pool import PoolConfig, RolloutPool
from rollout.worker import EpisodeSettings


def test_both_sides_sample_the_same_tokens_and_the_path_leaves_its_trajectories(local_ray, tmp_path: Path):
    (tmp_path / "weights").write_text("0.25")
    config = PoolConfig(
        model_path=str(tmp_path / "weights"),
        engine=Component(factory="pool_parts:FakeEngine"),
        renderer=Component(factory="pool_parts:FakeRenderer"),
        concurrency=4,
        num_cpus=0.25,
    )
    env = Component(factory="pool_parts:FakeEnv", options={"journal": str(tmp_path / "journal"), "turns": 2})
    tasks = [Task(task_id=f"t{i}", prompt=(Message(role="user", content=f"request {i}"),), tools=()) for i in range(3)]
    scored: list[str] = []
    asked: list[tuple[Sequence[int], int]] = []

    async def score(trajectories: Sequence[Trajectory]) -> None:
        scored.extend(trajectory.trajectory_id for trajectory in trajectories)

    def bare(requests: Sequence[tuple[Sequence[int], int]]) -> int:
        asked[:] = requests
        return sum(num for _, num in requests)

    async def run() -> None:
        pool = RolloutPool(config, EpisodeSettings(env=env, sampling=Sampling(), max_turns=5))
        try:
            await pool.start()
            result = await bench_rollout(
                pool, bare, tasks, group_size=2, num_rounds=2, score=score, directory=tmp_path / "run"
            )
        finally:
            await pool.close()
        assert [r.num_episodes for r in result.rounds] == [6, 6]
        assert [r.num_completions for r in result.rounds] == [12, 12]
        assert [r.num_tokens for r in result.rounds] == [36, 36]
        assert result.concurrency == 4
        assert result.ratio == pytest.approx(result.path_tokens_per_second / result.engine_tokens_per_second)
        assert result.to_json()["rounds"][0]["num_tokens"] == 36

    asyncio.run(asyncio.wait_for(run(), 120))
    assert len(scored) == len(set(scored)) == 18
    stored = [t for t in read_trajectories(tmp_path / "run") if t.group_id.startswith("bench-2-")]
    first_turns = [prompt for prompt, _ in asked][::2]
    assert first_turns == [t.token_ids[: t.turns[0].start].tolist() for t in stored]
