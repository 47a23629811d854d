"""What the calls of a run took, a line each: a run that was resumed can say what all of it took."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

CALLS_NAME = "calls.jsonl"


class Memory(Protocol):
    """Something that watches memory."""

    @property
    def peak_gb(self) -> float:
        """The most so far, in GB."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """What a run used so far, over all its calls."""

    seconds: float
    """Wall clock; time between the calls does not count."""
    peak_memory_gb: float


class Call:
    """The call that is under way."""

    def __init__(self, directory: Path, memory: Memory) -> None:
        self._path = directory / CALLS_NAME
        self._memory = memory
        self._started = time.monotonic()
        self._before = _read(self._path)

    def used(self) -> Used:
        """By this call and those before it."""
        seconds = time.monotonic() - self._started
        return Used(
            seconds=seconds + sum(call.seconds for call in self._before),
            peak_memory_gb=max([self._memory.peak_gb, *(call.peak_memory_gb for call in self._before)]),
        )

    def write(self) -> None:
        """Add a line for this call."""
        line = {
            "seconds": round(time.monotonic() - self._started, 1),
            "peak_memory_gb": round(self._memory.peak_gb, 2),
        }
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")


@contextmanager
def recorded(directory: Path, memory: Memory) -> Iterator[Call]:
    """A call on the run in `directory`; its line is written however it ends."""
    call = Call(directory, memory)
    try:
        yield call
    finally:
        call.write()


def _read(path: Path) -> list[Used]:
    if not path.is_file():
        return []
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [Used(seconds=line["seconds"], peak_memory_gb=line["peak_memory_gb"]) for line in lines]
