"""Sample preference pairs of single turns that part at one token, where the policy wavers (TTPA).

MODEL is asked for candidates of every turn: greedily with the likeliest tokens at each position, then again from each
uncertain token of a call on with another likely token in its place, and a few samples beside. The candidates are scored
against the reference of the task (TTPA's error-oriented score), and those that err are paired with a right one that
shares most tokens with them. By default the candidates follow the right calls of the task (TTPA's gold history), with
--history own those of the policy.

OUT holds what `source.preferences` of a recipe reads; OUT.episodes the sampled candidates as Parquet, which
`tether data preferences` can pair by other rules. Pairs whose messages do not render to the sampled tokens are dropped.
--preset released asks for n samples and no branches, and pairs them as the release of the paper does.

  tether data token-pairs package:tiny --num 200 --out pairs.jsonl
  tether data token-pairs my_model one_gpu --tasks my_tasks.jsonl --history own --out pairs.parquet
  tether data token-pairs package:tiny --preset released --num 200 --out pairs.jsonl
"""

from __future__ import annotations

import argparse

from rl.commands.data_preferences import add_selection, check_selection
from rl.errors import BadInput

SAMPLES, BRANCHES = 5, 8


def add(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.usage = "tether data token-pairs MODEL [CLUSTER] [key=value ...] --out OUT [options]"
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument(
        "rest", metavar="CLUSTER key=value", nargs="*", default=[], help="where to run, and single settings of it"
    )
    parser.add_argument("--tasks", default="train", metavar="train|heldout|real|FILE", help="(default: train)")
    parser.add_argument("--num", type=int, default=100, metavar="N", help="tasks (default: 100)")
    group = parser.add_argument_group("how candidates are found")
    group.add_argument("--preset", choices=("stated", "released"), default="stated", help="(default: stated)")
    group.add_argument("--samples", type=int, default=SAMPLES, metavar="N", help=f"of each turn (default: {SAMPLES})")
    group.add_argument(
        "--branches", type=int, metavar="N", help=f"most tokens of a turn to branch at (default: {BRANCHES})"
    )
    group.add_argument(
        "--history",
        choices=("reference", "own"),
        default="reference",
        help="whose turns stand before a candidate (default: reference)",
    )
    group.add_argument("--temperature", type=float, default=1.0, metavar="T", help="of the samples (default: 1)")
    group.add_argument("--max-tokens", type=int, default=128, metavar="N", help="of one turn (default: 128)")
    group.add_argument("--max-turns", type=int, default=6, metavar="N", help="of one episode (default: 6)")
    add_selection(parser)


def run(arguments: argparse.Namespace) -> int:
    """Explore what is left, and pair."""
    from envs.component import Component
    from rl import config as configs
    from rl import parts
    from rl.commands.train import cluster_and_overrides
    from rl.console import make_console
    from rl.data.explored import Explored
    from rl.data.job import Job, check_out, run_job
    from rl.data.pairs import Settings, digest
    from rl.data.preferences import DEFAULT_GAPS, RULES, Groups, PairWork, figures
    from rl.task_sets import task_set
    from rollout.engine import Sampling
    from rollout.exploration import Exploration
    from rollout.worker import EpisodeSettings

    check_selection(arguments)
    num_branches = _num_branches(arguments)
    cluster, overrides = cluster_and_overrides(arguments.rest)
    config = configs.for_model(arguments.model, cluster, overrides)
    try:
        tasks = [task for task in task_set(arguments.tasks, arguments.num, arguments.seed).tasks if task.reference]
        follow = Component(factory="rl.data.reference_policy:ReferencePolicy")
        exploration = Exploration(
            num_samples=arguments.samples,
            num_branches=num_branches,
            follow=follow if arguments.history == "reference" else None,
        )
    except ValueError as error:
        raise BadInput(str(error)) from error
    if not tasks:
        raise BadInput(f"--tasks {arguments.tasks}: expected tasks with right calls as their reference")
    settings = EpisodeSettings(
        env=config.source.env,
        sampling=Sampling(temperature=arguments.temperature, max_tokens=arguments.max_tokens, seed=arguments.seed),
        max_turns=arguments.max_turns,
    )
    sampled = {
        "model": config.model.path,
        "tasks": arguments.tasks,
        "digest": digest([task.to_json() for task in tasks]),
        "env": config.source.env.model_dump(),
        "preset": arguments.preset,
        "samples": arguments.samples,
        "branches": num_branches,
        "history": arguments.history,
        "temperature": arguments.temperature,
        "max_tokens": arguments.max_tokens,
        "max_turns": arguments.max_turns,
    }
    min_gap = DEFAULT_GAPS["esm"] if arguments.min_gap is None else arguments.min_gap
    folder = arguments.out.with_name(f"{arguments.out.name}.episodes")
    job = Job(
        command="token-pairs",
        out=arguments.out,
        inputs=(folder / "trajectories",),
        settings={
            **sampled,
            "min_gap": min_gap,
            "max_rejected": arguments.max_rejected,
            "per_kind": arguments.per_kind,
        },
        seed=arguments.seed,
        overwrite=arguments.overwrite,
    )
    check_out(job)
    explored = Explored(folder, {**sampled, "seed": arguments.seed}, overwrite=arguments.overwrite)
    console = make_console()
    explored.sample(config, tasks, settings, exploration, console)
    groups = Groups(folder)
    work = PairWork(
        groups,
        rule=RULES["esm"],
        settings=Settings(
            preset=arguments.preset, min_gap=min_gap, max_rejected=arguments.max_rejected, seed=arguments.seed
        ),
        per_kind=arguments.per_kind,
        renderer=parts.build_renderer(config, configs.model_path(config.model.path)),
    )
    work.draw(console, len(groups))
    return run_job(job, work, total=len(groups), unit="tasks", figures=figures)


def _num_branches(arguments: argparse.Namespace) -> int:
    if arguments.preset == "released":
        if arguments.branches:
            raise BadInput(f"--branches {arguments.branches}: the released preset has none")
        return 0
    return BRANCHES if arguments.branches is None else arguments.branches
