"""Compare two or more runs on the same held-out tasks, in pairs, with exact McNemar tests.

Each run is compared with the first by what both measured after training. Where the first run is to be judged
against another way of spending the same time, --control writes the second run into the first one's summary.json:

  tether train ppo_tiny
  tether train sft_control_tiny run.max_seconds=180
  tether compare runs/ppo_tiny-... runs/sft_control_tiny-... --control
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rl.console import make_console
from rl.errors import BadInput


def add(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="run directories, two at least")
    parser.add_argument(
        "--control", action="store_true", help="write the second run's rates into the first one's summary, as control"
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
        path = runs[0] / SUMMARY_NAME
        summary = summaries[0] | {"control": summaries[1]["after"]}
        tests_json = {place: comparison(found) for place, found in tests[0].items()}
        summary["comparisons"] = summary.get("comparisons", {}) | {"after_vs_control": tests_json}
        path.write_text(json.dumps(summary, indent=2) + "\n")
        console.print(f"wrote {path}", markup=False)
    return 0
