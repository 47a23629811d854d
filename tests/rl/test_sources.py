import asyncio
from collections.abc import Sequence

import numpy as np
import pytest

from envs.component import Component
from envs.tasks import write_tasks
from envs.types import Message, Outcome, Task
from rewards.types import Score
from rl.config import EarlyDemonstrations, Source
from rl.sample import ScoredGroup
from rl.sources import (
    DemonstrationSource,
    FileTasks,
    RecordedSource,
    RolloutSource,
    build_tasks,
    preference,
    shuffled,
)
from rollout.preferences import TrajectoryPair
from rollout.trajectory import Ending, Trajectory


def task(index: int) -> Task:
    return Task(task_id=f"task-{index}", prompt=(Message(role="user", content="hi"),), tools=())


def trajectory(name: str) -> Trajectory:
    return Trajectory(
        trajectory_id=name,
        group_id=name,
        task=task(0),
        tools=(),
        turns=(),
        token_ids=np.zeros(0, dtype=np.int32),
        action_mask=np.zeros(0, dtype=bool),
        logprobs=np.zeros(0, dtype=np.float32),
        oldest_version=0,
        newest_version=0,
        ending=Ending.COMPLETED,
        outcome=Outcome(),
    )


class Tasks:
    def task(self, index: int) -> Task:
        return task(index)


class Pool:
    """Remembers what it was asked to run."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    async def run(self, task: Task, *, group_id: str, group_size: int) -> tuple[Trajectory, ...]:
        self.asked.append((task.task_id, group_id))
        return tuple(trajectory(f"{group_id}-{number}") for number in range(group_size))


class Scorer:
    async def score(self, trajectories: Sequence[Trajectory]) -> list[Score]:
        return [Score(per_turn=np.zeros(0, dtype=np.float32)) for _ in trajectories]


def rollout_source(pool: Pool, *, num_slots: int, start: int = 0) -> RolloutSource:
    return RolloutSource(
        tasks=Tasks(),
        pool=pool,  # type: ignore[arg-type]
        rewards=Scorer(),
        group_size=2,
        num_slots=num_slots,
        start=start,
    )


async def test_rollouts_come_as_scored_groups_of_one_task_each():
    pool = Pool()
    source = rollout_source(pool, num_slots=3)
    groups = await source.next(2)
    assert [len(group.trajectories) for group in groups] == [2, 2]
    assert [len(group.scores) for group in groups] == [2, 2]
    assert pool.asked[:2] == [("task-0", "group-0"), ("task-1", "group-1")]
    await source.close()


async def test_a_resumed_source_goes_on_at_its_position():
    pool = Pool()
    source = rollout_source(pool, num_slots=2, start=40)
    await source.next(2)
    await source.learned(2)
    assert pool.asked[0] == ("task-40", "group-40")
    assert source.position == 42
    await source.close()


async def test_nothing_is_sampled_before_the_new_weights_are_live():
    pool = Pool()
    source = rollout_source(pool, num_slots=2)
    await source.next(2)
    await asyncio.sleep(0)
    assert len(pool.asked) == 2
    await source.learned(2)
    await source.next(2)
    assert len(pool.asked) == 4
    await source.close()


def named_group(index: int) -> ScoredGroup:
    return ScoredGroup(trajectories=(trajectory(f"demonstration-{index}"),))


async def test_demonstrations_are_made_by_index_and_in_order():
    source = DemonstrationSource(named_group, groups_per_step=2, num_workers=0, start=5)  # type: ignore[arg-type]
    groups = await source.next(2)
    assert [group.trajectories[0].trajectory_id for group in groups] == ["demonstration-5", "demonstration-6"]
    await source.learned(2)
    assert source.position == 7
    await source.close()


async def test_recorded_groups_come_once_in_each_round_in_another_order():
    source = RecordedSource([ScoredGroup(trajectories=(trajectory(str(n)),)) for n in range(20)], seed=1, start=0)
    rounds = [[group.trajectories[0].trajectory_id for group in await source.next(20)] for _ in range(2)]
    assert set(rounds[0]) == set(rounds[1]) == {str(number) for number in range(20)}
    assert rounds[0] != rounds[1]


async def test_a_resumed_file_goes_on_where_it_was():
    groups = [ScoredGroup(trajectories=(trajectory(str(number)),)) for number in range(5)]
    whole = RecordedSource(groups, seed=1, start=0)
    first = await whole.next(8)
    resumed = RecordedSource(groups, seed=1, start=3)
    assert await resumed.next(5) == first[3:]


def test_shuffling_follows_from_the_seed():
    order = [shuffled(index, 50, seed=1) for index in range(50)]
    assert order == [shuffled(index, 50, seed=1) for index in range(50)]
    assert order != [shuffled(index, 50, seed=2) for index in range(50)]
    assert sorted(order) == list(range(50))


def test_a_task_file_is_endless(tmp_path):
    path = tmp_path / "tasks.jsonl"
    write_tasks(path, [task(number) for number in range(3)])
    tasks = build_tasks(str(path), seed=0)
    assert isinstance(tasks, FileTasks)
    assert {tasks.task(index).task_id for index in range(3, 6)} == {"task-0", "task-1", "task-2"}


def test_a_factory_of_tasks_is_given_the_seed_of_the_run():
    tasks = Component(factory="envs.toolworld:ToolWorldTasks")
    assert build_tasks(tasks, 1).task(0) != build_tasks(tasks, 2).task(0)


def test_a_file_without_groups_is_refused():
    with pytest.raises(ValueError, match="nothing to learn from"):
        RecordedSource([], seed=0, start=0)


def test_a_preference_is_a_group_in_which_the_chosen_side_scores_higher(make_trajectory):
    chosen, rejected = make_trajectory(version=-1), make_trajectory(version=-1)
    group = preference(TrajectoryPair(chosen=chosen, rejected=rejected, weight=2.0))
    assert group.trajectories == (chosen, rejected)
    assert group.scores[0].total > group.scores[1].total
    assert group.weight == 2.0 and group.best() == [chosen]


def test_early_demonstrations_have_a_demonstrator_and_a_mask_of_their_own():
    early, late = Component(factory="a:Early"), Component(factory="a:Late")
    source = Source(
        tasks="tasks.jsonl",
        demonstrations=late,
        early=EarlyDemonstrations(num=10, demonstrations=early, mask_errors=True),
    )
    assert [source.demonstrated(index) for index in (0, 9, 10)] == [(early, True), (early, True), (late, False)]
