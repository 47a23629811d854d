from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from envs.component import Component
from envs.types import Message, Task
from rollout.engine import EngineFailed, Sampling
from rollout.trajectory import Ending

pytest.importorskip("ray")

from rollout.exploration import Exploration
from rollout.pool import PoolConfig, RolloutPool
from rollout.worker import Canary, EpisodeRequest, EpisodeSettings, RolloutWorker


def task_of(number: int, **facts: Any) -> Task:
    return Task(
        task_id=f"task{number}", prompt=(Message(role="user", content=f"request {number}"),), tools=(), facts=facts
    )


def verify_by(weights: Path) -> Callable[[Sequence[np.ndarray]], Awaitable[list[np.ndarray]]]:
    """A learner with the weights in the file."""

    async def verify(sequences: Sequence[np.ndarray]) -> list[np.ndarray]:
        weight = float(weights.read_text())
        return [np.asarray([-weight - token % 7 for token in token_ids]) for token_ids in sequences]

    return verify


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for version in range(4):
        (tmp_path / f"v{version}").write_text(f"{version}.25")
    return tmp_path


def settings_of(folder: Path, **options: Any) -> EpisodeSettings:
    env = Component(factory="pool_parts:FakeEnv", options={"journal": str(folder / "journal"), **options})
    return EpisodeSettings(env=env, sampling=Sampling(), max_turns=50)


def config_of(folder: Path, *, num_workers: int = 1, max_attempts: int = 3, **engine_options: Any) -> PoolConfig:
    return PoolConfig(
        model_path=str(folder / "v0"),
        engine=Component(factory="pool_parts:FakeEngine", options=engine_options),
        renderer=Component(factory="pool_parts:FakeRenderer"),
        num_workers=num_workers,
        concurrency=8,
        num_cpus=0.25,
        max_attempts=max_attempts,
        start_seconds=60,
        group_seconds=60,
    )


def in_pool(config: PoolConfig, settings: EpisodeSettings, scenario: Callable[[RolloutPool], Awaitable[None]]) -> None:
    """Start a pool, run the scenario with it, and stop it."""
    asyncio.run(asyncio.wait_for(run_pool(config, settings, scenario), 300))


async def run_pool(
    config: PoolConfig, settings: EpisodeSettings, scenario: Callable[[RolloutPool], Awaitable[None]]
) -> None:
    pool = RolloutPool(config, settings)
    try:
        await pool.start()
        await scenario(pool)
    finally:
        await pool.close()


def episodes_started(folder: Path) -> list[tuple[str, str]]:
    """(task, process) of every episode that was started."""
    return [tuple(line.split()) for line in (folder / "journal").read_text().splitlines()]  # type: ignore[misc]


def test_groups_come_back_complete_and_in_order(local_ray, folder):
    async def scenario(pool: RolloutPool) -> None:
        groups = await asyncio.gather(*[pool.run(task_of(i), group_id=f"g{i}", group_size=3) for i in range(20)])
        for i, group in enumerate(groups):
            assert [trajectory.trajectory_id for trajectory in group] == [f"g{i}-{k}" for k in range(3)]
            assert {trajectory.task.task_id for trajectory in group} == {f"task{i}"}
            assert {trajectory.ending for trajectory in group} == {Ending.COMPLETED}
            assert {(t.oldest_version, t.newest_version) for t in group} == {(0, 0)}
        assert len(episodes_started(folder)) == 60

    in_pool(config_of(folder), settings_of(folder), scenario)


def test_an_explored_episode_comes_back_with_its_candidates_also_from_a_killed_worker(local_ray, folder):
    async def scenario(pool: RolloutPool) -> None:
        exploration = Exploration(num_samples=3, num_branches=0)
        for task in (task_of(0), task_of(1, kill=str(folder / "killed"))):
            followed, *candidates = await pool.explore(
                task, exploration, group_id=task.task_id, settings=settings_of(folder, turns=2)
            )
            assert followed.ending is Ending.COMPLETED and len(followed.turns) == 2
            assert [one.trajectory_id for one in candidates] == [
                f"{task.task_id}-0/{turn}/sample-{number}" for turn in range(2) for number in range(3)
            ]
        assert pool.num_lost_workers == 1 and pool.num_retried_episodes == 1

    in_pool(config_of(folder), settings_of(folder), scenario)


