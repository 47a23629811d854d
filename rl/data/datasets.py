"""The data sets that `tether data` names: task files, sets of the tool world, benchmarks, conversations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from envs.benchmarks import BENCHMARKS
from envs.schema import signature
from envs.tasks import SUFFIXES, read_tasks
from envs.types import Task, ToolSpec
from rl import benchmarks
from rl.errors import BadInput
from rl.task_sets import SETS, task_set
from rollout.recorded import read_rows, recorded_of, recorded_task, shown

FORMS = (
    "a task file, a file of conversations (messages and tools), a benchmark as NAME:DIR, or one of "
    f"{', '.join(SETS)} (made from a seed)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSet:
    """Tasks by a name, and the file or folder that they were read from."""

    name: str
    tasks: Sequence[Task]
    path: Path | None = None
    """None: they follow from a seed."""

    @property
    def inputs(self) -> tuple[Path, ...]:
        """What a job that reads it depends on."""
        return () if self.path is None else (self.path,)

    def tools(self) -> Iterator[ToolSpec]:
        """Every distinct document of a tool, in the order in which they come."""
        seen: set[str] = set()
        for task in self.tasks:
            for tool in task.tools:
                text = str(tool.to_json())
                if text not in seen:
                    seen.add(text)
                    yield tool


def read_dataset(name: str, *, num: int, seed: int) -> DataSet:
    """The data set called `name`; a conversation is the task that it did, with no known reference.

    Args:
        name: as FORMS says.
        num: size of a set that is made from a seed.
        seed: of a set that is made from one.

    Raises:
        BadInput: there is none, or it cannot be read, or holds nothing.
    """
    try:
        found = _read(name, num, seed)
    except ValueError as error:
        raise BadInput(str(error)) from error
    if not found.tasks:
        raise BadInput(f"{name}: holds no tasks")
    return found


def _read(name: str, num: int, seed: int) -> DataSet:
    if name in SETS:
        return DataSet(name=name, tasks=task_set(name, num, seed).tasks)
    benchmark, colon, folder = name.partition(":")
    if colon and benchmark in BENCHMARKS:
        suite = benchmarks.load(benchmark, Path(folder))
        return DataSet(name=benchmark, tasks=suite.all_tasks, path=suite.folder)
    path = Path(name)
    if not path.is_file() or not name.endswith(SUFFIXES):
        raise ValueError(f"{name}: no such data set; expected {FORMS}")
    return DataSet(name=path.name, tasks=_tasks_of_file(path), path=path)


def _tasks_of_file(path: Path) -> Sequence[Task]:
    first = next(iter(read_rows(path)), None)
    if first is None or "messages" not in first.value:
        return read_tasks(path)
    tasks = []
    for row in read_rows(path):
        try:
            recorded = recorded_of(row, unreadable_calls=True)
            for tool in recorded.tools:
                _expect_signature(tool)
            tasks.append(recorded_task(recorded, f"{path.name}:{row.number}"))
        except ValueError as error:
            raise ValueError(f"{row.where}: {error}") from error
    return tasks


def _expect_signature(tool: ToolSpec) -> None:
    """The parameters can be read as those of a tool. Types that JSON schema lacks are left: recorded tools have them.

    Raises:
        ValueError: they cannot.
    """
    try:
        signature(tool)
    except (AttributeError, TypeError) as error:
        parameters = shown(dict(tool.parameters))
        raise ValueError(f"tools: {tool.name}: expected a JSON schema as parameters, got {parameters}") from error
