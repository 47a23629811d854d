"""Runs cells side by side, each a `tether train` in a process of its own on a core of its own.

    queue: seed 1 of every cell, then seed 2 of every cell, ...
       |
    one thread a core --> tether train ... (log: WORK/CELL/seed-S.log) --> OUT/CELL/seed-S.json
       ^                        |
       +------ next run <-------+

A run whose JSON file is there is not run again, so a stopped ablation goes on where it was. An interruption is passed
on to the runs under way, and waited for; what they had not finished is begun anew.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from rl.ablation.grid import WORK, Cell
from rl.ablation.results import read_cell, write_cell
from rl.errors import BadInput, RunFailed

END_SECONDS = 120.0
"""How long an interrupted run may take to save and to stop its processes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One seed of one cell."""

    cell: Cell
    seed: int

    @property
    def name(self) -> str:
        """As messages name it."""
        return f"{self.cell.name}, seed {self.seed}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A run that is over."""

    run: Run
    fault: str = ""
    """Why there is no result; "": there is one."""


def pending(out: Path, cells: Sequence[Cell], seeds: Sequence[int]) -> list[Run]:
    """What is still to be run, one seed of every cell before the second of any.

    Raises:
        ValueError: as `rl.ablation.results.read_cell`.
    """
    runs = [Run(cell=cell, seed=seed) for seed in seeds for cell in cells if not cell.origin]
    return [run for run in runs if read_cell(out, run.cell, run.seed) is None]


def prepare(steps: Sequence[Sequence[str]], work: Path) -> None:
    """Run the steps of preparation that were not run before.

    Raises:
        BadInput: a step refused its input.
        RunFailed: a step failed; names its log.
    """
    for number, step in enumerate(steps):
        words = [word.replace(WORK, str(work)) for word in step]
        done, log = work / f"prepare-{number}.json", work / f"prepare-{number}.log"
        if done.is_file() and json.loads(done.read_text()) == words:
            continue
        with log.open("w") as file:
            code = subprocess.run(
                _command(words), stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT
            ).returncode
        if code:
            kind = BadInput if code == 2 else RunFailed
            raise kind(f"prepare: tether {shlex.join(words)}: {_last_line(log)} ({log})")
        done.write_text(json.dumps(words) + "\n")


def run_all(
    runs: Sequence[Run], *, cluster: str, work: Path, out: Path, num_jobs: int, ended: Callable[[Ended], None]
) -> None:
    """Run all of `runs`, `num_jobs` at a time, each pinned to a core of its own.

    Args:
        runs: in their order.
        cluster: where each is run.
        work: gets logs and run directories.
        out: gets the results.
        num_jobs: at most the cores of this process.
        ended: called after each run, from one thread at a time.

    Raises:
        KeyboardInterrupt: was interrupted; nothing runs on.
    """
    cores = sorted(os.sched_getaffinity(0))[:num_jobs]
    free = list(cores)
    processes: set[subprocess.Popen[bytes]] = set()
    guard = threading.Lock()
    stopped = threading.Event()

    def one(run: Run) -> Ended:
        with guard:
            if stopped.is_set():
                return Ended(run=run, fault="not begun")
            core = free.pop()
            process, directory, log = _start(run, cluster, work, core)
            processes.add(process)
        try:
            code = process.wait()
        finally:
            with guard:
                processes.discard(process)
                free.append(core)
        if code:
            return Ended(run=run, fault=f"{_last_line(log)} (exit code {code}; {log})")
        try:
            write_cell(out, run.cell, run.seed, _newest(directory), cluster)
        except ValueError as error:
            return Ended(run=run, fault=str(error))
        return Ended(run=run)

    with ThreadPoolExecutor(num_jobs) as executor:
        futures = [executor.submit(one, run) for run in runs]
        try:
            for future in as_completed(futures):
                ended(future.result())
        except BaseException:
            with guard:
                stopped.set()
                running = list(processes)
            _interrupt(running)
            raise


def _start(run: Run, cluster: str, work: Path, core: int) -> tuple[subprocess.Popen[bytes], Path, Path]:
    directory = work / run.cell.name / f"seed-{run.seed}"
    directory.mkdir(parents=True, exist_ok=True)
    log = directory.with_suffix(".log")
    own = f"run.directory={json.dumps(str(directory))}"
    words = ["train", run.cell.recipe, cluster, *run.cell.words(run.seed, work), own]
    with log.open("w") as file:
        process = subprocess.Popen(
            _command(words),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )
    # Before it starts any process of its own, which inherit it.
    os.sched_setaffinity(process.pid, {core})
    return process, directory, log


def _command(words: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "rl", *words]


def _interrupt(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """As Ctrl-C would: they save, stop what they started, and end; what does not is killed."""
    for process in processes:
        process.send_signal(signal.SIGINT)
    for process in processes:
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def _newest(directory: Path) -> Path:
    return max(directory.iterdir(), key=lambda path: path.stat().st_mtime)


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else "it said nothing"
