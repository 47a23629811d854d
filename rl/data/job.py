"""One call of `tether data`: items of work in order, kept as they are done, and one file at the end.

    items -> OUT.partial (a line for each item done) -> OUT, OUT.summary.json

A call that was stopped goes on after the last whole line of OUT.partial, so no item is done twice and none is left out.
OUT appears at the end and at once.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from rich.console import Console

from envs.tasks import SUFFIXES
from envs.types import Json
from rl.console import duration, make_console, make_progress
from rl.data.files import has_known_suffix, replacing, write_records
from rl.errors import BadInput
from rl.report.console import table
from rl.report.rows import Cells
from rl.report.summary import provenance

SECONDS_BETWEEN_FLUSHES = 0.2
"""What a process that is killed may have to do again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a call is to make, of what, and where: all that decides its output."""

    command: str
    """Of `tether data`."""
    out: Path
    inputs: tuple[Path, ...] = ()
    """The files, or folders of files, that are read. A call is not gone on with once they changed."""
    settings: Mapping[str, Json] = field(default_factory=dict)
    """Everything else that decides the output, but the seed."""
    seed: int = 0
    overwrite: bool = False
    """Begin anew, whatever is there."""

    @property
    def partial(self) -> Path:
        """Where the items are kept until all are done."""
        return self.out.with_name(f"{self.out.name}.partial")

    @property
    def summary(self) -> Path:
        """What it came to, as JSON."""
        return self.out.with_name(f"{self.out.name}.summary.json")

    def identity(self) -> dict[str, Json]:
        """Equal for two calls that give the same output, as JSON.

        Raises:
            BadInput: an input cannot be read.
        """
        return {
            "command": self.command,
            "inputs": {str(path): _digest(path) for path in self.inputs},
            "settings": dict(self.settings),
            "seed": self.seed,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """What came of one unit of work: a row of the input, an attempt, a step."""

    records: tuple[Mapping[str, Json], ...] = ()
    """None where it was dropped."""
    origin: Mapping[str, Json] = field(default_factory=dict)
    """Where the records come from, such as {"row": 3}; becomes part of their `source`."""
    origins: tuple[Mapping[str, Json], ...] = ()
    """The same for each record alone, beside `origin`; empty: nothing more is known."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """What to add to the summary, by name; "dropped/no answer" is the entry "no answer" of the group "dropped"."""


class Done:
    """The items that earlier calls did."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.num_items = 0
        self.counts: Counter[str] = Counter()

    def records(self) -> Iterator[dict[str, Json]]:
        """Their records, in order."""
        for line in _items(self._path):
            yield from line["records"]


Work = Callable[[Done], Iterator[Item]]
"""Gives the items that follow those that are done, in order. The items depend on the job alone."""

Figures = Callable[[Mapping[str, int]], Mapping[str, float]]
"""Shares for the summary, from its counts."""


def run_job(
    job: Job,
    work: Work,
    *,
    total: int | None,
    unit: str = "rows",
    figures: Figures | None = None,
    cells: Callable[[Mapping[str, int]], Cells] | None = None,
) -> int:
    """Do what is left of a job, write its output and say what it came to. Returns the exit code.

    Args:
        job: what is to be done.
        work: does it.
        total: number of items, if it is known.
        unit: what an item is, in the plural.
        figures: adds to the summary.
        cells: the counts as a table, which is printed in their place.

    Raises:
        BadInput: the output cannot be written there, or stands there, or was begun by another call.
        KeyboardInterrupt: what was done is kept.
    """
    check_out(job)
    identity, console = job.identity(), make_console()
    if job.out.exists() and not job.partial.exists() and not job.overwrite:
        return _already_done(job, identity, console)
    started = time.monotonic()
    made = provenance()
    with _partial(job, identity) as (file, done):
        first = done.num_items
        if first:
            console.print(f"going on behind the first {first} {unit} of {job.partial}", markup=False, soft_wrap=True)
        try:
            _do(job, work, file, done, console, total=total, unit=unit, made=made)
        except BaseException:
            text = f"stopped; {done.num_items} {unit} are kept in {job.partial}"
            make_console(stderr=True).print(text, markup=False, soft_wrap=True)
            raise
        num_records = write_records(job.out, done.records)
        summary = {
            "job": identity,
            "num_items": done.num_items,
            "num_records": num_records,
            "counts": _nested(done.counts),
            "figures": dict(figures(done.counts)) if figures else {},
            "seconds": round(time.monotonic() - started, 3),
            **made,
        }
        with replacing(job.summary) as temporary:
            temporary.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
        job.partial.unlink()
    if cells:
        console.print(table(cells(done.counts)))
    _tell(console, job, summary, unit=unit, counts={} if cells else summary["counts"])
    return 0


def _do(
    job: Job,
    work: Work,
    file: IO[bytes],
    done: Done,
    console: Console,
    *,
    total: int | None,
    unit: str,
    made: Mapping[str, Json],
) -> None:
    versions = made["versions"]
    base = {"command": f"tether data {job.command}", "seed": job.seed, "tether": versions.get("tether", "")}
    if made["commit"]:
        base["commit"] = made["commit"]
    if len(job.inputs) == 1:
        base["file"] = str(job.inputs[0])
    flushed = time.monotonic()
    with make_progress(console) as progress:
        bar = progress.add_task(unit, total=total, completed=done.num_items)
        try:
            for item in work(done):
                origins = item.origins or ({},) * len(item.records)
                records = [
                    _with_source(record, {**base, **item.origin, **origin})
                    for record, origin in zip(item.records, origins, strict=True)
                ]
                file.write(_line({"records": records, "counts": dict(item.counts)}))
                done.num_items += 1
                done.counts.update(item.counts)
                now = time.monotonic()
                if now - flushed >= SECONDS_BETWEEN_FLUSHES:
                    file.flush()
                    flushed = now
                    progress.update(bar, completed=done.num_items)
        finally:
            file.flush()
            os.fsync(file.fileno())
            progress.update(bar, completed=done.num_items)


