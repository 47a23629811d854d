"""The episodes behind `tether data token-pairs`: explored task by task, kept as Parquet in parts, and gone on with."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from rich.console import Console

from envs.types import Task
from rl.config import Config
from rl.console import make_progress
from rl.data.episode_parts import EpisodeParts, expect_one_sound
from rl.serving import with_pool
from rollout.exploration import Exploration
from rollout.pool import RolloutPool
from rollout.trajectory import Trajectory
from rollout.worker import EpisodeSettings


class Explored(EpisodeParts):
    """A folder of explored episodes."""

    def sample(
        self,
        config: Config,
        tasks: Sequence[Task],
        settings: EpisodeSettings,
        exploration: Exploration,
        console: Console,
    ) -> None:
        """Explore the tasks that are not there yet.

        Raises:
            BadInput: as `rl.serving.with_pool`.
            RunFailed: as there; or the infrastructure broke every episode of a part.
            KeyboardInterrupt: the parts that were done are kept.
        """
        missing = self.missing(len(tasks))
        if not missing:
            return
        console.print(f"starting the engine for {config.model.path}", markup=False)

        async def work(pool: RolloutPool) -> None:
            with make_progress(console) as progress:
                done = len(tasks) - sum(map(len, missing))
                bar = progress.add_task("tasks", total=len(tasks), completed=done)

                async def one(index: int) -> list[Trajectory]:
                    found = await pool.explore(tasks[index], exploration, group_id=f"task-{index}", settings=settings)
                    progress.advance(bar)
                    return found

                for part in missing:
                    groups = await asyncio.gather(*[one(index) for index in part])
                    expect_one_sound(groups)
                    self.write(part, [_candidates(group, exploration) for group in groups], settings.env.factory)

        with_pool(config, self.folder, work)


def _candidates(group: Sequence[Trajectory], exploration: Exploration) -> list[Trajectory]:
    """Without the episode that was followed, if the policy did not say it; a failure is kept, to be counted."""
    followed, *candidates = group
    own = exploration.follow is None
    return [followed, *candidates] if own or followed.ending.is_failure else candidates
