"""Trajectories and scores as Parquet datasets, and the exactly-once ledger of what became of each trajectory.

    <run>/trajectories/step=N/part-0.parquet     one row for each trajectory
    <run>/scores/step=N/part-0.parquet           one row for each trajectory and scheme
    <run>/ledger.jsonl                           one line for each trajectory: trained, failed, stale or dropped

Readable by anything that reads Parquet (pyarrow.dataset, DuckDB), without this package. Columns are described by
`trajectory_schema` and `score_schema`; the version stands in the file metadata under `tether.schema`.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from envs.types import Json, Message, Outcome, Task, ToolResult, ToolSpec
from rollout.parsers import CallPlace
from rollout.trajectory import Ending, Trajectory, Turn

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA_VERSION = 1


def trajectory_schema() -> pa.Schema:
    """Columns of `trajectories`; those called JSON are strings."""
    import pyarrow as pa

    turn = pa.struct(
        [
            ("message", pa.string()),  # JSON
            ("results", pa.string()),  # JSON list
            ("start", pa.int32()),
            ("end", pa.int32()),
            ("new_tools", pa.string()),  # JSON list; null: unchanged
            ("train", pa.bool_()),
            ("places", pa.string()),  # JSON list, in tokens; null: not known
            ("heard", pa.string()),  # JSON list of messages; null: none
        ]
    )
    return _versioned(
        [
            ("trajectory_id", pa.string()),
            ("group_id", pa.string()),
            ("task_id", pa.string()),
            ("task_kind", pa.string()),
            ("env", pa.string()),
            ("seed", pa.int64()),
            ("tools", pa.string()),  # JSON list
            ("turns", pa.list_(turn)),
            ("token_ids", pa.list_(pa.int32())),
            ("action_mask", pa.list_(pa.bool_())),
            ("logprobs", pa.list_(pa.float32())),  # NaN where no engine sampled
            ("oldest_version", pa.int64()),
            ("newest_version", pa.int64()),
            ("ending", pa.string()),
            ("outcome", pa.string()),  # JSON
            ("error", pa.string()),
            ("seconds", pa.float64()),
            ("task", pa.string()),  # JSON: the whole task, so that the row can be read back
        ]
    )


def score_schema() -> pa.Schema:
    """Columns of `scores`."""
    import pyarrow as pa

    error = pa.struct(
        [
            ("turn", pa.int32()),
            ("call", pa.int32()),  # null: a call that was never made
            ("kind", pa.string()),
            ("argument", pa.string()),  # JSON pointer or null
            ("detail", pa.string()),
            ("start", pa.int32()),
            ("end", pa.int32()),
        ]
    )
    return _versioned(
        [
            ("trajectory_id", pa.string()),
            ("scheme", pa.string()),
            ("total", pa.float64()),  # null: unscored
            ("per_turn", pa.list_(pa.float32())),
            ("errors", pa.list_(error)),
        ]
    )


def write_trajectories(
    run: str | Path, step: int, trajectories: Iterable[Trajectory], *, env: str = "", part: str = "part-0"
) -> Path:
    """Write the trajectories of one step; the same step and part written again replaces what was there.

    Args:
        run: the run directory.
        step: training step.
        trajectories: rows, in this order.
        env: name of the environment, such as its factory path.
        part: file name without suffix, for several writers of one step.
    """
    rows = [_row_of_trajectory(trajectory, env) for trajectory in trajectories]
    return _write(Path(run) / "trajectories" / f"step={step}" / f"{part}.parquet", rows, trajectory_schema())


def write_scores(run: str | Path, step: int, rows: Iterable[Mapping[str, Any]], *, part: str = "part-0") -> Path:
    """Write the scores of one step: rows with the columns of `score_schema`."""
    plain = [{**row, "total": _null_if_nan(row["total"])} for row in rows]
    return _write(Path(run) / "scores" / f"step={step}" / f"{part}.parquet", plain, score_schema())


def read_trajectories(path: str | Path) -> Iterator[Trajectory]:
    """The trajectories of a run directory, a dataset, one step or one file, in the order of steps.

    Raises:
        ValueError: nothing is there, or a file is no such file of this version.
    """
    for row in _rows(Path(path), "trajectories"):
        yield _trajectory_of_row(row)


def read_scores(path: str | Path) -> Iterator[dict[str, Any]]:
    """The rows of `write_scores`, in the order of steps; `total` is None where there is no score.

    Raises:
        ValueError: nothing is there, or a file is no such file of this version.
    """
    yield from _rows(Path(path), "scores")


class Fate(StrEnum):
    """What became of a trajectory."""

    TRAINED = "trained"
    FAILED = "failed"
    """The infrastructure failed: counted, not scored."""
    STALE = "stale"
    """Sampled by weights that were too old when its turn came."""
    DROPPED = "dropped"
    """Left out for another reason: no score, or no signal in its group."""


class Ledger:
    """Every trajectory gets one fate, once. Append-only, and kept across crashes: a torn last line never counted."""

    def __init__(self, path: str | Path) -> None:
        """Open or begin a ledger.

        Raises:
            ValueError: a line of the file is no entry.
        """
        self.path = Path(path)
        self._fates: dict[str, tuple[Fate, int]] = {}
        self._load()

    def __len__(self) -> int:
        return len(self._fates)

    def record(self, trajectory_ids: Sequence[str], fate: Fate, step: int) -> None:
        """Give these trajectories their fate; all of them or, on an error, none.

        Raises:
            ValueError: one of them already has a fate.
        """
        if len(set(trajectory_ids)) != len(trajectory_ids):
            twice = next(name for name, count in Counter(trajectory_ids).items() if count > 1)
            raise ValueError(f"trajectory {twice} is named twice")
        for trajectory_id in trajectory_ids:
            if trajectory_id in self._fates:
                known, at = self._fates[trajectory_id]
                raise ValueError(f"trajectory {trajectory_id} was {known} at step {at}; it cannot become {fate}")
        self._append([{"trajectory_id": name, "fate": str(fate), "step": step} for name in trajectory_ids])
        self._fates.update(dict.fromkeys(trajectory_ids, (fate, step)))

    def resume(self, step: int) -> None:
        """Void the fates given at `step` or later: a run that continues from a checkpoint does these steps again."""
        self._append([{"resumed_at": step}])
        self._void(step)

    def fate(self, trajectory_id: str) -> Fate | None:
        """What became of a trajectory; None: nothing yet."""
        entry = self._fates.get(trajectory_id)
        return entry[0] if entry else None

    def counts(self) -> dict[Fate, int]:
        """How many trajectories had each fate."""
        counted = Counter(fate for fate, _ in self._fates.values())
        return {fate: counted[fate] for fate in Fate}

    def _load(self) -> None:
        if not self.path.exists():
            return
        data = self.path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) != len(data):
            os.truncate(self.path, len(whole))
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                self._replay(json.loads(line))
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{self.path}, line {number}: not an entry of a ledger: {error}") from error

    def _replay(self, entry: Mapping[str, Any]) -> None:
        if "resumed_at" in entry:
            self._void(entry["resumed_at"])
        elif entry["trajectory_id"] in self._fates:
            raise ValueError(f"a second fate for {entry['trajectory_id']}")
        else:
            self._fates[entry["trajectory_id"]] = (Fate(entry["fate"]), int(entry["step"]))

    def _void(self, step: int) -> None:
        self._fates = {name: entry for name, entry in self._fates.items() if entry[1] < step}

    def _append(self, entries: Sequence[Mapping[str, Any]]) -> None:
        if not entries:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(entry) + "\n" for entry in entries))
            file.flush()
            os.fsync(file.fileno())


def _versioned(fields: list[tuple[str, pa.DataType]]) -> pa.Schema:
    import pyarrow as pa

    return pa.schema(fields, metadata={"tether.schema": str(SCHEMA_VERSION)})


def _row_of_trajectory(trajectory: Trajectory, env: str) -> dict[str, Any]:
    return {
        "trajectory_id": trajectory.trajectory_id,
        "group_id": trajectory.group_id,
        "task_id": trajectory.task.task_id,
        "task_kind": str(trajectory.task.kind),
        "env": env,
        "seed": trajectory.task.seed,
        "tools": _json_of_tools(trajectory.tools),
        "turns": [_row_of_turn(turn) for turn in trajectory.turns],
        "token_ids": trajectory.token_ids,
        "action_mask": trajectory.action_mask,
        "logprobs": trajectory.logprobs,
        "oldest_version": trajectory.oldest_version,
        "newest_version": trajectory.newest_version,
        "ending": str(trajectory.ending),
        "outcome": json.dumps(trajectory.outcome.to_json()),
        "error": trajectory.error.encode("utf-8", "replace").decode(),
        "seconds": trajectory.seconds,
        "task": json.dumps(trajectory.task.to_json()),
    }


def _row_of_turn(turn: Turn) -> dict[str, Any]:
    return {
        "message": json.dumps(turn.message.to_json()),
        "results": json.dumps([result.to_json() for result in turn.results]),
        "start": turn.start,
        "end": turn.end,
        "new_tools": None if turn.new_tools is None else _json_of_tools(turn.new_tools),
        "train": turn.train,
        "places": json.dumps([place.to_json() for place in turn.places]) if turn.places else None,
        "heard": json.dumps([message.to_json() for message in turn.heard]) if turn.heard else None,
    }


def _trajectory_of_row(row: Mapping[str, Any]) -> Trajectory:
    return Trajectory(
        trajectory_id=row["trajectory_id"],
        group_id=row["group_id"],
        task=Task.from_json(json.loads(row["task"])),
        tools=_tools_of_json(row["tools"]),
        turns=tuple(_turn_of_row(turn) for turn in row["turns"]),
        token_ids=np.asarray(row["token_ids"], dtype=np.int32),
        action_mask=np.asarray(row["action_mask"], dtype=bool),
        logprobs=np.asarray(row["logprobs"], dtype=np.float32),
        oldest_version=row["oldest_version"],
        newest_version=row["newest_version"],
        ending=Ending(row["ending"]),
        outcome=Outcome.from_json(json.loads(row["outcome"])),
        error=row["error"],
        seconds=row["seconds"],
    )


def _turn_of_row(row: Mapping[str, Any]) -> Turn:
    places, heard = row.get("places"), row.get("heard")  # Files may be older than these columns.
    return Turn(
        message=Message.from_json(json.loads(row["message"])),
        results=tuple(ToolResult.from_json(result) for result in json.loads(row["results"])),
        start=row["start"],
        end=row["end"],
        new_tools=None if row["new_tools"] is None else _tools_of_json(row["new_tools"]),
        train=row["train"],
        heard=() if heard is None else tuple(Message.from_json(message) for message in json.loads(heard)),
        places=() if places is None else tuple(CallPlace.from_json(place) for place in json.loads(places)),
    )


def _json_of_tools(tools: Iterable[ToolSpec]) -> str:
    return json.dumps([tool.to_json() for tool in tools])


def _tools_of_json(text: str) -> tuple[ToolSpec, ...]:
    values: list[Json] = json.loads(text)
    return tuple(ToolSpec.from_json(value) for value in values)


def _null_if_nan(value: float | None) -> float | None:
    return None if value is None or np.isnan(value) else float(value)


def _write(path: Path, rows: list[dict[str, Any]], schema: pa.Schema) -> Path:
    """Write beside the place and rename, so that a reader never sees half a file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pylist(rows, schema=schema)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        pq.write_table(table, temporary, compression="zstd")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _rows(path: Path, dataset: str) -> Iterator[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for file_path in dataset_files(path, dataset):
        try:
            file = pq.ParquetFile(file_path)
            _check_version(file, file_path)
            _check_columns(file, file_path, dataset)
            for batch in file.iter_batches(batch_size=64):
                yield from batch.to_pylist()
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"{file_path}: not a Parquet file that can be read: {error}") from error


