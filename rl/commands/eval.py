r"""Measure a model on tasks it has never seen: success, hallucinations, deferrals, with 95 % intervals.

MODEL is a Hugging Face folder, a run directory (its newest checkpoint), or package:tiny, which is shipped. Every
task is done once at each temperature; `heldout` are procedural tools and `real` API documents that no training has
shown, `detection` responses to be checked for hallucinations, where success is the right verdict. Rates go to
rates.json, every episode to Parquet files that `tether show` prints.

  tether eval package:tiny
  tether eval runs/ppo_tiny-20260101-120000 --tasks heldout --num 200 --temperature 0
  tether eval my_model one_gpu --tasks my_tasks.jsonl

Public benchmarks (--benchmark) are read from their own files, and MODEL may also be an OpenAI-compatible endpoint (key:
OPENAI_API_KEY). Every task gets one reply, greedily unless told otherwise. With --predictions no model is run: recorded
outputs are scored. rates.json and report.md hold the benchmark's own metric and tether's rates, by subset and in total.

  tether eval package:tiny --benchmark bfcl --data DIR --subset simple_python
  tether eval http://localhost:8000/v1 --model qwen --benchmark relytoolbench --data DIR
  tether eval --benchmark rotbench --data DIR --predictions outputs.jsonl
  tether eval --benchmark tau_bench --data DIR --predictions recorded

With --judge an LLM judges what a benchmark's metric leaves to a judge, and whether the values of each call were made
up. Its figures have a table and names of their own (..._judged): they are comparable only with the same judge.

  tether eval --benchmark stabletoolbench --data DIR --predictions recorded \
      --judge http://localhost:8000/v1 --judge-model qwen --judge-requests 2000
"""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path

from rl import config as configs
from rl.commands import eval_benchmark
from rl.commands.train import cluster_and_overrides
from rl.console import duration, make_console
from rl.endpoints import is_endpoint
from rl.errors import BadInput
from rl.task_sets import task_sets

MAX_TOKENS = 128
"""Of a turn, unless told otherwise."""


def add(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.usage = (
        "tether eval MODEL [CLUSTER] [key=value ...] [options]\n"
        "       tether eval [MODEL] --benchmark NAME --data DIR [--predictions FILE] [options]"
    )
    parser.add_argument("model", metavar="MODEL", nargs="?")
    parser.add_argument(
        "rest", metavar="CLUSTER key=value", nargs="*", default=[], help="where to run, and single settings of it"
    )
    parser.add_argument(
        "--tasks",
        action="append",
        metavar="heldout|real|detection|FILE",
        help="may be repeated (default: heldout and real)",
    )
    parser.add_argument("--num", type=int, default=600, metavar="N", help="tasks of the first set (default: 600)")
    parser.add_argument(
        "--num-others", type=int, default=300, metavar="N", help="tasks of each further set (default: 300)"
    )
    parser.add_argument(
        "--temperature",
        type=float,
        action="append",
        metavar="T",
        help="0 is greedy; may be repeated (default: 1 and 0)",
    )
    parser.add_argument("--seed", type=int, default=20_000, metavar="N", help="of tasks and sampling (default: 20000)")
    parser.add_argument(
        "--max-tokens",
        type=int,
        metavar="N",
        help=f"of one turn (default: {MAX_TOKENS}; on a benchmark {eval_benchmark.MAX_TOKENS})",
    )
    parser.add_argument("--max-turns", type=int, default=6, metavar="N", help="of one episode (default: 6)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where results go (default: runs/eval-MODEL-TIME)")
    eval_benchmark.add(parser)


def run(arguments: argparse.Namespace) -> int:
    """Evaluate and print the tables."""
    if arguments.benchmark is not None:
        return eval_benchmark.run(arguments)
    _check(arguments)
    cluster, overrides = cluster_and_overrides(arguments.rest)
    config = configs.for_model(arguments.model, cluster, overrides)
    out = arguments.out or _default_out(config, arguments.model)
    names = arguments.tasks or ["heldout", "real"]
    try:
        sets = task_sets(names, num=arguments.num, num_others=arguments.num_others, seed=arguments.seed)
    except ValueError as error:
        raise BadInput(str(error)) from error
    configs.check_directory(out)
    from rl.evaluator import Evaluator
    from rl.serving import with_pool
    from rl.tables import print_stages
    from rollout.pool import RolloutPool

    console = make_console()
    console.print(f"starting the engine for {config.model.path}", markup=False)
    started = datetime.now(UTC)

    async def work(pool: RolloutPool) -> dict:
        evaluator = Evaluator(
            pool,
            config.source.env,
            max_tokens=arguments.max_tokens or MAX_TOKENS,
            max_turns=arguments.max_turns,
            console=console,
        )
        return await evaluator.run(sets, arguments.temperature or [1.0, 0.0], arguments.seed, out)

    rates = with_pool(config, out, work)
    (out / "rates.json").write_text(json.dumps(rates, indent=2) + "\n")
    print_stages(console, {Path(config.model.path).name: rates})
    seconds = (datetime.now(UTC) - started).total_seconds()
    console.print(f"{duration(seconds)}; {out}", markup=False)
    return 0


def _check(arguments: argparse.Namespace) -> None:
    if arguments.model is None:
        raise BadInput("eval: expected a MODEL, or --benchmark NAME with --predictions FILE")
    if is_endpoint(arguments.model):
        raise BadInput(f"{arguments.model}: an endpoint is measured on a benchmark; expected --benchmark NAME")
    options = ("data", "subset", "predictions", "endpoint_model", "actions", "limit", "judge")
    for option in (*options, *eval_benchmark.JUDGE_OPTIONS):
        if getattr(arguments, option) not in (None, False):
            name = option.removeprefix("endpoint_").replace("_", "-")
            raise BadInput(f"eval: --{name} belongs to --benchmark NAME")


def _default_out(config: configs.Config, model: str) -> Path:
    name = Path(model.removeprefix("package:")).name
    return Path(config.run.directory) / f"eval-{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
