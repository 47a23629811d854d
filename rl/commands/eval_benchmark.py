"""`tether eval --benchmark`: a model, an endpoint or recorded outputs on a public benchmark. No torch, no ray here."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from envs.benchmarks import BENCHMARKS
from envs.component import Component
from envs.types import Json, Task
from rewards.judge import AnswerCache
from rl import benchmarks, judging
from rl.benchmarks import Suite
from rl.console import duration, make_console, make_progress
from rl.data.episode_parts import IDENTITY
from rl.endpoints import expect_openai, is_endpoint
from rl.errors import BadInput, RunFailed
from rl.predictions import gold_trajectory, read_predictions
from rl.report.benchmark import as_markdown, cells_of, notes_of
from rl.report.console import table
from rl.report.summary import provenance
from rollout.store import write_trajectories
from rollout.trajectory import Ending, Trajectory

GOLD, RECORDED = "gold", "recorded"
"""What --predictions may be instead of a file."""
MAX_TOKENS = 1024
"""Of a reply, unless told otherwise; as RelyToolBench has it."""
EPISODES = "episodes"
"""Where the episodes are kept that our own engine did not sample; `tether show` prints them."""
JUDGE_OPTIONS = ("judge_model", "judge_requests", "judge_cache")
JUDGE_REQUESTS = 10_000
JUDGE_CACHE = "judge.sqlite"
ENV = Component(factory="envs.benchmarks.episode:SingleTurnEnv")


def add(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments that belong to benchmarks."""
    group = parser.add_argument_group("benchmarks")
    group.add_argument("--benchmark", metavar="NAME", help=f"in place of --tasks: {', '.join(BENCHMARKS)}")
    group.add_argument("--data", type=Path, metavar="DIR", help="its folder, or the folder above")
    group.add_argument("--subset", action="append", metavar="S", help="may be repeated (default: all)")
    group.add_argument(
        "--predictions",
        metavar="FILE",
        help="score recorded outputs, no model: a JSONL file; gold: the calls of the references; recorded: the "
        "episodes that come with the benchmark",
    )
    group.add_argument("--model", dest="endpoint_model", metavar="NAME", help="the model's name at an endpoint")
    group.add_argument("--actions", action="store_true", help="offer talk_to_user, change_tools and finish as well")
    group.add_argument("--limit", type=int, metavar="N", help="the first N tasks of each subset")
    group.add_argument(
        "--concurrency", type=int, default=8, metavar="N", help="requests to an endpoint at a time (default: 8)"
    )
    group.add_argument(
        "--timeout", type=float, default=120.0, metavar="S", help="seconds of one request (default: 120)"
    )
    group.add_argument(
        "--overwrite", action="store_true", help="ask an endpoint anew though --out holds replies to other questions"
    )
    group.add_argument("--retries", type=int, default=3, metavar="N", help="of a failed request (default: 3)")
    group.add_argument(
        "--judge",
        metavar="ENDPOINT",
        help="an LLM that judges what the benchmark's metric leaves to one, and the values of every call",
    )
    group.add_argument("--judge-model", metavar="NAME", help="its name at the endpoint")
    group.add_argument(
        "--judge-requests",
        type=int,
        metavar="N",
        help=f"what it may cost, every try counted (default: {JUDGE_REQUESTS}); what is not asked is left out",
    )
    group.add_argument(
        "--judge-cache", type=Path, metavar="FILE", help=f"answers already had (default: {JUDGE_CACHE} in --out)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Measure, print the tables, write rates.json and report.md."""
    started = time.monotonic()
    _check(arguments)
    try:
        # What is wrong with it is said before a model is run.
        cache = AnswerCache(arguments.judge_cache) if arguments.judge_cache else None
        suite = benchmarks.load(arguments.benchmark, arguments.data, arguments.subset)
        suite, episodes, source, num_left = _episodes(arguments, suite)
    except ValueError as error:
        raise error if isinstance(error, BadInput) else BadInput(str(error)) from error
    if episodes and all(episode.ending is Ending.ENGINE_FAILED for episode in episodes):
        raise RunFailed(f"no episode got a reply: {episodes[0].error.strip().splitlines()[-1]}")
    out = _out(arguments)
    if arguments.model is None:
        _keep(out, episodes)
    report = {**benchmarks.report(suite, episodes), "policy": source, "actions": arguments.actions}
    if num_left:
        report["unscored"] = num_left
    write(out, {**report, "seconds": time.monotonic() - started, **provenance()})
    if arguments.judge is not None:
        # What needs no judge is kept, should the asking be broken off.
        report = _judged(arguments, suite, episodes, report, cache or _cache_in(out))
        write(out, {**report, "seconds": time.monotonic() - started, **provenance()})
    console = make_console()
    for cells in cells_of(report):
        console.print(table(cells))
        console.print()
    for note in notes_of(report):
        console.print(note, markup=False)
    console.print(f"{duration(time.monotonic() - started)}; {out}", markup=False)
    return 0


def write(out: Path, report: dict[str, Json]) -> None:
    """The report for programs and for people."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "rates.json").write_text(json.dumps(report, indent=2) + "\n")
        (out / "report.md").write_text(as_markdown(report))
    except OSError as error:
        raise BadInput(f"{out}: cannot be written: {error}") from error


def _keep(out: Path, episodes: Sequence[Trajectory]) -> None:
    if (out / EPISODES / IDENTITY).is_file():
        raise BadInput(f"--out {out}: holds replies of an endpoint; name another folder")
    try:
        write_trajectories(out / EPISODES, 0, episodes, env=ENV.factory)
    except OSError as error:
        raise BadInput(f"{out}: cannot be written: {error}") from error


def _cache_in(out: Path) -> AnswerCache:
    try:
        return AnswerCache(out / JUDGE_CACHE)
    except ValueError as error:
        raise BadInput(str(error)) from error


def _judged(
    arguments: argparse.Namespace,
    suite: Suite,
    episodes: Sequence[Trajectory],
    report: dict[str, Json],
    cache: AnswerCache,
) -> dict[str, Json]:
    """The report with what the judge says."""
    whom = judging.Whom(
        url=arguments.judge,
        model=arguments.judge_model,
        max_requests=JUDGE_REQUESTS if arguments.judge_requests is None else arguments.judge_requests,
        concurrency=arguments.concurrency,
        timeout=arguments.timeout,
        max_retries=arguments.retries,
    )
    try:
        with make_progress(make_console()) as progress:
            bar = progress.add_task("judge", total=2 * len(episodes))
            said = asyncio.run(judging.ask(suite, episodes, whom, cache, lambda: progress.advance(bar)))
    finally:
        cache.close()
    return judging.with_judge(report, suite, episodes, said)


def _check(arguments: argparse.Namespace) -> None:
    if arguments.data is None:
        raise BadInput("eval --benchmark: expected --data DIR, the folder of the benchmark's files")
    if arguments.tasks:
        raise BadInput("eval: --tasks and --benchmark both name tasks; expected one of them")
    if (arguments.model is None) == (arguments.predictions is None):
        raise BadInput("eval --benchmark: expected a MODEL or --predictions FILE, and not both")
    if is_endpoint(arguments.model) != (arguments.endpoint_model is not None):
        raise BadInput("eval: --model NAME belongs to an endpoint, MODEL http(s)://...; expected both or neither")
    if arguments.out is not None:
        _check_out(arguments.out)
    _check_judge(arguments)
    if arguments.limit is not None and arguments.limit < 1:
        raise BadInput(f"--limit {arguments.limit}: expected at least 1")
    if arguments.concurrency < 1:
        raise BadInput(f"--concurrency {arguments.concurrency}: expected at least 1")
    if arguments.retries < 0:
        raise BadInput(f"--retries {arguments.retries}: expected at least 0")
    if not arguments.timeout > 0:
        raise BadInput(f"--timeout {arguments.timeout:g}: expected more than 0")


def _check_out(out: Path) -> None:
    """Whether results can go there: said before a model is run."""
    there = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise BadInput(f"--out {out}: {there} is no folder that can be written to")


def _check_judge(arguments: argparse.Namespace) -> None:
    if arguments.judge is None:
        for option in JUDGE_OPTIONS:
            if getattr(arguments, option) is not None:
                raise BadInput(f"eval: --{option.replace('_', '-')} belongs to --judge ENDPOINT")
        return
    if not is_endpoint(arguments.judge):
        raise BadInput(f"--judge {arguments.judge}: expected an endpoint such as http://localhost:8000/v1")
    if arguments.judge_model is None:
        raise BadInput("eval --judge: expected --judge-model NAME, the model's name at the endpoint")
    if arguments.judge_requests is not None and arguments.judge_requests < 0:
        raise BadInput(f"--judge-requests {arguments.judge_requests}: expected at least 0")
    expect_openai()


def _episodes(arguments: argparse.Namespace, suite: Suite) -> tuple[Suite, list[Trajectory], str, int]:
    """What was measured, the episodes, who did them, and how many tasks were left out."""
    if arguments.predictions == RECORDED:
        episodes = _first(benchmarks.recorded_trajectories(suite), suite, arguments.limit)
        return benchmarks.of_tasks(suite, [episode.task for episode in episodes]), episodes, RECORDED, 0
    suite = _limited(suite, arguments.limit)
    if arguments.predictions == GOLD:
        known = [task for task in suite.all_tasks if task.reference is not None]
        if not known:
            raise BadInput(f"{arguments.benchmark}: no task of it has a known reference, so there is no gold to score")
        num_left = len(suite.all_tasks) - len(known)
        return benchmarks.of_tasks(suite, known), [gold_trajectory(task) for task in known], GOLD, num_left
    if arguments.predictions is not None:
        path = Path(arguments.predictions)
        return suite, read_predictions(path, suite.all_tasks, offer_actions=arguments.actions), path.name, 0
    if is_endpoint(arguments.model):
        return suite, asyncio.run(_ask(arguments, suite.all_tasks)), arguments.endpoint_model, 0
    return suite, _sample(arguments, suite), Path(arguments.model.removeprefix("package:")).name, 0


def _limited(suite: Suite, limit: int | None) -> Suite:
    return benchmarks.of_tasks(suite, [task for tasks in suite.tasks.values() for task in tasks[:limit]])


def _first(episodes: Sequence[Trajectory], suite: Suite, limit: int | None) -> list[Trajectory]:
    if limit is None:
        return list(episodes)
    places = benchmarks.of_tasks(suite, [episode.task for episode in episodes]).tasks.values()
    kept = {task.task_id for tasks in places for task in tasks[:limit]}
    return [episode for episode in episodes if episode.task.task_id in kept]


def _temperature(arguments: argparse.Namespace) -> float:
    """Greedy unless told, as benchmarks are run; one temperature."""
    given = arguments.temperature or [0.0]
    if len(given) > 1:
        raise BadInput("eval --benchmark: expected one --temperature")
    return given[0]


async def _ask(arguments: argparse.Namespace, tasks: Sequence[Task]) -> list[Trajectory]:
    """One reply of the endpoint to each task; those that an earlier call had are not asked for again."""
    from rl.asked import Asked
    from rollout.endpoint import EndpointPolicy

    expect_openai()
    sampled = {
        "temperature": _temperature(arguments),
        "max_tokens": arguments.max_tokens or MAX_TOKENS,
        "seed": arguments.seed,
    }
    identity = {"model": arguments.endpoint_model, "actions": arguments.actions, **sampled}
    folder = _out(arguments) / EPISODES
    asked = Asked(folder, identity, tasks, ENV, overwrite=arguments.overwrite)
    policy = EndpointPolicy(
        arguments.model,
        arguments.endpoint_model,
        timeout=arguments.timeout,
        max_retries=arguments.retries,
        **sampled,
    )
    with make_progress(make_console()) as progress:
        bar = progress.add_task(arguments.benchmark, total=len(tasks))
        try:
            return await asked.ask(
                policy,
                concurrency=arguments.concurrency,
                offer_actions=arguments.actions,
                note=lambda num: progress.advance(bar, num),
            )
        finally:
            await policy.close()


def _out(arguments: argparse.Namespace) -> Path:
    """Where results go; the same folder whenever it is asked."""
    if arguments.out is None:
        arguments.out = Path("runs") / f"eval-{arguments.benchmark}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    return arguments.out


def _sample(arguments: argparse.Namespace, suite: Suite) -> list[Trajectory]:
    """One reply of our own engine to each task."""
    from rl import config as configs
    from rl.commands.train import cluster_and_overrides

    cluster, overrides = cluster_and_overrides(arguments.rest)
    config = configs.for_model(arguments.model, cluster, overrides)
    temperature = _temperature(arguments)
    out = arguments.out or Path(config.run.directory) / f"eval-{arguments.benchmark}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    arguments.out = out
    configs.check_directory(out)
    from rl.evaluator import Evaluator, place
    from rl.serving import with_pool
    from rl.task_sets import TaskSet
    from rollout.pool import RolloutPool

    async def work(pool: RolloutPool) -> list[Trajectory]:
        evaluator = Evaluator(
            pool,
            ENV,
            max_tokens=arguments.max_tokens or MAX_TOKENS,
            max_turns=1,
            console=make_console(),
            offer_actions=arguments.actions,
        )
        found: list[Trajectory] = []
        for subset, tasks in suite.tasks.items():
            folder = out / place(subset, temperature)
            part = TaskSet(name=subset, tasks=list(tasks))
            _, trajectories = await evaluator.episodes(part, temperature, arguments.seed, folder)
            found += trajectories
        return found

    return with_pool(config, out, work)