def test_an_exploration_whose_engine_keeps_failing_comes_back_as_such(local_ray, folder):
    async def scenario(pool: RolloutPool) -> None:
        (folder / "dead").touch()
        (only,) = await pool.explore(
            task_of(0), Exploration(num_branches=0), group_id="g", settings=settings_of(folder)
        )
        assert only.ending is Ending.ENGINE_FAILED

    in_pool(config_of(folder, max_attempts=1, dead_after=str(folder / "dead")), settings_of(folder), scenario)


def test_groups_go_to_the_least_loaded_worker(local_ray, folder):
    async def scenario(pool: RolloutPool) -> None:
        slow = pool.run(task_of(0), group_id="slow", group_size=8, settings=settings_of(folder, seconds=3.0))
        waiting = asyncio.create_task(slow)
        await asyncio.sleep(0.1)
        for i in range(1, 6):
            await pool.run(task_of(i), group_id=f"g{i}", group_size=2)
        assert not waiting.done()
        await waiting
        processes = dict(episodes_started(folder))
        busy = processes.pop("task0")
        assert len(set(processes.values())) == 1 and busy not in processes.values()

    in_pool(config_of(folder, num_workers=2), settings_of(folder), scenario)


def test_tasks_of_a_killed_worker_run_again_once_and_none_is_lost(local_ray, folder):
    async def scenario(pool: RolloutPool) -> None:
        tasks = [task_of(i, **({"kill": str(folder / "killed")} if i == 4 else {})) for i in range(12)]
        groups = await asyncio.gather(*[pool.run(task, group_id=task.task_id, group_size=2) for task in tasks])
        ids = [trajectory.trajectory_id for group in groups for trajectory in group]
        assert sorted(ids) == sorted(f"task{i}-{k}" for i in range(12) for k in range(2))
        assert all(trajectory.ending is Ending.COMPLETED for group in groups for trajectory in group)
        assert pool.num_lost_workers == 1
        counts = Counter(task for task, _ in episodes_started(folder))
        assert counts["task4"] == 4
        assert all(count in (2, 4) for count in counts.values())
        while pool.num_workers < 2:
            await asyncio.sleep(0.1)

    in_pool(config_of(folder, num_workers=2), settings_of(folder), scenario)


def test_an_episode_is_given_up_after_the_last_attempt(local_ray, folder):
    async def scenario(pool: RolloutPool) -> None:
        (trajectory,) = await pool.run(task_of(0), group_id="g")
        assert trajectory.ending is Ending.ENGINE_FAILED and "not accepted" in trajectory.error
        assert pool.num_retried_episodes == 2

    async def refusing(pool: RolloutPool) -> None:
        await pool._slots[0].actor.refuse.remote("not accepted")
        await scenario(pool)

    in_pool(config_of(folder), settings_of(folder), refusing)


def test_a_worker_whose_engine_died_is_replaced_and_its_episodes_run_again(local_ray, folder):
    dead = folder / "dead"

    async def scenario(pool: RolloutPool) -> None:
        await pool.load(1, str(folder / "v1"), verify_by(folder / "v1"))
        dead.touch()
        group = await pool.run(task_of(0), group_id="g", group_size=4)
        assert {trajectory.ending for trajectory in group} == {Ending.COMPLETED}
        assert {trajectory.newest_version for trajectory in group} <= {1}
        assert pool.num_lost_workers == 1

    in_pool(config_of(folder, dead_after=str(dead)), settings_of(folder), scenario)


def test_a_bug_of_the_env_is_data_and_not_retried(local_ray, folder):
    async def scenario(pool: RolloutPool) -> None:
        (trajectory,) = await pool.run(task_of(0, bug=True), group_id="g")
        assert trajectory.ending is Ending.ENV_FAILED and "a bug of the env" in trajectory.error
        assert pool.num_retried_episodes == 0

    in_pool(config_of(folder), settings_of(folder), scenario)


