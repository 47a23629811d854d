"""Find hallucinations in responses: a verdict for each, and a label with evidence for its sentences.

IN is JSONL, .jsonl.gz or Parquet with a response a line ({"id", "response", "question"?}), or a .txt file that is one
response. OUT gets a line for each, in the same order, as soon as it is known. A run that was interrupted goes on where
it stopped: start it again with the same IN and OUT.

--model rules needs no model: calculations, dates, demanded lengths and programs are checked exactly, facts if there is
something to search in, and of the rest nothing is said (null). --model URL lets a model behind an OpenAI-compatible
endpoint use the same tools (key: OPENAI_API_KEY), --model MODEL one that is run here: a Hugging Face folder, a run
directory, package:NAME or hub:OWNER/NAME. Code runs in a sandbox; where nothing contains it, it is not run. Rules and
endpoints need neither torch nor Ray.

  tether detect responses.jsonl --out found.jsonl
  tether detect answer.txt --out found.jsonl --corpus passages.jsonl
  tether detect responses.jsonl --out found.jsonl --model http://localhost:8000/v1 --endpoint-model qwen
  tether detect responses.jsonl --out found.jsonl --model runs/detect_dpo_tiny-20260101-120000 --short
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from rl.console import duration, make_console, make_progress
from rl.endpoints import expect_openai, is_endpoint
from rl.errors import BadInput, RunFailed

if TYPE_CHECKING:
    from rl.config import Config
    from rl.detecting import Record, Settings

REQUESTS = 8
"""To an endpoint at a time, unless told otherwise."""
SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet", ".txt")


def add(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.usage = "tether detect IN [CLUSTER] [key=value ...] --out OUT [options]"
    parser.add_argument("path", metavar="IN", type=Path)
    parser.add_argument(
        "rest",
        metavar="CLUSTER key=value",
        nargs="*",
        default=[],
        help="of a model that is run here: where, and single settings of it",
    )
    parser.add_argument("--out", metavar="OUT", type=Path, required=True, help=".jsonl; continued if it exists")
    parser.add_argument("--model", metavar="rules|URL|MODEL", default="rules", help="who checks (default: rules)")
    parser.add_argument("--endpoint-model", metavar="NAME", help="the model's name at the endpoint")
    parser.add_argument("--language", choices=("en", "zh"), help="of the instructions (default: that of each response)")
    parser.add_argument(
        "--short",
        action="store_true",
        help="short instructions, and tools that fill in what they check: for models that were trained so",
    )
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
        help="what compares a sentence with a text: an endpoint, or the folder of a model of inference or embeddings",
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
        "--concurrency",
        type=int,
        metavar="N",
        help="responses at a time, for models (default: 8 at an endpoint, else what the cluster file says)",
    )
    parser.add_argument(
        "--max-tokens", type=int, default=1024, metavar="N", help="of one turn of a model (default: 1024)"
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
    config = _check(arguments)
    from rl.detecting import Detector, Settings, finished, read_records, skip

    settings = Settings(
        model=arguments.model,
        endpoint_model=arguments.endpoint_model or "",
        language=arguments.language,
        short=arguments.short,
        rounding=not arguments.exact,
        links=not arguments.no_links,
        corpus=None if arguments.corpus is None else str(arguments.corpus),
        search_url=arguments.search,
        translate_url=arguments.translate,
        match=arguments.match,
        protocol=arguments.protocol,
        tools=tuple(arguments.tool),
        allow_unprotected=arguments.allow_unprotected,
        max_tokens=arguments.max_tokens,
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
        if config is None:
            _by_rules_or_endpoint(arguments, records, settings, console, sums)
        else:
            _by_model(arguments, records, settings, config, console, sums)
    except BadInput as error:
        raise BadInput(f"{error}; the {len(done) + sums.num} responses checked before are in {out}") from error
    except RunFailed as error:
        raise RunFailed(f"{error}; started again, it goes on after the {len(done) + sums.num} in {out}") from error
    except OSError as error:
        raise BadInput(f"--out {out}: cannot be written: {error.strerror or error}") from error
    _report(console, sums, time.monotonic() - started, out)
    return 0


def _by_rules_or_endpoint(
    arguments: argparse.Namespace, records: Iterator[Record], settings: Settings, console: Console, sums: _Sums
) -> None:
    from rl.detecting import append_lines

    with _noting(console, sums) as note:
        at_once = arguments.concurrency or REQUESTS
        asyncio.run(append_lines(arguments.out, records, settings, note, num_jobs=arguments.jobs, at_once=at_once))


def _by_model(
    arguments: argparse.Namespace,
    records: Iterator[Record],
    settings: Settings,
    config: Config,
    console: Console,
    sums: _Sums,
) -> None:
    from rl.detecting import append
    from rl.detecting_model import pool_lines
    from rl.serving import with_pool
    from rollout.pool import RolloutPool

    at_once = arguments.concurrency or config.rollout_pool.num_workers * config.rollout_pool.concurrency
    console.print(f"starting the engine for {config.model.path}", markup=False)

    async def work(pool: RolloutPool) -> None:
        with _noting(console, sums) as note:
            await append(arguments.out, pool_lines(records, settings, pool, at_once=at_once), note)

    with_pool(config, arguments.out.with_name(f"{arguments.out.name}.run"), work)


@contextmanager
def _noting(console: Console, sums: _Sums) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Counts lines, and shows how many there are."""
    with make_progress(console) as progress:
        bar = progress.add_task("responses", total=None)

        def note(line: dict[str, Any]) -> None:
            sums.add(line)
            progress.advance(bar)

        yield note


def _check(arguments: argparse.Namespace) -> Config | None:
    """Refuse what cannot work.

    Returns:
        What serves the model, if it is one that is run here.

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
    if min(arguments.jobs, arguments.max_tokens, arguments.concurrency or 1) < 1:
        raise BadInput("--jobs, --concurrency and --max-tokens: expected at least 1")
    if not arguments.timeout > 0:
        raise BadInput(f"--timeout {arguments.timeout:g}: expected more than 0 seconds")
    has_endpoint = is_endpoint(arguments.model)
    if has_endpoint != (arguments.endpoint_model is not None):
        raise BadInput("--endpoint-model NAME belongs to --model URL; expected both or neither")
    if has_endpoint:
        expect_openai()
    if arguments.corpus is not None and find_spec("bm25s") is None:
        raise BadInput("--corpus needs the package bm25s: pip install bm25s")
    if has_endpoint or arguments.model == "rules":
        if arguments.rest:
            raise BadInput(f"{arguments.rest[0]}: belongs to a model that is run here, with --model MODEL")
        return None
    return _serving(arguments)


def _serving(arguments: argparse.Namespace) -> Config:
    """What serves a model of our own.

    Raises:
        BadInput: there is no such model, or it cannot be served so.
    """
    from rl import config as configs
    from rl.commands.train import cluster_and_overrides

    if arguments.protocol != "tools":
        raise BadInput("--protocol react: belongs to an endpoint; a model that is run here calls as its template says")
    cluster, overrides = cluster_and_overrides(arguments.rest)
    return configs.for_model(arguments.model, cluster, overrides)


def _report(console: Console, sums: _Sums, seconds: float, out: Path) -> None:
    parts = [
        f"{sums.num} responses: {sums.num_hallucinated} with a hallucination",
        f"{sums.num - sums.num_hallucinated - sums.num_undecided - sums.num_failed} without",
        f"{sums.num_undecided} undecided",
        f"{sums.num_failed} failed",
    ]
    console.print(f"{', '.join(parts)}; {duration(seconds)}; {out}", markup=False, soft_wrap=True)
