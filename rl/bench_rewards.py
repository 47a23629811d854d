"""How fast recorded calls are scored: calls a second of processor time for each scheme, and memory over a long file.

The file is made of tool-world tasks: the first message of a demonstrator that errs as demonstrations do, against the
reference calls that it could make at that point.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from envs.toolworld import ToolWorldTasks
from envs.toolworld.demonstrator import Demonstrator
from envs.types import Json, MalformedCall, Message, Task, ToolCall
from rl.console import track
from rl.errors import RunFailed
from rl.score_files import chunks, scored_chunks
from rollout.parsers import PARSERS

NUM_TASKS = 5000
"""Different tasks in a file; longer files use them again, with other errors."""

ERROR_RATES = {"missing_argument": 0.4, "unmatched_tools": 0.4, "other": 0.3}

TEXT_SHARE = 0.5
"""Share of lines that give the text in place of calls; the grammars take turns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """One scheme over the lines of a file."""

    scheme: str
    num_lines: int
    num_calls: int
    seconds: float
    """Processor time of one process, reading and writing JSON included."""

    @property
    def calls_per_second(self) -> float:
        """Calls made, by one core."""
        return self.num_calls / self.seconds

    def to_json(self) -> dict[str, Json]:
        """The fields and the rate."""
        return {
            "scheme": self.scheme,
            "num_lines": self.num_lines,
            "num_calls": self.num_calls,
            "seconds": self.seconds,
            "calls_per_second": self.calls_per_second,
        }


def write_replies(path: Path, num_lines: int, seed: int = 0) -> int:
    """Make a file of replies with seeded errors; returns how many calls they hold."""
    num_calls = 0
    lines = track(replies(num_lines, seed), f"writing {path.name}", total=num_lines)
    with path.open("w", encoding="utf-8") as file:
        for line, num in lines:
            file.write(line)
            num_calls += num
    return num_calls


def replies(num_lines: int, seed: int = 0) -> Iterator[tuple[str, int]]:
    """Lines of such a file, and how many calls each holds."""
    tasks = list(ToolWorldTasks(seed=seed, num=min(num_lines, NUM_TASKS)))
    shared = [_shared(task) for task in tasks]
    grammars = tuple(PARSERS)
    for index in range(num_lines):
        task = tasks[index % len(tasks)]
        policy = Demonstrator(task, seed=seed + index // len(tasks), error_rates=ERROR_RATES)
        message, _ = policy.reply(task.prompt, task.tools, None)
        as_text = index % round(1 / TEXT_SHARE) == 0 or any(isinstance(call, MalformedCall) for call in message.calls)
        fields = _text(message, grammars[index // 2 % len(grammars)]) if as_text else _calls(message)
        yield f'{{"id": {index}, {shared[index % len(tasks)]}, {json.dumps(fields)[1:]}\n', len(message.calls)


def _shared(task: Task) -> str:
    """What all lines of a task have in common, as the inside of a JSON object."""
    reference = task.reference or ()
    # A reply can hold what need not wait for anything: all calls in parallel, or the first step.
    due = reference[:1] if task.ordered else reference
    value = {
        "tools": [tool.to_json() for tool in task.tools],
        "query": task.prompt[-1].content,
        "reference": [{"name": call.name, "arguments": dict(call.arguments)} for call in due],
        "ordered": task.ordered,
    }
    return json.dumps(value)[1:-1]


def _calls(message: Message) -> dict[str, Json]:
    return {
        "calls": [
            {"name": call.name, "arguments": dict(call.arguments)}
            for call in message.calls
            if isinstance(call, ToolCall)
        ]
    }


def _text(message: Message, grammar: str) -> dict[str, Json]:
    return {"text": PARSERS[grammar].format(message.content, message.calls), "grammar": grammar}


def measure_speed(path: Path, scheme_name: str, num_lines: int, num_calls: int) -> Speed:
    """Score a file in this process, after a pass that is not timed: what is loaded at need is loaded then.

    Args:
        path: the file.
        scheme_name: one of `rewards.schemes.SCHEMES`.
        num_lines: how many lines the file has.
        num_calls: how many calls they hold.
    """
    for _ in scored_chunks(chunks(path), scheme_name, skip_bad=False):
        pass
    started = time.process_time()
    num = 0
    for _, scored in scored_chunks(chunks(path), scheme_name, skip_bad=False):
        assert not scored.faults, scored.faults
        num += scored.num
    seconds = time.process_time() - started
    assert num == num_lines, f"scored {num} of {num_lines} lines"
    return Speed(scheme=scheme_name, num_lines=num, num_calls=num_calls, seconds=seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """One whole run of `tether score` over a file."""

    num_lines: int
    file_mb: float
    peak_mb: float
    """Largest resident set of the process."""
    seconds: float
    """Its processor time."""

    def to_json(self) -> Mapping[str, Json]:
        """The fields."""
        return {
            "num_lines": self.num_lines,
            "file_mb": self.file_mb,
            "peak_mb": self.peak_mb,
            "seconds": self.seconds,
        }


def measure_memory(path: Path, out: Path, num_lines: int, scheme_name: str) -> Memory:
    """Run `tether score` on a file in a process of its own; on a terminal its bar and its summary are shown.

    Raises:
        RunFailed: it failed; says how.
    """
    command: Sequence[str] = [
        sys.executable,
        "-m",
        "rl",
        "score",
        str(path),
        "--out",
        str(out),
        "--scheme",
        scheme_name,
    ]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with tempfile.TemporaryFile("w+") as said:
        shown = None if sys.stdout.isatty() else said
        child = subprocess.Popen(command, stdout=shown, stderr=said, env=environment)
        peak, status, used = _watch(child.pid)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            said.seek(0)
            raise RunFailed(f"tether score ended with code {child.returncode}: {said.read().strip()}")
    return Memory(
        num_lines=num_lines,
        file_mb=path.stat().st_size / 1e6,
        peak_mb=peak / 1e6,
        seconds=used.ru_utime + used.ru_stime,
    )


def _watch(pid: int) -> tuple[int, int, resource.struct_rusage]:
    """Wait for a process: its largest resident set in bytes, its status, and what it used.

    What the kernel says at the end also counts the process that it was forked from, so the set is watched instead.
    """
    peak = 0
    while True:
        done, status, used = os.wait4(pid, os.WNOHANG)
        if done:
            return peak or used.ru_maxrss * 1024, status, used
        with contextlib.suppress(OSError, StopIteration, ValueError):
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            peak = int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024
        time.sleep(0.05)
