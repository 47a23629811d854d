"""Where the loop's groups come from: rollouts of the policy, demonstrations made on demand, or files of conversations
and preferences.

A source is asked for the next groups and told when new weights are there; the loop knows no more of it.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random
import signal
import threading
from collections.abc import Coroutine, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cached_property, lru_cache
from typing import Any, Protocol, TypeVar

import numpy as np

from envs.component import Component
from envs.tasks import read_tasks
from envs.types import Task
from rewards.types import Score
from rl.buffer import Buffer
from rl.config import Source
from rl.sample import ScoredGroup
from rollout.demonstrations import demonstrate
from rollout.pool import RolloutPool
from rollout.preferences import TrajectoryPair
from rollout.renderer import Renderer
from rollout.trajectory import Trajectory

PREFETCHED_STEPS = 2
"""Steps of demonstrations that are made ahead of the learner."""

T = TypeVar("T")


class GroupSource(Protocol):
    """Gives groups in order, each once."""

    @property
    def position(self) -> int:
        """Index of the first group that was not learned from."""
        ...

    async def next(self, num: int) -> list[ScoredGroup]:
        """The next `num` groups."""
        ...

    async def learned(self, num: int) -> None:
        """`num` groups were learned from, and the weights learned from them are live."""
        ...

    async def close(self) -> None:
        """Stop making groups."""
        ...


class Tasks(Protocol):
    """An endless or bounded sequence of tasks."""

    def task(self, index: int) -> Task:
        """Task number `index`."""
        ...


class Scorer(Protocol):
    """Scores trajectories (rewards.actor.RewardPool)."""

    async def score(self, trajectories: Sequence[Trajectory]) -> Sequence[Score]:
        """One score for each, in order."""
        ...


class FileTasks:
    """The tasks of a file, over and over, in another seeded order each time."""

    def __init__(self, tasks: Sequence[Task], seed: int) -> None:
        if not tasks:
            raise ValueError("the task file holds no tasks")
        self._tasks = tasks
        self._seed = seed

    def task(self, index: int) -> Task:
        """Task number `index`, the passes over the file counted through."""
        return self._tasks[shuffled(index, len(self._tasks), self._seed)]


def shuffled(index: int, num: int, seed: int) -> int:
    """Where number `index` of an endless sequence stands that visits `num` places in a new order each round."""
    number, place = divmod(index, num)
    return _round(number, num, seed)[place]


@lru_cache(maxsize=4)
def _round(number: int, num: int, seed: int) -> list[int]:
    order = list(range(num))
    random.Random(f"{seed}/{number}").shuffle(order)
    return order


def build_tasks(tasks: Component | str, seed: int) -> Tasks:
    """The tasks that `source.tasks` names."""
    if isinstance(tasks, Component):
        return tasks.build(seed=seed)
    return FileTasks(read_tasks(tasks), seed)


class BufferedSource:
    """Groups from a buffer; what makes them is given."""

    def __init__(self, buffer: Buffer[ScoredGroup]) -> None:
        self._buffer = buffer

    @property
    def position(self) -> int:
        """Index of the first group that was not learned from."""
        return self._buffer.position

    async def next(self, num: int) -> list[ScoredGroup]:
        """The next `num` groups."""
        return await self._buffer.take(num)

    async def learned(self, num: int) -> None:
        """Free the slots of `num` groups."""
        self._buffer.release(num)

    async def close(self) -> None:
        """Abandon what is being made."""
        await self._buffer.close()


class RolloutSource(BufferedSource):
    """Groups sampled from the policy and scored, as many at once as the staleness allows."""

    def __init__(
        self,
        *,
        tasks: Tasks,
        pool: RolloutPool,
        rewards: Scorer,
        group_size: int,
        num_slots: int,
        start: int,
    ) -> None:
        """Prepare to sample; nothing starts before the first groups are asked for.

        Args:
            tasks: one for each group, by its index.
            pool: runs the episodes.
            rewards: scores them.
            group_size: episodes of one task.
            num_slots: (max_staleness + 1) * groups_per_step.
            start: index of the first group.
        """
        self._tasks = tasks
        self._pool = pool
        self._rewards = rewards
        self._group_size = group_size
        super().__init__(Buffer(self._make, num_slots=num_slots, start=start))

    async def _make(self, index: int) -> ScoredGroup:
        trajectories = await self._pool.run(
            self._tasks.task(index), group_id=f"group-{index}", group_size=self._group_size
        )
        return ScoredGroup(trajectories=trajectories, scores=tuple(await self._rewards.score(trajectories)))


class RecordedSource:
    """Groups that were read from a file, over and over, in another seeded order each time."""

    def __init__(self, groups: Sequence[ScoredGroup], *, seed: int, start: int) -> None:
        if not groups:
            raise ValueError("there is nothing to learn from")
        self._groups = groups
        self._seed = seed
        self._taken = start
        self.position = start
        """Index of the first group that was not learned from."""

    async def next(self, num: int) -> list[ScoredGroup]:
        """The next `num` groups."""
        first, self._taken = self._taken, self._taken + num
        return [self._groups[shuffled(index, len(self._groups), self._seed)] for index in range(first, self._taken)]

    async def learned(self, num: int) -> None:
        """Count them."""
        self.position += num

    async def close(self) -> None:
        """Nothing to stop."""


def preference(pair: TrajectoryPair) -> ScoredGroup:
    """A recorded preference as a group of two, of which the chosen trajectory scores 1 and the rejected one 0."""
    return ScoredGroup(
        trajectories=(pair.chosen, pair.rejected),
        scores=(_scored(pair.chosen, 1.0), _scored(pair.rejected, 0.0)),
        weight=pair.weight,
    )


def _scored(trajectory: Trajectory, total: float) -> Score:
    per_turn = np.zeros(len(trajectory.turns), dtype=np.float32)
    per_turn[-1:] = total
    return Score(per_turn=per_turn)


class DemonstrationSource(BufferedSource):
    """Demonstrations, made by their index in processes of their own and ahead of the learner."""

    def __init__(self, maker: DemonstrationMaker, *, groups_per_step: int, num_workers: int, start: int) -> None:
        """Start the processes.

        Args:
            maker: makes one group; is sent to every process.
            groups_per_step: groups the learner takes at once.
            num_workers: processes; 0 makes the groups in a thread of this one.
            start: index of the first group.
        """
        self._maker = maker
        self._executor: ProcessPoolExecutor | None = None
        if num_workers:
            self._executor = ProcessPoolExecutor(
                num_workers,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_start_worker,
                initargs=(maker,),
            )
            # The processes get ready while the learner does.
            for _ in range(num_workers):
                self._executor.submit(_prepare_worker)
        super().__init__(Buffer(self._make, num_slots=(1 + PREFETCHED_STEPS) * groups_per_step, start=start))

    async def _make(self, index: int) -> ScoredGroup:
        if self._executor is None:
            return await asyncio.to_thread(self._maker, index)
        return await asyncio.get_running_loop().run_in_executor(self._executor, _make_in_worker, index)

    async def close(self) -> None:
        """Stop the processes."""
        await super().close()
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)


class DemonstrationMaker:
    """Makes the demonstration of an index: the same one in every process and every run."""

    def __init__(self, *, source: Source, model_path: str, renderer: Component, max_turns: int, seed: int) -> None:
        """Describe what to make.

        Args:
            source: its tasks, env and demonstrator.
            model_path: whose tokenizer and chat template render the demonstrations.
            renderer: factory(model_path, **options) -> renderer.
            max_turns: of one episode.
            seed: of tasks and demonstrators.
        """
        self._source = source
        self._model_path = model_path
        self._component = renderer
        self._max_turns = max_turns
        self._seed = seed

    @cached_property
    def _renderer(self) -> Renderer:
        """Made where it is first used: it is not sent between processes."""
        return self._component.build(self._model_path)

    @cached_property
    def _tasks(self) -> Tasks:
        return build_tasks(self._source.tasks, self._seed)

    def prepare(self) -> None:
        """Make now what the first group would otherwise wait for."""
        self._tasks.task(0)
        self._renderer.encode("")

    def __call__(self, index: int) -> ScoredGroup:
        """The group of one demonstration."""
        task = self._tasks.task(index)
        demonstrator, mask_errors = self._source.demonstrated(index)
        trajectory = _completed(
            demonstrate(
                task,
                self._source.env.build,
                demonstrator.build(task, seed=self._seed + index),
                self._renderer,
                trajectory_id=f"demonstration-{index}",
                group_id=f"demonstration-{index}",
                max_turns=self._max_turns,
                mask_errors=mask_errors,
            )
        )
        return ScoredGroup(trajectories=(trajectory,))


def _completed(work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`.

    `asyncio.run` would install a signal handler each time, which formats the last result: at twice the price of it.
    """
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(work)
    finally:
        loop.close()


_worker_maker: DemonstrationMaker | None = None


def _start_worker(maker: DemonstrationMaker) -> None:
    """Prepare a process that leaves Ctrl-C to its parent and ends with it."""
    global _worker_maker
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
    _worker_maker = maker


def _prepare_worker() -> None:
    assert _worker_maker is not None
    _worker_maker.prepare()


def _make_in_worker(index: int) -> ScoredGroup:
    assert _worker_maker is not None
    return _worker_maker(index)
