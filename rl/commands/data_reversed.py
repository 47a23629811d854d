"""Construct demonstrations from their end: scenario and tools, calls and results, the answer, and last the request.

TTPA's reversed construction: as the request is written last, for calls that were made, it can be answered. IN says
whose tools are used: procedural or mixed (the tool world), real (API documents), a task file, a file of conversations,
or a benchmark as NAME:DIR. By default a rule writes everything: offline, and the same in every run. With --endpoint a
language model chooses the tools, makes the calls and writes answer and request; results are simulated in either case.

Kept is what passes the filters: the calls and distractors that were asked for, two tools at least, no failed call,
every value in the request, in an earlier result or in a document; no tool name and no result in the request; no request
twice, nor nearly, nor in a data set that is named by --against. The rest is counted with its reason. OUT holds
conversations for `source.conversations`; with --tasks, tasks for `source.tasks`.

  tether data reversed procedural --num 1000 --out reversed.jsonl
  tether data reversed real --num 500 --calls 4-7 --against bfcl:DIR --out reversed.parquet
  tether data reversed my_tasks.jsonl --num 200 --endpoint http://localhost:8000/v1 --model NAME --out reversed.jsonl
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from envs.actions import ACTION_NAMES
from rl.errors import BadInput

if TYPE_CHECKING:
    from envs.toolworld.catalogue import Catalogue
    from rl.data.reversed import Generator


def add(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument("tools", metavar="IN")
    parser.add_argument("--num", type=int, default=1000, metavar="N", help="samples to keep (default: 1000)")
    parser.add_argument(
        "--split", choices=("train", "heldout"), default="train", help="of tools and wording (default: train)"
    )
    parser.add_argument(
        "--calls", default="2-4", metavar="A-B", help="right calls of a sample (default: 2-4; TTPA has 4-7)"
    )
    parser.add_argument(
        "--distractors", type=int, default=2, metavar="N", help="tools that are not called (default: 2)"
    )
    parser.add_argument(
        "--against", action="append", default=[], metavar="DATASET", help="no request may be met there; may be repeated"
    )
    parser.add_argument("--tasks", action="store_true", help="write tasks and not conversations")
    group = parser.add_argument_group("language model")
    group.add_argument("--endpoint", metavar="URL", help="OpenAI-compatible; the key is taken from OPENAI_API_KEY")
    group.add_argument("--model", metavar="NAME", help="the model's name at the endpoint")
    group.add_argument(
        "--writer", metavar="NAME", help="another model for answer and request (default: that of --model)"
    )
    group.add_argument("--concurrency", type=int, default=4, metavar="N", help="samples at a time (default: 4)")
    group.add_argument("--timeout", type=float, default=60.0, metavar="S", help="seconds of one request (default: 60)")


def run(arguments: argparse.Namespace) -> int:
    """Construct and say what was kept."""
    from rl.data.datasets import read_dataset
    from rl.data.job import Job, run_job
    from rl.data.reversed import Reversed

    num_calls = _range(arguments.calls)
    if arguments.num < 1 or arguments.distractors < 0 or arguments.concurrency < 1:
        raise BadInput("--num, --distractors, --concurrency: expected at least 1, 0 and 1")
    if (arguments.endpoint is None) != (arguments.model is None):
        raise BadInput("--endpoint and --model: expected both or none")
    against = [read_dataset(name, num=1000, seed=arguments.seed) for name in dict.fromkeys(arguments.against)]
    catalogues, inputs = _catalogues(arguments)
    job = Job(
        command="reversed",
        out=arguments.out,
        inputs=(*inputs, *(path for one in against for path in one.inputs)),
        settings={
            "tools": arguments.tools,
            "num": arguments.num,
            "split": arguments.split,
            "calls": list(num_calls),
            "distractors": arguments.distractors,
            "against": arguments.against,
            "tasks": arguments.tasks,
            "model": arguments.model,
            "writer": arguments.writer,
        },
        seed=arguments.seed,
        overwrite=arguments.overwrite,
    )
    generator = _generator(arguments, catalogues, num_calls)
    work = Reversed(
        generator,
        num=arguments.num,
        min_calls=num_calls[0],
        num_distractors=arguments.distractors,
        against=against,
        conversations=not arguments.tasks,
    )
    return run_job(job, work, total=None, unit="attempts")


def _range(text: str) -> tuple[int, int]:
    first, _, last = text.partition("-")
    try:
        low, high = int(first), int(last or first)
    except ValueError:
        low, high = 0, 0
    if not 2 <= low <= high:
        raise BadInput(f"--calls {text!r}: expected A-B with 2 <= A <= B")
    return low, high


def _catalogues(arguments: argparse.Namespace) -> tuple[list[Catalogue], tuple[Path, ...]]:
    """The tools, and the files that they were read from."""
    from envs.toolworld.catalogue import ProceduralCatalogue
    from envs.toolworld.real import DocumentCatalogue, RealCatalogue, world_tool
    from rl.data.datasets import read_dataset

    split = arguments.split
    match arguments.tools:
        case "procedural":
            return [ProceduralCatalogue(split)], ()
        case "real":
            return [RealCatalogue(split)], ()
        case "mixed":
            return [ProceduralCatalogue(split), RealCatalogue(split)], ()
    dataset = read_dataset(arguments.tools, num=1, seed=0)
    tools = {tool.name: world_tool(tool) for tool in dataset.tools() if tool.name not in ACTION_NAMES}
    try:
        return [DocumentCatalogue(list(tools.values()))], dataset.inputs
    except ValueError as error:
        raise BadInput(f"{arguments.tools}: {error}") from error


def _generator(arguments: argparse.Namespace, catalogues: list[Catalogue], num_calls: tuple[int, int]) -> Generator:
    if arguments.endpoint is None:
        from rl.data.reversed import RuleGenerator

        return RuleGenerator(
            catalogues,
            split=arguments.split,
            seed=arguments.seed,
            num_calls=num_calls,
            num_distractors=arguments.distractors,
        )
    from rl.data.reversed_model import ModelGenerator

    return ModelGenerator(
        arguments.endpoint,
        arguments.model,
        catalogues,
        seed=arguments.seed,
        num_calls=num_calls,
        num_distractors=arguments.distractors,
        writer=arguments.writer,
        concurrency=arguments.concurrency,
        timeout=arguments.timeout,
    )
