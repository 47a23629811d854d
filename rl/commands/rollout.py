"""Let a model do tasks, and read its episodes with the errors marked where they happened.

MODEL is a Hugging Face folder, a run directory (its newest checkpoint), or package:tiny, which is shipped.

  tether rollout package:tiny --num 5 --print
  tether rollout runs/ppo_tiny-20260101-120000 --num 100 --tasks real --out episodes
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rl import config as configs
from rl.commands.train import cluster_and_overrides
from rl.console import make_console, make_progress
from rl.errors import BadInput
from rl.task_sets import task_set

if TYPE_CHECKING:
    from rewards.types import CallError
    from rollout.trajectory import Trajectory


def add(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.usage = "tether rollout MODEL [CLUSTER] [key=value ...] [options]"
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument(
        "rest", metavar="CLUSTER key=value", nargs="*", default=[], help="where to run, and single settings of it"
    )
    parser.add_argument("--num", type=int, default=5, metavar="N", help="tasks (default: 5)")
    parser.add_argument("--group-size", type=int, default=1, metavar="N", help="episodes of each task (default: 1)")
    parser.add_argument(
        "--tasks", default="heldout", metavar="heldout|real|train|detection|FILE", help="(default: heldout)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of tasks and sampling (default: 0)")
    parser.add_argument("--temperature", type=float, default=1.0, metavar="T", help="0 is greedy (default: 1)")
    parser.add_argument("--max-tokens", type=int, default=128, metavar="N", help="of one turn (default: 128)")
    parser.add_argument("--max-turns", type=int, default=6, metavar="N", help="of one episode (default: 6)")
    parser.add_argument("--print", action="store_true", help="print the episodes")
    parser.add_argument("--out", type=Path, metavar="DIR", help="keep the episodes there, as Parquet")


def run(arguments: argparse.Namespace) -> int:
    """Run the episodes, print them, keep them."""
    cluster, overrides = cluster_and_overrides(arguments.rest)
    config = configs.for_model(arguments.model, cluster, overrides)
    try:
        chosen = task_set(arguments.tasks, arguments.num, arguments.seed)
    except ValueError as error:
        raise BadInput(str(error)) from error
    if arguments.group_size < 1:
        raise BadInput(f"--group-size {arguments.group_size}: expected at least 1")
    if arguments.out:
        configs.check_directory(arguments.out)
    from rewards.classify import classify
    from rl.report.marks import marks
    from rl.serving import with_pool
    from rollout.display import episode_lines
    from rollout.engine import Sampling
    from rollout.pool import RolloutPool
    from rollout.store import write_trajectories
    from rollout.worker import EpisodeSettings

    tasks, env = chosen.tasks, chosen.env or config.source.env
    console = make_console()
    console.print(f"starting the engine for {config.model.path}", markup=False)
    settings = EpisodeSettings(
        env=env,
        sampling=Sampling(
            temperature=arguments.temperature,
            max_tokens=arguments.max_tokens,
            seed=arguments.seed if arguments.temperature else None,
        ),
        max_turns=max(arguments.max_turns, chosen.turns),
    )

    async def work(pool: RolloutPool) -> list[Trajectory]:
        with make_progress(console) as progress:
            bar = progress.add_task("episodes", total=len(tasks) * arguments.group_size)

            async def group(index: int) -> tuple[Trajectory, ...]:
                trajectories = await pool.run(
                    tasks[index], group_id=f"episode-{index}", group_size=arguments.group_size, settings=settings
                )
                progress.advance(bar, arguments.group_size)
                return trajectories

            groups = await asyncio.gather(*[group(index) for index in range(len(tasks))])
            return [trajectory for trajectories in groups for trajectory in trajectories]

    with tempfile.TemporaryDirectory(prefix="tether-") as logs:
        trajectories = with_pool(config, arguments.out or Path(logs), work)
    errors = [classify(trajectory) for trajectory in trajectories]
    if arguments.print:
        for trajectory, found in zip(trajectories, errors, strict=True):
            for line in episode_lines(trajectory, marks(found)):
                console.print(line, soft_wrap=True)
            console.print()
    console.print(summary(trajectories, errors), markup=False, soft_wrap=True)
    if arguments.out:
        path = write_trajectories(arguments.out, 0, trajectories, env=env.factory)
        console.print(f"kept in {path}", markup=False)
    return 0


def summary(trajectories: Sequence[Trajectory], errors: Sequence[Sequence[CallError]]) -> str:
    """One line: what became of the episodes, those that the infrastructure broke counted apart."""
    sound = [
        (trajectory, found)
        for trajectory, found in zip(trajectories, errors, strict=True)
        if not trajectory.ending.is_failure
    ]
    finished = sum(trajectory.outcome.finished for trajectory, _ in sound)
    without = sum(not found for _, found in sound)
    line = f"{len(sound)} episodes, {finished} finished, {without} without an error"
    failed = [trajectory for trajectory in trajectories if trajectory.ending.is_failure]
    if failed:
        reason = (failed[-1].error.strip().splitlines() or ["no reason given"])[-1]
        line += f"; {len(failed)} more failed by the infrastructure ({failed[-1].ending}: {reason})"
    return line
