"""Files of `tether score`: read in chunks, scored by one or several processes in order, written as they come.

Memory does not grow with the file: a bounded number of chunks is under way at a time. What was written stays readable
whatever happens: the output is closed before an error is told.

    lines -> chunks -> [score, score, ...] -> in order -> output
"""

from __future__ import annotations

import gc
import gzip
import json
import math
import secrets
import zlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import IO, Any, BinaryIO, NoReturn

import msgspec

from envs.types import Json
from rewards.replies import Scheme
from rewards.schemes import scheme
from rl.scoring import JSON_FIELDS, BadRecord, PlainRecord, ToolList, score_record

CHUNK_BYTES = 1 << 20
CHUNK_ROWS = 1024
MAX_LINE_BYTES = 1 << 26
"""A longer line is no record."""

SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet")

Item = bytes | dict[str, Json]
"""A line, or a row of Parquet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Consecutive lines or rows."""

    start: int
    """Number of the first one, from 1."""
    items: tuple[Item, ...]
    position: int
    """How far the file has been read behind them, in the units of `size`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A line that could not be scored."""

    number: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """What became of a chunk."""

    lines: bytes
    """The output."""
    num: int
    num_unscored: int
    total: float
    """Sum of the scores."""
    kinds: dict[str, int]
    """How often each kind of error."""
    faults: tuple[Fault, ...]


class Unreadable(ValueError):
    """The file itself cannot be read on."""


def size(path: Path) -> int:
    """How much there is to read: bytes, or rows of Parquet.

    Raises:
        Unreadable: it is no file that can be read.
    """
    if path.suffix == ".parquet":
        with _parquet(path) as file:
            return file.metadata.num_rows
    try:
        return path.stat().st_size
    except OSError as error:
        raise Unreadable(f"{path}: cannot be read: {error.strerror}") from error


def chunks(path: Path) -> Iterator[Chunk]:
    """The file in pieces.

    Raises:
        Unreadable: it is no file that can be read, or is broken from some line on.
    """
    return _row_chunks(path) if path.suffix == ".parquet" else _line_chunks(path)


def _line_chunks(path: Path) -> Iterator[Chunk]:
    start, lines, num_bytes = 1, [], 0
    try:
        with path.open("rb") as raw, gzip.open(raw) if path.suffix == ".gz" else raw as file:
            try:
                while line := file.readline(MAX_LINE_BYTES + 1):
                    num_bytes += len(line)
                    if len(line) > MAX_LINE_BYTES:
                        _skip_line(file, line)
                        line = b""  # Too long: only its number is kept.
                    lines.append(line)
                    if num_bytes >= CHUNK_BYTES:
                        yield Chunk(start=start, items=tuple(lines), position=raw.tell())
                        start, lines, num_bytes = start + len(lines), [], 0
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                # What came before is still to be scored.
                if lines:
                    yield Chunk(start=start, items=tuple(lines), position=raw.tell())
                raise Unreadable(f"{path}:{start + len(lines)}: cannot be read on: {error}") from error
            if lines:
                yield Chunk(start=start, items=tuple(lines), position=raw.tell())
    except OSError as error:
        raise Unreadable(f"{path}: cannot be read: {error.strerror or error}") from error


def _skip_line(file: BinaryIO | gzip.GzipFile, line: bytes) -> None:
    while line and not line.endswith(b"\n"):
        line = file.readline(CHUNK_BYTES)


def _row_chunks(path: Path) -> Iterator[Chunk]:
    import pyarrow as pa

    start = 1
    with _parquet(path) as file:
        try:
            for batch in file.iter_batches(batch_size=CHUNK_ROWS):
                rows = batch.to_pylist()
                yield Chunk(start=start, items=tuple(rows), position=start + len(rows) - 1)
                start += len(rows)
        except (pa.ArrowException, OSError) as error:
            raise Unreadable(f"{path}:{start}: cannot be read on: {error}") from error


@contextmanager
def _parquet(path: Path) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise Unreadable(f"{path}: cannot be read as Parquet: {error}") from error
    with file:
        yield file


# One chunk.


