"""The files that `tether data` writes: JSON lines or Parquet, whole or not at all."""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from envs.tasks import SUFFIXES
from envs.types import Json

if TYPE_CHECKING:
    import pyarrow as pa

JSON_FIELDS = frozenset({"messages", "tools", "prompt", "reference", "facts", "chosen", "rejected", "source"})
"""Those that are JSON strings in Parquet whatever they hold: readers of tasks, conversations and pairs expect it."""

ROWS_AT_ONCE = 1024

MAX_EXACT = 2**53
"""Up to this size every whole number is a float too."""

Records = Callable[[], Iterator[Mapping[str, Json]]]
"""Gives the records from the first one on, each time it is called."""


def has_known_suffix(path: Path) -> bool:
    """Whether the name of a file says how it is written."""
    return path.name.endswith(SUFFIXES)


def num_rows(path: Path) -> int | None:
    """How many rows a file has, blank lines counted; None: it cannot be told, and reading it will say why."""
    try:
        if path.suffix == ".parquet":
            import pyarrow as pa
            import pyarrow.parquet as pq

            try:
                return pq.read_metadata(path).num_rows
            except pa.ArrowException:
                return None
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
    except (OSError, EOFError, zlib.error):
        return None


def write_records(path: Path, records: Records) -> int:
    """Write records in the format that the name asks for, and return how many. The same records give the same bytes.

    Lists and objects are JSON strings in Parquet, as are the fields that hold values of several kinds.

    Args:
        path: ends in one of `envs.tasks.SUFFIXES`; what stood there is replaced at the end, at once.
        records: is called twice for Parquet, whose columns are known before the first row.
    """
    with replacing(path) as temporary:
        if path.suffix == ".parquet":
            return _write_parquet(temporary, records)
        return _write_lines(temporary, records(), compressed=path.suffix == ".gz")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file beside `path` that takes its place if all goes well, so that no reader sees half a file."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _write_lines(path: Path, records: Iterable[Mapping[str, Json]], *, compressed: bool) -> int:
    num = 0
    # Without a time stamp and a name, the same records give the same bytes.
    with path.open("wb") as raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) if compressed else raw as file:
        for record in records:
            file.write(_line(record))
            num += 1
    return num


def _line(record: Mapping[str, Json]) -> bytes:
    try:
        return f"{json.dumps(record, ensure_ascii=False)}\n".encode()
    except UnicodeEncodeError:  # Half of a surrogate pair has no UTF-8.
        return f"{json.dumps(record)}\n".encode()


def _write_parquet(path: Path, records: Records) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = _arrow_schema(records())
    as_json = {field.name for field in schema if (field.metadata or {}).get(b"json")}
    num = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as file:
        rows = records()
        while batch := [_row(record, as_json) for record in islice(rows, ROWS_AT_ONCE)]:
            file.write_table(pa.Table.from_pylist(batch, schema=schema))
            num += len(batch)
    return num


def _arrow_schema(records: Iterable[Mapping[str, Json]]) -> pa.Schema:
    """A column for each field, in the order in which the fields first occur."""
    import pyarrow as pa

    kinds: dict[str, set[str]] = {}
    for record in records:
        for name, value in record.items():
            kinds.setdefault(name, set()).add(_kind(name, value))
    plain: dict[str, Any] = {"bool": pa.bool_(), "int": pa.int64(), "float": pa.float64(), "str": pa.string()}
    fields = []
    for name, found in kinds.items():
        found.discard("null")
        if "float" not in found and "wide int" in found:
            found = found - {"wide int"} | {"int"}
        elif found == {"int", "float"}:
            found = {"float"}
        (kind,) = found if len(found) == 1 else ("json",)
        if kind == "json":
            fields.append(pa.field(name, pa.string(), metadata={"json": "1"}))
        else:
            fields.append(pa.field(name, plain[kind]))
    return pa.schema(fields, metadata={"tether.schema": "1"})


def _kind(name: str, value: Json) -> str:
    if name in JSON_FIELDS:
        return "json"
    if value is None:
        return "null"
    kind = type(value).__name__
    if kind == "int" and not -(2**63) <= value < 2**63:
        return "json"
    if kind == "int" and abs(value) > MAX_EXACT:
        return "wide int"
    return kind if kind in ("bool", "int", "float", "str") else "json"


def _row(record: Mapping[str, Json], as_json: set[str]) -> dict[str, Json]:
    return {
        name: json.dumps(value) if name in as_json and value is not None else value for name, value in record.items()
    }
