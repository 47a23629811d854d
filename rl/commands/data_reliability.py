"""Make tasks in which a deferral is due: unchanged, missing-argument and unmatched-tools variants (Relign's synthesis).

IN is a task file, a file of conversations, a benchmark as NAME:DIR, or train, heldout or real (the tool world). OUT is
a task file for `source.tasks` of a recipe and `tether eval --tasks`; with --conversations, demonstrations of the tasks
for `source.conversations`.

  missing_argument   one required value is cut out of the request; right is talk_to_user, then the call. Nothing may
                     give the value: not the rest of the conversation, nor a default or the document of the parameter,
                     nor another tool.
  unmatched_tools    the tools of another task; right is change_tools, which in two of three tasks brings the tools that
                     serve. No tool may serve: none is called like one that does, has its parameters, shares two words
                     with the request and the documents of the tools that serve, or serves anything, as a search does.

What cannot be proven is left out, and counted with the reason. With --judge a language model must also call every
unmatched tool irrelevant.

  tether data reliability train --num 1000 --out tasks.jsonl
  tether data reliability my_tasks.jsonl --out variants.parquet --all
  tether data reliability bfcl:DIR --out demonstrations.jsonl --conversations
"""

from __future__ import annotations

import argparse
import math
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from rl.errors import BadInput

if TYPE_CHECKING:
    from rl.data.reliability import Irrelevance

DEFAULT_SHARES = "0.4,0.3,0.3"


def add(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument("dataset", metavar="IN")
    parser.add_argument("--num", type=int, default=1000, metavar="N", help="tasks of the tool world (default: 1000)")
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--shares",
        default=DEFAULT_SHARES,
        metavar="A,B,C",
        help=f"of unchanged, missing_argument and unmatched_tools; a task gets one of them (default: {DEFAULT_SHARES})",
    )
    group.add_argument("--all", action="store_true", help="every variant of every task")
    parser.add_argument("--conversations", action="store_true", help="write demonstrations and not tasks")
    group = parser.add_argument_group("language model")
    group.add_argument("--judge", metavar="URL", help="OpenAI-compatible; the key is taken from OPENAI_API_KEY")
    group.add_argument("--judge-model", metavar="NAME", help="its name at the endpoint")
    group.add_argument(
        "--judge-requests", type=int, default=10_000, metavar="N", help="what it may cost (default: 10000)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Make the variants and say how many there are."""
    from rl.data.datasets import read_dataset
    from rl.data.job import Job, run_job
    from rl.data.reliability import VARIANTS, Variants

    if (arguments.judge is None) != (arguments.judge_model is None):
        raise BadInput("--judge and --judge-model: expected both or none")
    shares = None if arguments.all else dict(zip(VARIANTS, _shares(arguments.shares), strict=True))
    dataset = read_dataset(arguments.dataset, num=arguments.num, seed=arguments.seed)
    job = Job(
        command="reliability",
        out=arguments.out,
        inputs=dataset.inputs,
        settings={
            "dataset": arguments.dataset,
            "num": len(dataset.tasks),
            "shares": shares,
            "conversations": arguments.conversations,
            "judge": arguments.judge_model,
        },
        seed=arguments.seed,
        overwrite=arguments.overwrite,
    )
    with _irrelevance(arguments) as irrelevance:
        work = Variants(
            dataset.tasks,
            seed=arguments.seed,
            shares=shares,
            conversations=arguments.conversations,
            irrelevance=irrelevance,
        )
        return run_job(job, work, total=work.num_items, unit="variants" if arguments.all else "tasks")


def _irrelevance(arguments: argparse.Namespace) -> AbstractContextManager[Irrelevance | None]:
    if arguments.judge is None:
        return nullcontext()
    from rl.data.relevance import judged_irrelevance

    return judged_irrelevance(arguments.judge, arguments.judge_model, max_requests=arguments.judge_requests)


def _shares(text: str) -> list[float]:
    try:
        shares = [float(part) for part in text.split(",")]
    except ValueError:
        shares = []
    if len(shares) != 3 or any(share < 0 for share in shares) or not 0 < sum(shares) < math.inf:
        raise BadInput(f"--shares {text!r}: expected three numbers, none negative or infinite and not all 0")
    return shares
