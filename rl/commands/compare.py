"""Compare two or more runs on the same held-out tasks, in pairs, with exact McNemar tests.

Each run is compared with the first by what both measured after training. Where the first run is to be judged
against another way of spending the same time, --control writes the second run into the first one's summary.json:

  tether train ppo_tiny
  tether train sft_control_tiny run.max_seconds=380        the learning_seconds of the first one's summary
  tether compare runs/ppo_tiny-... runs/sft_control_tiny-... --control
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from rl.console import make_console
from rl.errors import BadInput

CURVES = {
    "{}_greedy/success": "Success, greedy",
    "{}_greedy/hallucination_rate": "Hallucination, greedy",
    "{}/success": "Success, temperature 1",
    "{}/hallucination_rate": "Hallucination, temperature 1",
}
"""Metrics of a set of tasks, and the title of their panel."""
ELAPSED = "timing_s/elapsed"
UNEQUAL = 0.05
"""Share of a run's seconds of learning by which those of its control may differ."""


def add(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="run directories, two at least")
    parser.add_argument(
        "--control", action="store_true", help="write the second run's rates into the first one's summary, as control"
    )
    parser.add_argument(
        "--curves",
        metavar="FILE",
        type=Path,
        help="draw what the runs measured during training (evaluation.every) over the seconds of learning, "
        "one line for each recipe with its seeds as a band; .png or .svg",
    )


def run(arguments: argparse.Namespace) -> int:
    """Compare."""
    runs: list[Path] = arguments.runs
    if len(runs) < 2:
        raise BadInput("compare: expected two runs at least")
    from rl.report.summary import SUMMARY_NAME, comparison, read_summary
    from rl.tables import paired, print_paired, print_stages

    try:
        summaries = [read_summary(directory / SUMMARY_NAME) for directory in runs]
        folders = [directory / "evaluation" / "after" for directory in runs]
        tests = [paired(folders[0], folder) for folder in folders[1:]]
    except (OSError, ValueError) as error:
        raise BadInput(str(error)) from error
    names = [directory.resolve().name for directory in runs]
    stages = {name: summary["after"] for name, summary in zip(names, summaries, strict=True) if "after" in summary}
    if "before" in summaries[0]:
        stages = {"before": summaries[0]["before"]} | stages
    console = make_console()
    print_stages(console, stages)
    for name, found in zip(names[1:], tests, strict=True):
        print_paired(console, found, names[0], name)
    if arguments.control:
        _warn_of_unequal_time(console, summaries)
        path = runs[0] / SUMMARY_NAME
        summary = summaries[0] | {"control": summaries[1]["after"]}
        tests_json = {place: comparison(found) for place, found in tests[0].items()}
        summary["comparisons"] = summary.get("comparisons", {}) | {"after_vs_control": tests_json}
        path.write_text(json.dumps(summary, indent=2) + "\n")
        console.print(f"wrote {path}", markup=False)
    if arguments.curves:
        draw_curves(runs, arguments.curves)
        console.print(f"wrote {arguments.curves}", markup=False)
    return 0


def draw_curves(runs: Sequence[Path], path: Path) -> None:
    """Draw the held-out rates that runs measured during training.

    Raises:
        BadInput: a run measured nothing, or is no run.
    """
    from rl.config import read_resolved
    from rl.report.curves import Curve, draw, run_of

    curves: dict[str, list] = {}
    for directory in runs:
        config = read_resolved(directory)
        name = Path(config.evaluation.tasks[0]).name.split(".")[0]
        rates = {rate: rate.format(name) for rate in CURVES}
        found = run_of(metrics_of_parts(directory), ELAPSED, rates)
        if not found.x:
            raise BadInput(f"{directory}: no evaluation during training; set evaluation.every")
        curves.setdefault(config.recipe, []).append(found)
    title = "Held-out tasks during training"
    lines = [Curve(label=recipe, runs=found) for recipe, found in curves.items()]
    draw(lines, path, x_label="seconds of learning", title=title, panels=CURVES)


def metrics_of_parts(run: Path) -> list[dict[str, Any]]:
    """The metrics of all parts of a run, their seconds counted through."""
    from rl.metrics import read_metrics
    from rl.sequence import directories

    # A part begins with the model that the one before it ended with: where both measured it, it is one point.
    lines: dict[float, dict[str, Any]] = {}
    seconds = 0.0
    for directory in directories(run):
        own = read_metrics(directory)
        lines |= {line[ELAPSED] + seconds: line | {ELAPSED: line[ELAPSED] + seconds} for line in own}
        seconds += own[-1][ELAPSED] if own else 0.0
    return [lines[elapsed] for elapsed in sorted(lines)]


def _warn_of_unequal_time(console: Console, summaries: Sequence[Mapping[str, Any]]) -> None:
    run, control = (summary.get("learning_seconds", 0.0) for summary in summaries[:2])
    if abs(run - control) > UNEQUAL * run:
        console.print(f"[yellow]the control learned for {control:.0f} s and the run for {run:.0f} s[/]")