def score_chunk(chunk: Chunk, scheme_: Scheme, *, skip_bad: bool, reader: RecordReader | None = None) -> Scored:
    """Score the lines of a chunk, to the first that cannot be scored unless those are skipped.

    Args:
        chunk: lines or rows.
        scheme_: what scores them.
        skip_bad: whether to go on after a line that cannot be scored.
        reader: one for all chunks of a file remembers their tools.
    """
    reader = reader or RecordReader()
    lines: list[dict[str, Json]] = []
    faults: list[Fault] = []
    kinds: dict[str, int] = {}
    num_unscored, total = 0, 0.0
    for number, item in enumerate(chunk.items, start=chunk.start):
        if isinstance(item, bytes) and item.isspace():
            continue
        try:
            line = score_record(reader.read(item, first=number == 1), scheme_)
        except BadRecord as error:
            faults.append(Fault(number=number, reason=" ".join(str(error).split())))
            if skip_bad:
                continue
            break
        if line["score"] is None:
            num_unscored += 1
        else:
            total += line["score"]
        for error in line["errors"]:
            kinds[error["kind"]] = kinds.get(error["kind"], 0) + 1
        lines.append(line)
    return Scored(
        lines=_encode(lines),
        num=len(lines),
        num_unscored=num_unscored,
        total=total,
        kinds=kinds,
        faults=tuple(faults),
    )


def _encode(lines: list[dict[str, Json]]) -> bytes:
    try:
        return _ENCODER.encode_lines(lines)
    except ValueError:  # UTF-8 has no half of a surrogate pair, and JSON has an escape for it.
        return "".join([f"{json.dumps(line)}\n" for line in lines]).encode()


def _refuse(name: str) -> NoReturn:
    raise BadRecord(f"not JSON: {name} is no number of it")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise BadRecord(f"not JSON that can be read: {text} is out of range")
    return value


_DECODER = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite)


def _load(text: str) -> Json:
    """JSON, read by msgspec, which is several times as fast; what it refuses is for the standard library to read (half
    of a surrogate pair, say), or to say what is wrong with.

    Raises:
        ValueError: it is not JSON.
        RecursionError: it is nested too deeply.
    """
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return _DECODER.decode(text)


_ENCODER = msgspec.json.Encoder()


class _Tools(msgspec.Struct):
    """Of a line, the text of its tools."""

    tools: msgspec.Raw


_TOOLS_OF = msgspec.json.Decoder(_Tools)
_PLAIN = msgspec.json.Decoder(PlainRecord)


def _plain_record(text: str) -> PlainRecord | None:
    try:
        record = _PLAIN.decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return record if record.is_plain() else None


class RecordReader:
    """Lines and rows -> records. Most of a line are its tools, and most tools stand in many lines: they are known by
    their text, and only what is left of the line is read.
    """

    def __init__(self) -> None:
        self._lists: dict[str, list[tuple[str, ToolList]]] = {}
        """By the beginning of the text: the newest lists that begin so."""
        self._num_characters = 0
        self._mark = secrets.randbits(60)
        """Stands for the tools in what is left of a line."""

    def read(self, item: Item, *, first: bool = False) -> Json:
        """The record of a line or row, as a PlainRecord where it is one.

        Raises:
            BadRecord: it is not JSON.
        """
        if isinstance(item, dict):
            record = {name: value for name, value in item.items() if value is not None}
            for name in JSON_FIELDS:
                # Structs of Parquet have every field in every row: what was not given could not be told from null.
                if name in record and not isinstance(record[name], str):
                    raise BadRecord(f"column {name}: expected JSON as a string, got {type(record[name]).__name__}")
            columns = [name for name in JSON_FIELDS if name in record]
            return record | {name: _decode(record[name], f"column {name}: ") for name in columns}
        if not item:
            raise BadRecord(f"longer than {MAX_LINE_BYTES >> 20} MiB")
        try:
            text = item.decode("utf-8-sig" if first else "utf-8")
        except UnicodeDecodeError as error:
            raise BadRecord(f"not UTF-8: {error.reason} at byte {error.start + 1}") from error
        start = text.find(_TOOLS)
        if start >= 0:
            start += len(_TOOLS)
            record = self._with_tools(text, start + 1 if text.startswith(" ", start) else start)
            if record is not None:
                return record
        return _decode(text)

    def _with_tools(self, text: str, start: int) -> dict[str, Json] | PlainRecord | None:
        """The record whose tools stand at `start`; None if that cannot be relied on."""
        if not text.startswith("[", start):
            return None
        try:
            tools, end = self._list_at(text, start)
            text = f"{text[:start]}{self._mark}{text[end:]}"
            record = _plain_record(text)
            if record is not None and record.tools == self._mark:
                record.tools = tools
                return record
            record = _load(text)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return None  # The line is read as a whole, and what is wrong with it told from that.
        if not isinstance(record, dict) or record.get("tools") != self._mark:
            return None
        record["tools"] = tools
        return record

    def _list_at(self, text: str, start: int) -> tuple[ToolList, int]:
        known = self._lists.setdefault(text[start : start + _HEAD], [])
        for written, tools in known:
            if text.startswith(written, start):
                return tools, start + len(written)
        written = bytes(_TOOLS_OF.decode(text).tools).decode()
        if not text.startswith(written, start):
            raise ValueError("the tools stand elsewhere in the line")
        tools = ToolList(msgspec.json.decode(written))
        self._num_characters += len(written)
        if self._num_characters > _MAX_CHARACTERS:
            self._lists, self._num_characters = {}, 0
            known = self._lists.setdefault(text[start : start + _HEAD], [])
        known.insert(0, (written, tools))
        del known[_NUM_ALIKE:]
        return tools, start + len(written)