def _check_version(file: Any, path: Path) -> None:
    found = (file.schema_arrow.metadata or {}).get(b"tether.schema", b"").decode()
    if found != str(SCHEMA_VERSION):
        raise ValueError(f"{path}: expected tether.schema = {SCHEMA_VERSION} in the metadata, found {found!r}")


def _check_columns(file: Any, path: Path, dataset: str) -> None:
    schema = trajectory_schema() if dataset == "trajectories" else score_schema()
    missing = [name for name in schema.names if name not in file.schema_arrow.names]
    if missing:
        raise ValueError(f"{path}: expected the columns of {dataset}; there is no {missing[0]}")


def dataset_files(path: Path, dataset: str) -> list[Path]:
    """The Parquet files of a run directory, a dataset (`trajectories` or `scores`), one step, or one file; by step.

    Raises:
        ValueError: there are none.
    """
    if path.is_file():
        return [path]
    root = path / dataset if (path / dataset).is_dir() else path
    files = [file for file in root.rglob("*.parquet") if not file.name.startswith(".")]
    if not files:
        raise ValueError(f"{path}: expected a run directory with {dataset}/, or Parquet files; found none")
    return sorted(files, key=lambda file: (step_of(file), file.name))


def step_of(path: Path) -> int:
    """The training step that a file of a dataset belongs to; -1: its folder does not say."""
    number = path.parent.name.removeprefix("step=")
    return int(number) if number.isdecimal() else -1
