"""Report what a data set has in common with others: requests, parts of requests, tool names and signatures.

IN and each --against are a task file, a file of conversations, a benchmark as NAME:DIR, or train, heldout or real (the
tool world). OUT gets a record for each task of IN: the nearest request of each other data set, the share of its n-grams
that stands there, and the tools that are known there by name and by signature. OUT.summary.json holds the figures of
the table.

  tether data contamination my_tasks.jsonl --against bfcl:DIR --against heldout --out overlap.jsonl
"""

from __future__ import annotations

import argparse

from rl.errors import BadInput


def add(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument("dataset", metavar="IN")
    parser.add_argument("--against", action="append", required=True, metavar="DATASET", help="may be repeated")
    parser.add_argument("--num", type=int, default=1000, metavar="N", help="tasks of the tool world (default: 1000)")
    parser.add_argument("--ngram", type=int, default=5, metavar="N", help="words of an n-gram (default: 5)")
    parser.add_argument(
        "--threshold",
        type=float,
        default=0.5,
        metavar="S",
        help="share of its n-grams from which on a request counts as overlapping (default: 0.5)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Compare and print the table."""
    from rl.data.contamination import Overlaps, cells
    from rl.data.datasets import read_dataset
    from rl.data.job import Job, run_job

    if arguments.ngram < 1 or not 0 < arguments.threshold <= 1:
        raise BadInput(
            f"--ngram {arguments.ngram}, --threshold {arguments.threshold}: expected at least 1, and above 0 up to 1"
        )
    dataset = read_dataset(arguments.dataset, num=arguments.num, seed=arguments.seed)
    others = [read_dataset(name, num=arguments.num, seed=arguments.seed) for name in dict.fromkeys(arguments.against)]
    names = [other.name for other in others]
    if len(set(names)) < len(names):
        raise BadInput(f"--against: two data sets are called {max(names, key=names.count)}; expected distinct names")
    job = Job(
        command="contamination",
        out=arguments.out,
        inputs=tuple(path for one in (dataset, *others) for path in one.inputs),
        settings={
            "dataset": arguments.dataset,
            "against": arguments.against,
            "num": arguments.num,
            "ngram": arguments.ngram,
            "threshold": arguments.threshold,
        },
        seed=arguments.seed,
        overwrite=arguments.overwrite,
    )
    work = Overlaps(dataset, others, ngram=arguments.ngram, threshold=arguments.threshold)
    return run_job(job, work, total=len(dataset.tasks), unit="tasks", cells=cells)
