"""Score recorded tool calls: every error with its kind and place, and one number a line.

IN is JSONL, .jsonl.gz or Parquet, one reply a line: the tools, the request, and calls (or the text they are written in,
with its grammar); with the right calls, if they are known, as reference. OUT gets a line for each, in the same order.
A line that is no such record ends the command with code 2; what was scored before it stays in OUT. With --skip-bad
such lines are told of and left out. Needs neither torch nor Ray.

  tether score replies.jsonl --out scores.jsonl
  tether score replies.parquet --out scores.jsonl.gz --scheme esm --jobs 8
  tether score replies.jsonl --out scores.jsonl --skip-bad
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from rewards.schemes import DEFAULT_SCHEME, SCHEMES
from rl.console import make_console, make_progress
from rl.errors import BadInput, RunFailed


def add(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument("path", metavar="IN", type=Path)
    parser.add_argument("--out", metavar="OUT", type=Path, required=True, help=".jsonl, or .jsonl.gz")
    parser.add_argument("--scheme", choices=tuple(SCHEMES), default=DEFAULT_SCHEME, help=f"(default: {DEFAULT_SCHEME})")
    parser.add_argument("--skip-bad", action="store_true", help="go on after a line that is no record")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes (default: 1)")


@dataclass(slots=True)
class _Sums:
    """What was done so far."""

    num: int = 0
    num_skipped: int = 0
    num_unscored: int = 0
    total: float = 0.0
    kinds: Counter[str] = field(default_factory=Counter)


def run(arguments: argparse.Namespace) -> int:
    """Score and say what was found."""
    path, out = arguments.path, arguments.out
    _check(path, out, arguments.jobs)
    from rl.score_files import Unreadable, chunks, output, scored_chunks, size

    console, errors = make_console(), make_console(stderr=True)
    sums = _Sums()
    started = time.monotonic()
    unit = 1 if path.suffix == ".parquet" else 1 << 20
    try:
        num_units = -(-size(path) // unit)
    except Unreadable as error:
        raise BadInput(str(error)) from error
    try:
        with output(out) as file, make_progress(console) as progress:
            bar = progress.add_task("rows" if unit == 1 else "MiB", total=num_units)
            pieces = scored_chunks(chunks(path), arguments.scheme, skip_bad=arguments.skip_bad, num_jobs=arguments.jobs)
            for chunk, scored in pieces:
                file.write(scored.lines)
                sums.num += scored.num
                sums.num_unscored += scored.num_unscored
                sums.total += scored.total
                sums.kinds.update(scored.kinds)
                for fault in scored.faults:
                    message = f"{path}:{fault.number}: {fault.reason}"
                    if not arguments.skip_bad:
                        raise Unreadable(message)
                    sums.num_skipped += 1
                    errors.print(f"skipped {message}", markup=False, soft_wrap=True)
                rate = f"{sums.num / max(time.monotonic() - started, 1e-3):,.0f} lines/s"
                progress.update(bar, completed=chunk.position / unit, rate=rate)
    except BrokenProcessPool as error:
        raise RunFailed(f"a process was killed; the {sums.num} lines scored before are in {out}") from error
    except Unreadable as error:
        raise BadInput(f"{error}; the {sums.num} lines scored before are in {out}") from error
    except OSError as error:
        raise BadInput(f"{out}: cannot be written: {error.strerror or error}") from error
    _report(console, sums, arguments.scheme, out)
    return 0


def _check(path: Path, out: Path, num_jobs: int) -> None:
    """Refuse what cannot work.

    Raises:
        BadInput: says what.
    """
    if not path.is_file():
        raise BadInput(f"{path}: no such file")
    if not path.name.endswith((".jsonl", ".jsonl.gz", ".parquet")):
        raise BadInput(f"{path}: expected a file ending in .jsonl, .jsonl.gz or .parquet")
    if not out.name.endswith((".jsonl", ".jsonl.gz")):
        raise BadInput(f"--out {out}: expected a file ending in .jsonl or .jsonl.gz")
    if not out.resolve().parent.is_dir():
        raise BadInput(f"--out {out}: no such folder")
    if out.exists() and out.samefile(path):
        raise BadInput(f"--out {out}: is the file to be scored")
    if num_jobs < 1:
        raise BadInput(f"--jobs {num_jobs}: expected at least 1")


def _report(console: Console, sums: _Sums, scheme: str, out: Path) -> None:
    num_scored = sums.num - sums.num_unscored
    mean = f", mean {scheme} {sums.total / num_scored:.4f}" if num_scored else ""
    unscored = f", {sums.num_unscored} without a score" if sums.num_unscored else ""
    skipped = f", {sums.num_skipped} bad lines skipped" if sums.num_skipped else ""
    for kind, num in sums.kinds.most_common():
        console.print(f"{num:>9} {kind}")
    console.print(f"{sums.num} lines{unscored}{skipped}{mean}; {out}", markup=False, soft_wrap=True)
