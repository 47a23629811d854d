"""Find hallucinations in responses: a verdict for each, and a label with evidence for its sentences.

IN is JSONL, .jsonl.gz or Parquet with a response a line ({"id", "response", "question"?}), or a .txt file that is one
response. OUT gets a line for each, in the same order, as soon as it is known. A run that was interrupted goes on where
it stopped: start it again with the same IN and OUT.

--model rules needs no model: calculations, dates, demanded lengths and programs are checked exactly, facts if there is
something to search in, and of the rest nothing is said (null). --model URL lets a model behind an OpenAI-compatible
endpoint use the same tools (key: OPENAI_API_KEY). Code runs in a sandbox; where nothing contains it, it is not run.
Needs neither torch nor Ray.

  tether detect responses.jsonl --out found.jsonl
  tether detect answer.txt --out found.jsonl --corpus passages.jsonl
  tether detect responses.jsonl --out found.jsonl --model http://localhost:8000/v1 --endpoint-model qwen
"""

from __future__ import annotations

import argparse
import asyncio
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console

from rl.console import duration, make_console, make_progress
from rl.errors import BadInput, RunFailed

SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet", ".txt")


def add(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument("path", metavar="IN", type=Path)
    parser.add_argument("--out", metavar="OUT", type=Path, required=True, help=".jsonl; continued if it exists")
    parser.add_argument("--model", metavar="rules|URL", default="rules", help="who checks (default: rules)")
    parser.add_argument("--endpoint-model", metavar="NAME", help="the model's name at the endpoint")
    parser.add_argument("--language", choices=("en", "zh"), help="of the instructions (default: that of each response)")
    parser.add_argument("--exact", action="store_true", help="of the rules: a rounded result is wrong")
    parser.add_argument(
        "--no-links",
        action="store_true",
        help="of the rules: each sentence is judged by itself, errors are not passed on",
    )
    parser.add_argument("--corpus", metavar="FILE", type=Path, help='passages to search in: {"text", "title"?} a line')
    parser.add_argument("--search", metavar="URL", help="an endpoint to search with instead")
    parser.add_argument("--translate", metavar="URL", help="an endpoint that translates")
    parser.add_argument(
        "--match",
        metavar="URL|DIR",
        help="what compares a sentence with a text: an endpoint, or the folder of an NLI model",
    )
    parser.add_argument(
        "--protocol",
        choices=("tools", "react"),
        default="tools",
        help="how a model behind an endpoint calls: tools, or THOUGHT and ACTION in its text (default: tools)",
    )
    parser.add_argument(
        "--tool", metavar="pkg.mod:function", action="append", default=[], help="a tool of your own; may be repeated"
    )
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes, for the rules (default: 1)")
    parser.add_argument(
        "--concurrency", type=int, default=8, metavar="N", help="requests to an endpoint at a time (default: 8)"
    )
    parser.add_argument("--timeout", type=float, default=120.0, metavar="S", help="of one request (default: 120)")
    parser.add_argument("--retries", type=int, default=3, metavar="N", help="of a failed request (default: 3)")
    parser.add_argument(
        "--allow-unprotected", action="store_true", help="run code also where nothing contains it: trusted code only"
    )
    parser.add_argument("--restart", action="store_true", help="write OUT anew")


@dataclass(slots=True)
class _Sums:
    """What was found so far."""

    num: int = 0
    num_hallucinated: int = 0
    num_undecided: int = 0
    num_failed: int = 0

    def add(self, line: dict) -> None:
        self.num += 1
        self.num_hallucinated += line["hallucinated"] is True
        self.num_failed += "failed" in line
        self.num_undecided += line["hallucinated"] is None and "failed" not in line


def run(arguments: argparse.Namespace) -> int:
    """Check and say what was found."""
    _check(arguments)
    from rl.detecting import Detector, Settings, append_lines, finished, read_records, skip

    settings = Settings(
        model=arguments.model,
        endpoint_model=arguments.endpoint_model or "",
        language=arguments.language,
        rounding=not arguments.exact,
        links=not arguments.no_links,
        corpus=None if arguments.corpus is None else str(arguments.corpus),
        search_url=arguments.search,
        translate_url=arguments.translate,
        match=arguments.match,
        protocol=arguments.protocol,
        tools=tuple(arguments.tool),
        allow_unprotected=arguments.allow_unprotected,
        timeout=arguments.timeout,
        max_retries=arguments.retries,
    )
    out, console, sums, started = arguments.out, make_console(), _Sums(), time.monotonic()
    try:
        Detector(settings)
        if arguments.restart:
            out.unlink(missing_ok=True)
        done = finished(out)
        records = read_records(arguments.path)
        skip(records, done, arguments.path, out)
    except ValueError as error:
        raise BadInput(str(error)) from error
    if done:
        console.print(f"{len(done)} responses were checked before; going on", markup=False)
    try:
        with make_progress(console) as progress:
            bar = progress.add_task("responses", total=None)

            def note(line: dict[str, Any]) -> None:
                sums.add(line)
                progress.advance(bar)

            work = append_lines(out, records, settings, note, num_jobs=arguments.jobs, at_once=arguments.concurrency)
            asyncio.run(work)
    except BadInput as error:
        raise BadInput(f"{error}; the {len(done) + sums.num} responses checked before are in {out}") from error
    except RunFailed as error:
        raise RunFailed(f"{error}; started again, it goes on after the {len(done) + sums.num} in {out}") from error
    except OSError as error:
        raise BadInput(f"--out {out}: cannot be written: {error.strerror or error}") from error
    _report(console, sums, time.monotonic() - started, out)
    return 0


def _check(arguments: argparse.Namespace) -> None:
    """Refuse what cannot work.

    Raises:
        BadInput: says what.
    """
    path, out = arguments.path, arguments.out
    if not path.is_file():
        raise BadInput(f"{path}: no such file")
    if not path.name.endswith(SUFFIXES):
        raise BadInput(f"{path}: expected a file ending in {', '.join(SUFFIXES)}")
    if out.suffix != ".jsonl":
        raise BadInput(f"--out {out}: expected a file ending in .jsonl")
    if not out.resolve().parent.is_dir():
        raise BadInput(f"--out {out}: no such folder")
    if out.exists() and out.samefile(path):
        raise BadInput(f"--out {out}: is the file to be checked")
    if min(arguments.jobs, arguments.concurrency) < 1:
        raise BadInput("--jobs and --concurrency: expected at least 1")
    is_endpoint = arguments.model.startswith(("http://", "https://"))
    if arguments.model != "rules" and not is_endpoint:
        raise BadInput(f"--model {arguments.model}: expected rules, or an endpoint such as http://localhost:8000/v1")
    if is_endpoint != (arguments.endpoint_model is not None):
        raise BadInput("--endpoint-model NAME belongs to --model URL; expected both or neither")
    if is_endpoint and find_spec("openai") is None:
        raise BadInput("endpoints need the package openai: pip install tether[endpoint]")
    if arguments.corpus is not None and find_spec("bm25s") is None:
        raise BadInput("--corpus needs the package bm25s: pip install bm25s")


def _report(console: Console, sums: _Sums, seconds: float, out: Path) -> None:
    parts = [
        f"{sums.num} responses: {sums.num_hallucinated} with a hallucination",
        f"{sums.num - sums.num_hallucinated - sums.num_undecided - sums.num_failed} without",
        f"{sums.num_undecided} undecided",
        f"{sums.num_failed} failed",
    ]
    console.print(f"{', '.join(parts)}; {duration(seconds)}; {out}", markup=False, soft_wrap=True)
