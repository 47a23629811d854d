"""The sets of tasks that commands and evaluations name. Imports nothing heavy: a wrong name is refused first."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from envs.component import Component
from envs.detection.tasks import DetectionTasks
from envs.tasks import SUFFIXES, read_tasks
from envs.toolworld import ToolWorldTasks
from envs.types import Task

SETS = ("heldout", "real", "train", "detection")
DETECTION_ENV = Component(factory="envs.detection.env:DetectionEnv")
DETECTION_TURNS = 20
"""A response has up to five sentences; some are checked twice or linked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSet:
    """Tasks that are reported together."""

    name: str
    tasks: Sequence[Task]
    env: Component | None = None
    """The environment that these tasks are made for; None: that of whoever runs them."""
    turns: int = 0
    """That an episode of these tasks may need, whatever limit is set for others."""


def task_sets(names: Sequence[str], *, num: int, num_others: int, seed: int) -> list[TaskSet]:
    """The sets of an evaluation, the first one with `num` tasks, the others with `num_others`.

    Raises:
        ValueError: as `task_set`.
    """
    sizes = [num, *[num_others] * (len(names) - 1)]
    return [task_set(name, size, seed) for name, size in zip(names, sizes, strict=True)]


def task_set(name: str, num: int, seed: int) -> TaskSet:
    """`num` tasks of a set.

    Args:
        name: `heldout` (unseen procedural tools), `real` (unseen real API documents), `train` (procedural tools of
            the training split), `detection` (unseen responses to be checked, English and Chinese), or a task file.
        num: how many; of a file, at most so many.
        seed: of the procedural sets.

    Raises:
        ValueError: no such set or file, a file that cannot be read or holds nothing, or `num` is below 1.
    """
    if num < 1:
        raise ValueError(f"{num} tasks of {name}: expected at least 1")
    if name in ("heldout", "train"):
        return TaskSet(name=name, tasks=list(ToolWorldTasks(split=name, seed=seed, num=num)))
    if name == "real":
        return TaskSet(
            name="real_apis", tasks=list(ToolWorldTasks(split="heldout", catalogue="real", seed=seed, num=num))
        )
    if name == "detection":
        tasks = list(DetectionTasks(split="heldout", seed=seed, num=num))
        return TaskSet(name=name, tasks=tasks, env=DETECTION_ENV, turns=DETECTION_TURNS)
    return TaskSet(name=Path(name).name.split(".")[0], tasks=_of_file(name)[:num])


def _of_file(name: str) -> list[Task]:
    if not name.endswith(SUFFIXES) and "/" not in name:
        near = difflib.get_close_matches(name, SETS, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ValueError(
            f"task set {name!r}: {hint}expected {', '.join(SETS)}, or a file ending in {', '.join(SUFFIXES)}"
        )
    tasks = read_tasks(name)
    if not tasks:
        raise ValueError(f"{name}: the file holds no tasks")
    return tasks
