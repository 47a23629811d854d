"""Task files: JSON lines, plain or gzip-compressed, and Parquet; and their division into training and held-out."""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from envs.schema import check_schema
from envs.types import Json, Task

SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet")

_EXPECTED = 'a task: {"task_id": string, "prompt": string or messages, "tools": [function schemas], ...}'
_JSON_COLUMNS = ("prompt", "tools", "reference", "facts")


class TaskFile:
    """The tasks of a file, for `[source] tasks = {factory = "envs.tasks:TaskFile", options = {path = ...}}`."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._tasks = read_tasks(path)

    def __len__(self) -> int:
        return len(self._tasks)

    def __iter__(self) -> Iterator[Task]:
        return iter(self._tasks)

    def task(self, index: int) -> Task:
        """Task number `index`."""
        if not 0 <= index < len(self._tasks):
            raise IndexError(f"task {index} of {len(self._tasks)} in {self.path}")
        return self._tasks[index]


def read_tasks(path: str | Path) -> list[Task]:
    """Read a task file.

    Raises:
        ValueError: the file cannot be read, or a record in it is wrong; the message names file, line and fault.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such task file")
    match _suffix(path):
        case ".parquet":
            records = _read_parquet(path)
        case _:
            records = _read_lines(path)
    tasks: list[Task] = []
    seen: dict[str, int] = {}
    for number, record in records:
        task = _task(path, number, record)
        if task.task_id in seen:
            raise ValueError(f"{path}:{number}: task_id {task.task_id!r} was already on line {seen[task.task_id]}")
        seen[task.task_id] = number
        tasks.append(task)
    return tasks


def write_tasks(path: str | Path, tasks: Iterable[Task]) -> None:
    """Write a task file in the format its name asks for.

    Raises:
        ValueError: the name ends in none of SUFFIXES.
    """
    path = Path(path)
    match _suffix(path):
        case ".parquet":
            _write_parquet(path, tasks)
        case suffix:
            data = "".join(json.dumps(task.to_json()) + "\n" for task in tasks).encode()
            # Without a time stamp the same tasks give the same bytes.
            path.write_bytes(gzip.compress(data, mtime=0) if suffix == ".jsonl.gz" else data)


def split_tasks(tasks: Iterable[Task], *, heldout_share: float, seed: int = 0) -> tuple[list[Task], list[Task]]:
    """Training and held-out tasks. A hash of seed and id decides, so other tasks in the file change nothing."""
    if not 0 <= heldout_share <= 1:
        raise ValueError(f"heldout_share {heldout_share}: expected a number from 0 to 1")
    train: list[Task] = []
    heldout: list[Task] = []
    for task in tasks:
        digest = hashlib.sha256(f"{seed} {task.task_id}".encode()).digest()
        fraction = int.from_bytes(digest[:8], "big") / 2**64
        (heldout if fraction < heldout_share else train).append(task)
    return train, heldout


def _suffix(path: Path) -> str:
    for suffix in SUFFIXES:
        if path.name.endswith(suffix):
            return suffix
    raise ValueError(f"{path}: expected a task file ending in {', '.join(SUFFIXES)}")


def _read_lines(path: Path) -> Iterator[tuple[int, Json]]:
    opener = gzip.open if path.name.endswith(".gz") else open
    number = 0
    try:
        with opener(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                number += 1
                if line.strip():
                    yield number, json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}:{number}: not JSON ({error}); expected {_EXPECTED}") from error
    except (UnicodeDecodeError, EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path}:{number + 1}: cannot be read ({error}); expected UTF-8 JSON lines") from error


def _task(path: Path, number: int, record: Json) -> Task:
    if not isinstance(record, dict):
        raise ValueError(f"{path}:{number}: got {type(record).__name__}, expected {_EXPECTED}")
    missing = [name for name in ("task_id", "prompt", "tools") if name not in record]
    if missing:
        raise ValueError(f"{path}:{number}: lacks {', '.join(missing)}; expected {_EXPECTED}")
    try:
        task = Task.from_json(record)
        for tool in task.tools:
            check_schema(tool.parameters)
    except KeyError as error:
        raise ValueError(f"{path}:{number}: lacks {error.args[0]!r}; expected {_EXPECTED}") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path}:{number}: {error}; expected {_EXPECTED}") from error
    if not isinstance(task.task_id, str) or not task.prompt:
        raise ValueError(f"{path}:{number}: task_id must be a string and prompt not empty; expected {_EXPECTED}")
    return task


def _arrow_schema() -> Any:
    import pyarrow as pa

    return pa.schema(
        [
            ("task_id", pa.string()),
            ("prompt", pa.string()),
            ("tools", pa.string()),
            ("reference", pa.string()),
            ("ordered", pa.bool_()),
            ("answer", pa.string()),
            ("kind", pa.string()),
            ("seed", pa.int64()),
            ("facts", pa.string()),
        ],
        metadata={"tether.schema": "1"},
    )


def _write_parquet(path: Path, tasks: Iterable[Task]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        {name: json.dumps(value) if name in _JSON_COLUMNS else value for name, value in task.to_json().items()}
        for task in tasks
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=_arrow_schema()), path)


def _read_parquet(path: Path) -> Iterator[tuple[int, Json]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows = pq.read_table(path).to_pylist()
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path}: cannot be read as Parquet ({error})") from error
    for number, row in enumerate(rows, start=1):
        record = {name: value for name, value in row.items() if value is not None}
        for name in _JSON_COLUMNS:
            if name in record:
                try:
                    record[name] = json.loads(record[name])
                except (TypeError, json.JSONDecodeError) as error:
                    raise ValueError(
                        f"{path}:{number}: column {name} is not JSON ({error}); expected {_EXPECTED}"
                    ) from error
        yield number, record
