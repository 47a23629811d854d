"""Mark the erroneous turns of demonstrations: they stay in the context and lose their loss (TL-Training's MAE).

IN is JSONL, .jsonl.gz or Parquet with `messages` and `tools` in OpenAI form. In OUT an erroneous assistant message has
`"weight": 0`, which `source.conversations` of a recipe understands, and each record lists its `errors`. What counts:

  the `status` of a tool message      ok, malformed, unknown_tool, invalid_arguments, failed, timed_out
  the documents in `tools`            unknown tools and arguments, missing ones, types, enums, formats
  the right calls, where a record has them as `reference` (with `ordered`), as a task file does:
                                      wrong tools and values, deferrals that were missed or needless, finish too early
  the words of a result               where it has no status: error fields of JSON, messages of Python and of web APIs

A turn without a call is never masked. --rule released is TL-Training's own rule: 14 patterns in the feedback, of which
two hit every feedback that holds the word "error".

  tether data mask-errors demonstrations.jsonl --out masked.jsonl
  tether data mask-errors demonstrations.parquet --out masked.parquet --kinds unknown_tool,missing_argument
  tether data mask-errors demonstrations.jsonl --out masked.jsonl --rule released
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rl.errors import BadInput


def add(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument("path", metavar="IN", type=Path)
    parser.add_argument(
        "--rule", choices=("structured", "released"), default="structured", help="(default: structured)"
    )
    parser.add_argument(
        "--kinds",
        metavar="KIND,...",
        help="the kinds of error that mask a turn (default: all but duplicate_call, ungrounded_value and "
        "ungrounded_answer, which are rules of thumb)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Mask and say what was found."""
    from rl.data.files import num_rows
    from rl.data.job import Job, run_job
    from rl.data.mask_errors import ALL_KINDS, DEFAULT_KINDS, MaskErrors, figures

    if arguments.kinds is not None and arguments.rule == "released":
        raise BadInput("--kinds: the released rule knows none")
    kinds = DEFAULT_KINDS if arguments.kinds is None else frozenset(arguments.kinds.split(","))
    unknown = sorted(kinds - ALL_KINDS)
    if unknown:
        raise BadInput(f"--kinds: {unknown[0]!r} is none; expected some of {', '.join(sorted(ALL_KINDS))}")
    if arguments.path.is_dir():
        # A job may read folders, and would hash all that lies in this one first.
        raise BadInput(f"{arguments.path}: is a folder; expected a file of conversations")
    job = Job(
        command="mask-errors",
        out=arguments.out,
        inputs=(arguments.path,),
        settings={"rule": arguments.rule, "kinds": sorted(kinds)},
        seed=arguments.seed,
        overwrite=arguments.overwrite,
    )
    work = MaskErrors(arguments.path, rule=arguments.rule, kinds=kinds)
    return run_job(job, work, total=num_rows(arguments.path), unit="conversations", figures=figures)
