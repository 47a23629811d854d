"""Show what a run came to, or what happened in kept episodes.

RUN is a run directory: shows its recipe, its last steps and its closing tables. TRAJECTORIES is a Parquet file or
dataset of kept episodes (RUN/evaluation/after/heldout-greedy, RUN/trajectories): shows them as they happened, errors
marked below the call that made them.

  tether show runs/ppo_tiny-20260101-120000
  tether show runs/ppo_tiny-20260101-120000/evaluation/after/heldout-greedy --num 3 --kind missing_argument --wrong
"""

from __future__ import annotations

import argparse
from itertools import islice
from pathlib import Path

from rl import config as configs
from rl.console import make_console
from rl.errors import BadInput


def add(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument("path", metavar="RUN|TRAJECTORIES", type=Path)
    parser.add_argument("--num", type=int, default=5, metavar="N", help="episodes or steps to show (default: 5)")
    parser.add_argument("--kind", metavar="KIND", help="only episodes of tasks of this kind")
    parser.add_argument("--id", metavar="TASK_ID", help="only the episode of this task")
    parser.add_argument("--markdown", action="store_true", help="only the closing tables of a run, as Markdown")
    parser.add_argument("--wrong", action="store_true", help="only episodes with errors")


def run(arguments: argparse.Namespace) -> int:
    """Show."""
    path: Path = arguments.path
    if not path.exists():
        raise BadInput(f"{path}: no such run or file")
    if (path / configs.RESOLVED_NAME).is_file():
        if arguments.markdown:
            show_markdown(path)
        else:
            show_run(path, arguments.num)
    elif path.is_dir() and not any(path.rglob("*.parquet")):
        raise BadInput(f"{path}: neither a run (it has no {configs.RESOLVED_NAME}) nor episodes (it has no *.parquet)")
    else:
        show_episodes(arguments)
    return 0


def show_run(directory: Path, num: int) -> None:
    """Recipe, last steps and closing tables of a run."""
    from rl.metrics import METRICS_NAME, read_metrics, step_line
    from rl.report.summary import SUMMARY_NAME, read_summary
    from rl.tables import print_stages

    console = make_console()
    config = configs.read_resolved(directory)
    console.print(
        f"{directory}: recipe {config.recipe}, seed {config.run.seed}, {config.run.steps} steps", markup=False
    )
    if (directory / METRICS_NAME).is_file():
        for line in read_metrics(directory)[-num:]:
            values = {name: value for name, value in line.items() if value is not None}
            console.print(step_line(line["step"], config.run.steps, values), soft_wrap=True)
    if (directory / SUMMARY_NAME).is_file():
        summary = read_summary(directory / SUMMARY_NAME)
        stages = {name: summary[name] for name in ("before", "after", "control") if name in summary}
        print_stages(console, stages)
        console.print(f"{summary['seconds']} s, {summary['peak_memory_gb']} GB, commit {summary['commit'][:12]}")
    else:
        console.print("no summary: the run has not ended, or its recipe evaluates nothing")


def show_markdown(directory: Path) -> None:
    """Closing tables of a run, for a paper or a README.

    Raises:
        BadInput: the run has no summary.
    """
    from rl.report.markdown import markdown
    from rl.report.summary import SUMMARY_NAME, read_summary
    from rl.tables import stage_cells

    if not (directory / SUMMARY_NAME).is_file():
        raise BadInput(f"{directory}: no {SUMMARY_NAME}: the run has not ended, or its recipe evaluates nothing")
    summary = read_summary(directory / SUMMARY_NAME)
    stages = {name: summary[name] for name in ("before", "after", "control") if name in summary}
    text = "\n".join(markdown(cells) for cells in stage_cells(stages))
    make_console().print(text, markup=False, highlight=False, soft_wrap=True)


def show_episodes(arguments: argparse.Namespace) -> None:
    """Kept episodes, errors marked.

    Raises:
        BadInput: the file holds no episodes.
    """
    from rewards.classify import classify
    from rl.report.marks import marks
    from rollout.display import episode_lines
    from rollout.store import read_trajectories

    console = make_console()

    def chosen():
        for trajectory in read_trajectories(arguments.path):
            errors = classify(trajectory)
            if arguments.kind and str(trajectory.task.kind) != arguments.kind:
                continue
            if arguments.id and trajectory.task.task_id != arguments.id:
                continue
            if errors or not arguments.wrong:
                yield trajectory, errors

    try:
        found = list(islice(chosen(), arguments.num))
    except ValueError as error:
        raise BadInput(str(error)) from error
    if not found:
        raise BadInput(f"{arguments.path}: no such episode")
    for trajectory, errors in found:
        for line in episode_lines(trajectory, marks(errors)):
            console.print(line, soft_wrap=True)
        console.print()
