"""One reply of an endpoint to each task of a benchmark, kept in parts as they come. Imports neither torch nor Ray.

tasks --> a bounded number of requests under way --> a part is written once all its tasks have a reply

A call that goes on with the same settings asks for the parts that are missing, or in which a request failed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from envs.component import Component
from envs.types import Json, Task
from rl.data.episode_parts import EpisodeParts
from rollout.endpoint import EndpointPolicy
from rollout.episode import converse
from rollout.store import read_trajectories
from rollout.trajectory import Ending, Trajectory

ENV_TIMEOUT = 60.0


class Asked(EpisodeParts):
    """The folder of the episodes of an endpoint."""

    def __init__(
        self, folder: Path, identity: Mapping[str, Json], tasks: Sequence[Task], env: Component, *, overwrite: bool
    ) -> None:
        """Open or begin a folder.

        Args:
            folder: of the episodes.
            identity: all that decides what is answered, but the tasks.
            tasks: what is asked, in their order.
            env: of an episode; ends it after one reply.
            overwrite: begin anew if the folder is of another call.

        Raises:
            BadInput: as `EpisodeParts`.
        """
        names = [task.task_id for task in tasks]
        super().__init__(folder, {**identity, "env": env.factory, "tasks": names}, overwrite=overwrite)
        self._tasks = tasks
        self._env = env

    async def ask(
        self, policy: EndpointPolicy, *, concurrency: int, offer_actions: bool, note: Callable[[int], None]
    ) -> list[Trajectory]:
        """Ask for what is missing; the episodes of all tasks in their order.

        Args:
            policy: the endpoint.
            concurrency: requests at a time.
            offer_actions: as for `rollout.episode.converse`.
            note: told how many more tasks have an episode.
        """
        kept = {part: episodes for part in self._parts() if (episodes := self._kept(part)) is not None}
        note(sum(map(len, kept)))
        free = asyncio.Semaphore(concurrency)

        async def one(task: Task) -> Trajectory:
            async with free:
                found = await converse(
                    task,
                    self._env.build,
                    policy,
                    trajectory_id=task.task_id,
                    max_turns=1,
                    offer_actions=offer_actions,
                    env_timeout=ENV_TIMEOUT,
                )
            note(1)
            return found

        async def whole(part: range) -> list[Trajectory]:
            if part in kept:
                return kept[part]
            found = await asyncio.gather(*[one(self._tasks[index]) for index in part])
            self.write(part, [[episode] for episode in found], self._env.factory)
            return found

        parts = await asyncio.gather(*map(whole, self._parts()))
        return [episode for part in parts for episode in part]

    def _parts(self) -> list[range]:
        return self.parts(len(self._tasks))

    def _kept(self, part: range) -> list[Trajectory] | None:
        path = self.path(part)
        if not path.is_file():
            return None
        found = list(read_trajectories(path))
        return None if any(episode.ending is Ending.ENGINE_FAILED for episode in found) else found
