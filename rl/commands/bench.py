"""Measure: `rollout` and `rewards` how fast tether is, `detect` how well hallucinations are found.

`rollout`: the whole path is Ray, concurrent multi-turn episodes, parsing, the tool world, rewards and Parquet; the bare
engine is vLLM's own LLM.generate with the same model, on the same prompts, for as many tokens, with the same number of
requests at a time. They take turns in one run, so that whatever else the machine does falls on both.

`rewards`: a file of tool-world replies with seeded errors is made and scored by each scheme, in processor time of one
core, reading and writing included; and `tether score` runs over the whole file, for its peak memory.

`detect`: responses with known labels are checked by the rules. Sets that are made need no data: demanded lengths and
dates, 1,000 each in English and Chinese. With --data also FacTool, HumanEval and mutations of its solutions, GSM8K,
HalluQA and HaluEval. --out gets rates.json, report.md, every line found and every disagreement; started again, it goes
on. With --throughput also how many sentences a second Ray actors check on one and on two cores, by turns.

  tether bench rollout package:tiny
  tether bench rollout my_model one_gpu --num 256 --rounds 5
  tether bench rewards --lines 1000000
  tether bench detect --data DIR --out runs/detect --jobs 2
  tether bench detect --set date_en --out runs/detect --throughput 2000
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import TaskID

from rewards.schemes import DEFAULT_SCHEME, SCHEMES
from rl import config as configs
from rl.checkpoint import is_adapter
from rl.commands.train import cluster_and_overrides
from rl.console import make_console, make_progress, track
from rl.errors import BadInput

CORES, ROUNDS = (1, 2), 3
"""Of the measurement of `detect --throughput`."""


def add(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    benches = parser.add_subparsers(title="benches", metavar="NAME", dest="name", required=True)
    _add_rollout(benches.add_parser("rollout", help="the whole path against the bare engine", allow_abbrev=False))
    _add_rewards(benches.add_parser("rewards", help="calls scored a second, and peak memory", allow_abbrev=False))
    _add_detect(benches.add_parser("detect", help="hallucinations found, on sets with labels", allow_abbrev=False))


def _add_rollout(parser: argparse.ArgumentParser) -> None:
    parser.usage = "tether bench rollout MODEL [CLUSTER] [key=value ...] [options]"
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument(
        "rest", metavar="CLUSTER key=value", nargs="*", default=[], help="where to run, and single settings of it"
    )
    parser.add_argument("--num", type=int, default=32, metavar="N", help="tasks of a round (default: 32)")
    parser.add_argument("--group-size", type=int, default=8, metavar="N", help="episodes of a task (default: 8)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="timed rounds (default: 3)")
    parser.add_argument("--max-tokens", type=int, default=96, metavar="N", help="of one turn (default: 96)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the figures there, as JSON")


def _add_rewards(parser: argparse.ArgumentParser) -> None:
    parser.usage = "tether bench rewards [options]"
    parser.add_argument(
        "--lines",
        type=int,
        default=1_000_000,
        metavar="N",
        help="of the file whose peak memory counts (default: 1000000)",
    )
    parser.add_argument(
        "--timed-lines", type=int, default=20_000, metavar="N", help="that each scheme is timed on (default: 20000)"
    )
    parser.add_argument("--scheme", action="append", choices=tuple(SCHEMES), help="may be repeated (default: all)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the figures there, as JSON")


def _add_detect(parser: argparse.ArgumentParser) -> None:
    parser.usage = "tether bench detect --out DIR [--data DIR] [options]"
    parser.add_argument("--out", type=Path, metavar="DIR", required=True, help="where results go; continued")
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of the public data sets")
    parser.add_argument(
        "--set", action="append", metavar="NAME", help="may be repeated (default: all there is data for)"
    )
    parser.add_argument("--num", type=int, default=1_000, metavar="N", help="of each set that is made (default: 1000)")
    parser.add_argument("--mutants", type=int, default=5, metavar="N", help="of each HumanEval solution (default: 5)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of what is made (default: 0)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes (default: 1)")
    parser.add_argument("--restart", action="store_true", help="forget what --out holds of these sets")
    parser.add_argument(
        "--throughput", type=int, metavar="N", help="time Ray actors on N responses, with one and with two cores"
    )


def run(arguments: argparse.Namespace) -> int:
    """Measure and print."""
    match arguments.name:
        case "rewards":
            return _run_rewards(arguments)
        case "detect":
            return _run_detect(arguments)
    return _run_rollout(arguments)


def _run_detect(arguments: argparse.Namespace) -> int:
    from rl import bench_detect
    from rl.detecting import Settings
    from rl.report.console import table
    from rl.report.detection import NOTES, as_markdown, cells_of
    from rl.report.summary import provenance

    known = [name for name in bench_detect.SETS if arguments.data is not None or name not in bench_detect.NEED_DATA]
    names = list(dict.fromkeys(arguments.set or known))
    for name in names:
        if name not in bench_detect.SETS:
            raise BadInput(f"--set {name}: expected one of {', '.join(bench_detect.SETS)}")
        if name not in known:
            raise BadInput(f"--set {name}: expected --data DIR, the folder of the public data sets")
    if arguments.data is not None and not arguments.data.is_dir():
        raise BadInput(f"--data {arguments.data}: no such folder")
    if min(arguments.num, arguments.mutants, arguments.jobs, arguments.throughput or 1) < 1:
        raise BadInput("--num, --mutants, --jobs and --throughput: expected at least 1")
    source = bench_detect.Source(
        data=arguments.data, seed=arguments.seed, num=arguments.num, num_mutants=arguments.mutants
    )
    console, settings, report = make_console(), Settings(), {"model": "rules", "seed": arguments.seed, "sets": {}}
    try:
        arguments.out.mkdir(parents=True, exist_ok=True)
        with make_progress(console) as progress:
            for name in names:
                bar = progress.add_task(name, total=None)

                def note(num: int, total: int, bar: TaskID = bar) -> None:
                    progress.update(bar, completed=num, total=total)

                if arguments.restart:
                    bench_detect.found_file(arguments.out, name).unlink(missing_ok=True)
                report["sets"][name] = bench_detect.measure(
                    name, source, settings, arguments.out, note, num_jobs=arguments.jobs
                )
        if arguments.throughput:
            report["throughput"] = _throughput(arguments, console)
        report |= provenance()
        (arguments.out / "rates.json").write_text(json.dumps(report, indent=2) + "\n")
        (arguments.out / "report.md").write_text(as_markdown(report))
    except ValueError as error:
        raise BadInput(str(error)) from error
    except OSError as error:
        raise BadInput(f"--out {arguments.out}: cannot be written: {error.strerror or error}") from error
    for cells in cells_of(report):
        console.print(table(cells))
        console.print()
    for line in NOTES:
        console.print(line, markup=False)
    console.print(str(arguments.out), markup=False)
    return 0


def _throughput(arguments: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Sentences a second of the rules on Ray actors."""
    from rl.cluster import connected
    from rl.detect_actors import measure_throughput, responses

    records = responses(arguments.throughput, arguments.seed)
    with connected(configs.Ray(), {"CPU": max(CORES)}, arguments.out / "logs"), make_progress(console) as progress:
        bar = progress.add_task("throughput", total=ROUNDS * len(CORES))
        found = measure_throughput(records, CORES, lambda: progress.advance(bar), num_rounds=ROUNDS).to_json()
    rates = found["sentences_per_second"]
    told = ", ".join(f"{num} {'core' if num == 1 else 'cores'}: {rates[str(num)]:,.0f} sentences/s" for num in CORES)
    console.print(f"{told}; ratio {found['ratio']:.2f} ({found['sentences']} sentences, {ROUNDS} rounds)")
    return found