def _with_source(record: Mapping[str, Json], source: Mapping[str, Json]) -> dict[str, Json]:
    """The record with its `source`, which keeps an earlier one as its `from`."""
    earlier = record.get("source")
    return {**record, "source": {**source, **({} if earlier is None else {"from": earlier})}}


# The file of what is done.


@contextmanager
def _partial(job: Job, identity: Mapping[str, Json]) -> Iterator[tuple[IO[bytes], Done]]:
    """The file of what is done, open behind the last whole line, and what its lines hold."""
    try:
        file = job.partial.open("a+b")
    except OSError as error:
        raise BadInput(f"--out {job.out}: cannot be written: {error.strerror or error}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise BadInput(f"--out {job.out}: another call is writing it") from error
        if job.overwrite:
            # Emptied, not removed, and only under the lock: another call may be writing it.
            file.truncate(0)
        done = Done(job.partial)
        _drop_torn_line(file)
        header = _header(job.partial)
        if header is None:
            file.write(_line(identity))
            file.flush()
        elif header != identity:
            raise BadInput(
                f"{job.partial}: was begun by a call with other {_what_differs(header, identity)}; expected the same, "
                "or --overwrite to begin anew"
            )
        for line in _items(job.partial):
            done.num_items += 1
            done.counts.update(line["counts"])
        yield file, done


def _line(value: Mapping[str, Json]) -> bytes:
    return json.dumps(value).encode() + b"\n"


def _drop_torn_line(file: IO[bytes]) -> None:
    """A process that was killed may have written half a line."""
    end = file.seek(0, os.SEEK_END)
    while end:
        start = max(0, end - (1 << 16))
        file.seek(start)
        newline = file.read(end - start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    file.truncate(end)
    file.seek(end)


def _header(path: Path) -> Json:
    with path.open("rb") as file:
        line = file.readline()
    if not line:
        return None
    return _decoded(path, line)


def _items(path: Path) -> Iterator[dict[str, Json]]:
    with path.open("rb") as file:
        file.readline()
        for line in file:
            yield _decoded(path, line)


def _decoded(path: Path, line: bytes) -> Json:
    try:
        return json.loads(line)
    except ValueError as error:
        raise BadInput(f"{path}: is no file of a call that was stopped; expected none, or --overwrite") from error


def _what_differs(found: Json, wanted: Mapping[str, Json]) -> str:
    if not isinstance(found, Mapping):
        return "settings"
    names = [name for name in wanted if found.get(name) != wanted[name]]
    if names == ["settings"] and isinstance(found["settings"], Mapping):
        settings = wanted["settings"]
        names = [name for name in settings if found["settings"].get(name) != settings[name]] or names
    return ", ".join(names)


# The output.


def check_out(job: Job) -> None:
    """Refuse an output that cannot be written. `run_job` does so; call it before work that comes ahead of that.

    Raises:
        BadInput: it cannot be written.
    """
    if not has_known_suffix(job.out):
        raise BadInput(f"--out {job.out}: expected a file ending in {', '.join(SUFFIXES)}")
    if not job.out.absolute().parent.is_dir():
        raise BadInput(f"--out {job.out}: no such folder")
    if any(job.out.exists() and path.exists() and job.out.samefile(path) for path in job.inputs):
        raise BadInput(f"--out {job.out}: is the file to be read")


def _already_done(job: Job, identity: Mapping[str, Json], console: Console) -> int:
    """What to say where the output is there.

    Raises:
        BadInput: it is of another call.
    """
    try:
        summary = json.loads(job.summary.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        summary = {}
    if summary.get("job") != identity:
        raise BadInput(f"--out {job.out}: exists and is of another call; expected a new file, or --overwrite")
    console.print(f"{job.out} is done: {summary['num_records']} records", markup=False, soft_wrap=True)
    return 0


def _nested(counts: Mapping[str, int]) -> dict[str, Json]:
    found: dict[str, Json] = {}
    for name, num in counts.items():
        group, _, entry = name.partition("/")
        if entry:
            found.setdefault(group, {})[entry] = num
        else:
            found[name] = num
    return found


def _tell(console: Console, job: Job, summary: Mapping[str, Json], *, unit: str, counts: Mapping[str, Json]) -> None:
    for name, value in counts.items():
        entries = value if isinstance(value, dict) else {"": value}
        for entry, number in sorted(entries.items(), key=lambda pair: -pair[1]):
            console.print(f"{number:>9} {f'{name}: {entry}' if entry else name}", markup=False, soft_wrap=True)
    for name, share in summary["figures"].items():
        console.print(f"{share:>9.2%} {name}", markup=False, soft_wrap=True)
    console.print(
        f"{summary['num_records']} records of {summary['num_items']} {unit} in {duration(summary['seconds'])}; "
        f"{job.out}, {job.summary.name}",
        markup=False,
        soft_wrap=True,
    )


def _digest(path: Path) -> str:
    """Of a file, or of all files in a folder with their names."""
    try:
        if path.is_dir():
            files = sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))
            names = "".join(f"{file.relative_to(path)} {_digest(file)}\n" for file in files)
            return hashlib.sha256(names.encode()).hexdigest()
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror or error}") from error