def test_an_update_is_proven_on_every_worker(local_ray, folder):
    async def scenario(pool: RolloutPool) -> None:
        first = await pool.load(1, str(folder / "v1"), verify_by(folder / "v1"))
        assert (first.version, len(first.differences), first.reloaded, first.replaced) == (1, 2, 0, 0)
        assert first.max_difference < 1e-6 and np.isnan(first.moved)
        second = await pool.load(2, str(folder / "v2"), verify_by(folder / "v2"))
        assert second.moved == pytest.approx(1.0)
        assert pool.version == 2
        (trajectory,) = await pool.run(task_of(0), group_id="g")
        assert (trajectory.oldest_version, trajectory.newest_version) == (2, 2)

    in_pool(config_of(folder, num_workers=2), settings_of(folder), scenario)


def test_a_trajectory_that_spans_an_update_names_both_versions(local_ray, folder):
    async def scenario(pool: RolloutPool) -> None:
        settings = settings_of(folder, turns=10, seconds=0.1)
        running = asyncio.create_task(pool.run(task_of(0), group_id="g", settings=settings))
        await asyncio.sleep(0.5)
        await pool.load(1, str(folder / "v1"), verify_by(folder / "v1"))
        (trajectory,) = await running
        assert (trajectory.oldest_version, trajectory.newest_version) == (0, 1)
        assert trajectory.ending is Ending.COMPLETED

    in_pool(config_of(folder), settings_of(folder), scenario)


def test_an_engine_with_stale_weights_is_loaded_again(local_ray, folder):
    async def scenario(pool: RolloutPool) -> None:
        report = await pool.load(1, str(folder / "v1"), verify_by(folder / "v1"))
        assert (report.reloaded, report.replaced) == (1, 0)
        assert pool.num_workers == 1

    in_pool(config_of(folder, ignore_loads=1), settings_of(folder), scenario)


def test_an_engine_that_stays_wrong_serves_nothing_and_the_run_is_told(local_ray, folder):
    async def scenario(pool: RolloutPool) -> None:
        report = await pool.load(1, str(folder / "v1"), verify_by(folder / "v1"))
        assert (report.reloaded, report.replaced, report.differences) == (0, 1, ())
        with pytest.raises(EngineFailed, match="no rollout worker can be started: its canary did not prove version 1"):
            await pool.run(task_of(0), group_id="g")
        assert not (folder / "journal").exists()

    in_pool(config_of(folder, max_attempts=1, ignore_loads=1000), settings_of(folder), scenario)


def test_a_replacement_serves_the_current_weights_without_asking_a_learner_that_has_moved_on(local_ray, folder):
    learner = folder / "learner"
    learner.write_text("1.25")

    async def scenario(pool: RolloutPool) -> None:
        await pool.load(1, str(folder / "v1"), verify_by(learner))
        learner.write_text("9.0")
        (trajectory,) = await pool.run(task_of(0, kill=str(folder / "killed")), group_id="g")
        assert (trajectory.ending, trajectory.newest_version) == (Ending.COMPLETED, 1)
        assert pool.num_lost_workers == 1

    in_pool(config_of(folder), settings_of(folder), scenario)


def test_the_pool_grows_and_shrinks_without_losing_an_episode(local_ray, folder):
    async def scenario(pool: RolloutPool) -> None:
        await pool.load(1, str(folder / "v1"), verify_by(folder / "v1"))
        settings = settings_of(folder, turns=5, seconds=0.1)
        running = [
            asyncio.create_task(pool.run(task_of(i), group_id=f"g{i}", group_size=4, settings=settings))
            for i in range(12)
        ]
        await pool.scale(3)
        assert pool.num_workers == 3
        await pool.scale(1)
        assert pool.num_workers == 1
        groups = await asyncio.gather(*running)
        assert all(trajectory.ending is Ending.COMPLETED for group in groups for trajectory in group)
        assert {trajectory.newest_version for group in groups for trajectory in group} == {1}
        assert pool.num_lost_workers == pool.num_retried_episodes == 0

    in_pool(config_of(folder), settings_of(folder), scenario)


def test_a_worker_that_cannot_start_ends_the_run_with_its_reason(local_ray, folder):
    async def start() -> None:
        pool = RolloutPool(config_of(folder, max_attempts=1, unknown_option=1), settings_of(folder))
        with pytest.raises(EngineFailed, match="unknown_option"):
            await pool.start()

    asyncio.run(asyncio.wait_for(start(), 120))