def _run_rewards(arguments: argparse.Namespace) -> int:
    from rl.bench_rewards import measure_memory, measure_speed, write_replies

    if min(arguments.lines, arguments.timed_lines) < 1:
        raise BadInput("--lines and --timed-lines: expected at least 1")
    console = make_console()
    result: dict[str, Any] = {"speed": []}
    with tempfile.TemporaryDirectory(prefix="tether-") as name:
        folder = Path(name)
        timed = folder / "timed.jsonl"
        num_calls = write_replies(timed, arguments.timed_lines)
        schemes = arguments.scheme or list(SCHEMES)
        # Drawing takes processor time too, so the bar moves between the schemes only.
        for scheme in track(schemes, "schemes", total=len(schemes), console=console, auto_refresh=False):
            speed = measure_speed(timed, scheme, arguments.timed_lines, num_calls)
            result["speed"].append(speed.to_json())
            console.print(
                f"{scheme:<13} {speed.calls_per_second:>8,.0f} calls/s a core "
                f"({num_calls} calls on {arguments.timed_lines} lines in {speed.seconds:.2f} s of processor time)"
            )
        long = folder / "long.jsonl"
        write_replies(long, arguments.lines)
        memory = measure_memory(long, folder / "scores.jsonl", arguments.lines, DEFAULT_SCHEME)
        result["memory"] = memory.to_json()
        console.print(
            f"tether score over {memory.num_lines} lines ({memory.file_mb:,.0f} MB): {memory.peak_mb:,.0f} MB at most, "
            f"{memory.seconds:,.0f} s of processor time"
        )
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    return 0