_TOOLS = '"tools":'
_HEAD = 100
"""Characters that tell most lists apart."""
_NUM_ALIKE = 8
"""Lists with the same head that are kept."""
_MAX_CHARACTERS = 1 << 24
"""Of the text of all lists that are kept."""


def _decode(text: str, where: str = "") -> Json:
    try:
        return _load(text)
    except BadRecord:
        raise
    except json.JSONDecodeError as error:
        raise BadRecord(f"{where}not JSON: {error.msg} at character {error.pos + 1}") from error
    except ValueError as error:  # An integer of thousands of digits.
        raise BadRecord(f"{where}not JSON that can be read: {error}") from error
    except RecursionError:
        raise BadRecord(f"{where}expected JSON that is not nested so deeply") from None


# All chunks.


def scored_chunks(
    pieces: Iterable[Chunk], scheme_name: str, *, skip_bad: bool, num_jobs: int = 1
) -> Generator[tuple[Chunk, Scored], None, None]:
    """Score chunks in order, in this process or in several others.

    Args:
        pieces: of the file.
        scheme_name: one of `rewards.schemes.SCHEMES`.
        skip_bad: go on after a line that cannot be scored.
        num_jobs: processes.

    Raises:
        Unreadable: as `chunks`, after all that could be read was scored.
    """
    if num_jobs == 1:
        score, reader = scheme(scheme_name), RecordReader()
        with _collected_by_chunk():
            for chunk in pieces:
                yield chunk, score_chunk(chunk, score, skip_bad=skip_bad, reader=reader)
                gc.collect(1)
        return
    # Spawned: a fork would take the threads of the progress bar with it.
    with ProcessPoolExecutor(
        num_jobs, mp_context=get_context("spawn"), initializer=_start_worker, initargs=(scheme_name, skip_bad)
    ) as pool:
        under_way: deque[tuple[Chunk, Any]] = deque()
        broken: Unreadable | None = None
        try:
            try:
                for chunk in pieces:
                    under_way.append((chunk, pool.submit(_work, chunk)))
                    if len(under_way) > 2 * num_jobs:
                        first, future = under_way.popleft()
                        yield first, future.result()
            except Unreadable as error:
                broken = error  # What came before is still to be scored.
            while under_way:
                first, future = under_way.popleft()
                yield first, future.result()
            if broken is not None:
                raise broken
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def _collected_by_chunk() -> Iterator[None]:
    """Garbage is looked for after each chunk, and not all over the tools that are kept: that takes a tenth of the time,
    and records leave next to none.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


_worker: Callable[[Chunk], Scored] | None = None


def _start_worker(scheme_name: str, skip_bad: bool) -> None:
    global _worker
    gc.disable()  # As `_collected_by_chunk` says.
    score, reader = scheme(scheme_name), RecordReader()

    def work(chunk: Chunk) -> Scored:
        scored = score_chunk(chunk, score, skip_bad=skip_bad, reader=reader)
        gc.collect(1)
        return scored

    _worker = work


def _work(chunk: Chunk) -> Scored:
    assert _worker is not None, "the worker was started"
    return _worker(chunk)


@contextmanager
def output(path: Path) -> Iterator[IO[bytes]]:
    """The file to write to, compressed if its name says so; closed whatever happens."""
    with path.open("wb") as raw:
        if path.suffix != ".gz":
            yield raw
            return
        with gzip.GzipFile(fileobj=raw, mode="wb", mtime=0, filename="") as file:
            yield file  # type: ignore[misc]