def test_a_worker_serves_nothing_before_its_weights_are_accepted(folder, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    config = config_of(folder)
    worker = RolloutWorker(
        engine=config.engine, renderer=config.renderer, model_path=config.model_path, version=0, concurrency=2
    )
    request = EpisodeRequest(task=task_of(0), trajectory_id="t", group_id="g")

    async def ending() -> Ending:
        return (await worker.run([request], settings_of(folder)))[0].ending

    async def scenario() -> None:
        assert await ending() is Ending.ENGINE_FAILED
        with pytest.raises(ValueError, match="0 is live"):
            await worker.accept(1)
        await worker.accept(0)
        assert await ending() is Ending.COMPLETED
        assert isinstance(await worker.load(1, str(folder / "v1")), Canary)
        waiting = asyncio.create_task(ending())
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await worker.accept(1)
        assert await waiting is Ending.COMPLETED
        assert "No such file" in str(await worker.load(2, str(folder / "nowhere")))
        await worker.refuse("wrong")
        assert await ending() is Ending.ENGINE_FAILED

    asyncio.run(scenario())


@pytest.mark.slow
def test_a_vllm_worker_is_proven_and_replaced_when_its_engine_core_is_killed(local_ray, random_models, tmp_path):
    psutil = pytest.importorskip("psutil")
    pytest.importorskip("vllm")
    import torch
    from transformers import Qwen2ForCausalLM

    def learner_of(path: Path) -> Callable[[Sequence[np.ndarray]], Awaitable[list[np.ndarray]]]:
        model = Qwen2ForCausalLM.from_pretrained(path).float().eval()

        async def verify(sequences: Sequence[np.ndarray]) -> list[np.ndarray]:
            logprobs = []
            for sequence in sequences:
                ids = torch.tensor([sequence.tolist()])
                with torch.no_grad():
                    rows = model(ids).logits.log_softmax(-1)[0, :-1].gather(1, ids[0, 1:, None])[:, 0]
                logprobs.append(np.concatenate([[np.nan], rows.numpy()]))
            return logprobs

        return verify

    config = PoolConfig(
        model_path=str(random_models["tied_a"]),
        engine=Component(
            factory="rollout.vllm_engine:VllmEngine",
            options={
                "max_context": 256,
                "max_num_seqs": 8,
                "kv_cache_gib": 0.0625,
                "log_file": str(tmp_path / "vllm.log"),
            },
        ),
        renderer=Component(factory="pool_parts:FakeRenderer"),
        concurrency=8,
        canary_tolerance=1e-4,
    )

    def engine_cores() -> list[Any]:
        return [p for p in psutil.Process().children(recursive=True) if "EngineCore" in p.name()]

    async def scenario(pool: RolloutPool) -> None:
        report = await pool.load(1, str(random_models["tied_b"]), learner_of(random_models["tied_b"]))
        assert report.max_difference < 1e-4 and report.replaced == 0
        group = await pool.run(task_of(0), group_id="before", group_size=4)
        assert {(t.oldest_version, t.ending.is_failure) for t in group} == {(1, False)}
        wrong = await pool.load(2, str(random_models["tied_a"]), learner_of(random_models["tied_b"]))
        assert wrong.replaced == 1 and pool.num_workers == 0
        right = await pool.load(3, str(random_models["tied_a"]), learner_of(random_models["tied_a"]))
        assert right.replaced == 0
        while not pool.num_workers:
            await asyncio.sleep(0.5)
        (core,) = engine_cores()
        core.kill()
        group = await pool.run(task_of(1), group_id="after", group_size=4)
        assert {(t.oldest_version, t.ending.is_failure) for t in group} == {(3, False)}
        assert pool.num_lost_workers == 2
        pool.kill()
        await asyncio.sleep(3)
        assert not engine_cores()

    settings = EpisodeSettings(env=settings_of(tmp_path).env, sampling=Sampling(max_tokens=16), max_turns=2)
    asyncio.run(asyncio.wait_for(run_pool(config, settings, scenario), 900))