def _run_rollout(arguments: argparse.Namespace) -> int:
    cluster, overrides = cluster_and_overrides(arguments.rest)
    overrides = [f"sampling.max_tokens={arguments.max_tokens}", *overrides]
    config = configs.for_model(arguments.model, cluster, overrides)
    if is_adapter(configs.model_path(config.model.path)):
        raise BadInput(f"{config.model.path}: an adapter; expected a whole model, such as tether merge makes")
    from envs.toolworld import ToolWorldTasks
    from rewards.actor import RewardPool
    from rl.serving import with_pool
    from rollout.bench import RolloutBench, bench_rollout
    from rollout.pool import RolloutPool
    from rollout.trajectory import Trajectory
    from rollout.vllm_engine import BareEngine

    if min(arguments.num, arguments.group_size, arguments.rounds) < 1:
        raise BadInput("--num, --group-size and --rounds: expected at least 1")

    console = make_console()
    tasks = list(ToolWorldTasks(seed=0, num=arguments.num))
    pool_settings = config.rollout_pool
    console.print("starting two engines: one behind the pool, one bare")

    async def work(pool: RolloutPool) -> RolloutBench:
        rewards = RewardPool(
            config.reward_pool.num_actors, config.reward, {"num_cpus": config.reward_pool.num_cpus_per_actor}
        )
        bare = await asyncio.to_thread(
            BareEngine,
            str(configs.model_path(config.model.path)),
            num_threads=pool_settings.num_threads,
            dtype=pool_settings.dtype,
            max_context=pool_settings.max_context,
            max_num_seqs=pool_settings.concurrency,
            kv_cache_gib=pool_settings.kv_cache_gib or None,
            gpu_memory_utilization=pool_settings.gpu_memory_utilization,
            log_file=str(Path(folder) / "bare.log"),
        )

        async def score(trajectories: Sequence[Trajectory]) -> object:
            return await rewards.score(trajectories)

        try:
            with make_progress(console) as progress:
                bar = progress.add_task("rounds, the first to warm up", total=1 + arguments.rounds)
                return await bench_rollout(
                    pool,
                    bare.generate,
                    tasks,
                    group_size=arguments.group_size,
                    num_rounds=arguments.rounds,
                    score=score,
                    directory=Path(folder),
                    after_round=lambda: progress.advance(bar),
                )
        finally:
            rewards.close()

    with tempfile.TemporaryDirectory(prefix="tether-") as folder:
        result = with_pool(config, Path(folder), work)
    for number, one in enumerate(result.rounds, start=1):
        path, engine = one.num_tokens / one.path_seconds, one.num_tokens / one.engine_seconds
        console.print(
            f"round {number}: {one.num_episodes} episodes, {one.num_completions} completions, {one.num_tokens} tokens: "
            f"whole path {path:,.0f} tokens/s, bare engine {engine:,.0f} tokens/s",
            soft_wrap=True,
        )
    console.print(
        f"whole path {result.path_tokens_per_second:,.0f} tokens/s, bare engine "
        f"{result.engine_tokens_per_second:,.0f} tokens/s, ratio {result.ratio:.2f} at {result.concurrency} at a time"
    )
    if arguments.out:
        arguments.out.write_text(json.dumps(result.to_json(), indent=2) + "\n")
    return 0
