"""A folder of sampled episodes: task by task, kept as Parquet in parts, and gone on with. Imports no Ray."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from envs.types import Json
from rl.data.files import replacing
from rl.errors import BadInput, RunFailed
from rollout.store import read_trajectories, write_trajectories
from rollout.trajectory import Ending, Trajectory

IDENTITY = "sampling.json"

TASKS_OF_A_PART = 16
"""Tasks that are sampled and written together: what a stopped call has to do again."""


class EpisodeParts:
    """A folder of sampled episodes, written in parts of TASKS_OF_A_PART tasks."""

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
            raise BadInput(f"{folder}: is no folder of sampled episodes; expected none, or an empty one")
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

    def missing(self, num_tasks: int) -> list[range]:
        """The tasks of each part that is not there yet."""
        return [part for part in self.parts(num_tasks) if not self.path(part).is_file()]

    def unfinished(self, num_tasks: int) -> list[range]:
        """The tasks of each part that is not there yet, or in which an engine failed."""
        return [part for part in self.parts(num_tasks) if not self.path(part).is_file() or self._has_failed(part)]

    def sound(self, part: range) -> dict[str, list[Trajectory]]:
        """What a part has of the groups in which no engine failed, by group_id; nothing if it is not there."""
        path, groups = self.path(part), {}
        for episode in read_trajectories(path) if path.is_file() else ():
            groups.setdefault(episode.group_id, []).append(episode)
        return {
            name: group
            for name, group in groups.items()
            if not any(episode.ending is Ending.ENGINE_FAILED for episode in group)
        }

    def _has_failed(self, part: range) -> bool:
        import pyarrow.parquet as pq

        endings = pq.read_table(self.path(part), columns=["ending"]).column("ending").to_pylist()
        return Ending.ENGINE_FAILED in endings

    @staticmethod
    def parts(num_tasks: int) -> list[range]:
        """The tasks of each part."""
        return [range(first, min(first + TASKS_OF_A_PART, num_tasks)) for first in range(0, num_tasks, TASKS_OF_A_PART)]

    def path(self, part: range) -> Path:
        """The file of a part."""
        return self._step / f"{_name(part)}.parquet"

    def write(self, part: range, groups: Sequence[Sequence[Trajectory]], env: str) -> None:
        """Keep the episodes of a part.

        Args:
            part: of `missing`.
            groups: the episodes of each of its tasks.
            env: name of the environment.
        """
        kept = [trajectory for group in groups for trajectory in group]
        write_trajectories(self.folder, 0, kept, env=env, part=_name(part))

    @property
    def _step(self) -> Path:
        return self.folder / "trajectories" / "step=0"


def _name(part: range) -> str:
    return f"part-{part.start:06}"


def expect_one_sound(groups: Sequence[Sequence[Trajectory]]) -> None:
    """Refuse a part of which the infrastructure broke everything.

    Raises:
        RunFailed: with the first reason.
    """
    failed = [group[0] for group in groups if group[0].ending.is_failure]
    if failed and len(failed) == len(groups):
        reason = (failed[0].error.strip().splitlines() or ["no reason given"])[-1]
        raise RunFailed(f"every episode of a part failed by the infrastructure ({failed[0].ending}: {reason})")
