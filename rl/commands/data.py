"""Make training data: mask errors, make tasks, demonstrations and preference pairs, compare data sets.

Each of the data sets below is made by `tether data NAME IN --out OUT`. OUT is JSONL, .jsonl.gz or Parquet, as its name
says. Every record has a `source`: the command, the file and its row, the seed, the version. OUT.summary.json tells what
the call came to. A call that was stopped goes on where it stopped if it is repeated: until all is done, what was done
lies in OUT.partial. Needs neither torch nor Ray, but where a model is sampled from: `token-pairs`, and `detections` if
the model is run here.

  tether data mask-errors demonstrations.jsonl --out masked.jsonl
  tether data NAME --help
"""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path

from rl.commands import add_command

STAGES = ("mask-errors", "reversed", "reliability", "preferences", "token-pairs", "detections", "contamination")


def add(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of every stage."""
    subparsers = parser.add_subparsers(title="data sets", metavar="NAME", required=True)
    for name in STAGES:
        stage = import_module(f"rl.commands.data_{name.replace('-', '_')}")
        subparser = add_command(subparsers, name, stage, parser.formatter_class)
        group = subparser.add_argument_group("output")
        group.add_argument("--out", metavar="OUT", type=Path, required=True, help=".jsonl, .jsonl.gz or .parquet")
        group.add_argument("--seed", type=int, default=0, metavar="N", help="(default: 0)")
        group.add_argument("--overwrite", action="store_true", help="begin anew, whatever is there")
        subparser.set_defaults(stage=stage.run)


def run(arguments: argparse.Namespace) -> int:
    """Run the stage."""
    return arguments.stage(arguments)
