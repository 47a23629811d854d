"""The episodes behind `tether data token-pairs`: explored task by task, kept as Parquet in parts, and gone on with."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from envs.types import Json, Task
from rl.config import Config
from rl.console import make_progress
from rl.data.files import replacing
from rl.errors import BadInput, RunFailed
from rl.serving import with_pool
from rollout.exploration import Exploration
from rollout.pool import RolloutPool
from rollout.store import write_trajectories
from rollout.trajectory import Trajectory
from rollout.worker import EpisodeSettings

IDENTITY = "exploration.json"

TASKS_OF_A_PART = 16
"""Tasks that are explored at the same time and written together: what a stopped call has to do again."""


class Explored:
    """A folder of explored episodes."""

    def __init__(self, folder: Path, identity: Mapping[str, Json], *, overwrite: bool) -> None:
        """Open or begin a folder.

        Args:
            folder: of the episodes.
            identity: all that decides what is sampled.
            overwrite: begin anew if that is not the same.

        Raises:
            BadInput: the folder holds what another call sampled, or something else.
        """
        self.folder = folder
        self._identity = json.loads(json.dumps(identity))
        path = folder / IDENTITY
        if folder.exists() and not path.is_file() and any(folder.iterdir()):
            raise BadInput(f"{folder}: is no folder of explored episodes; expected none, or an empty one")
        if path.is_file() and (overwrite or json.loads(path.read_text()) != self._identity):
            if not overwrite:
                raise BadInput(
                    f"{folder}: holds episodes of a call with other settings; expected the same, another --out, or "
                    "--overwrite to begin anew"
                )
            for part in self._step.glob("*.parquet"):
                part.unlink()
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(self._identity, indent=2) + "\n")

    @property
    def _step(self) -> Path:
        return self.folder / "trajectories" / "step=0"

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
        parts = [
            range(first, min(first + TASKS_OF_A_PART, len(tasks))) for first in range(0, len(tasks), TASKS_OF_A_PART)
        ]
        missing = [part for part in parts if not (self._step / f"{_name(part)}.parquet").is_file()]
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
                    _expect_one_sound(groups)
                    kept = [trajectory for group in groups for trajectory in _candidates(group, exploration)]
                    write_trajectories(self.folder, 0, kept, env=settings.env.factory, part=_name(part))

        with_pool(config, self.folder, work)


def _name(part: range) -> str:
    return f"part-{part.start:06}"


def _candidates(group: Sequence[Trajectory], exploration: Exploration) -> list[Trajectory]:
    """Without the episode that was followed, if the policy did not say it; a failure is kept, to be counted."""
    followed, *candidates = group
    own = exploration.follow is None
    return [followed, *candidates] if own or followed.ending.is_failure else candidates


def _expect_one_sound(groups: Sequence[Sequence[Trajectory]]) -> None:
    failed = [group[0] for group in groups if group[0].ending.is_failure]
    if failed and len(failed) == len(groups):
        reason = (failed[0].error.strip().splitlines() or ["no reason given"])[-1]
        raise RunFailed(f"every episode of a part failed by the infrastructure ({failed[0].ending}: {reason})")
