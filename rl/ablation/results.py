"""What a cell came to, as one small JSON file for each seed, and the tables over all of them.

    OUT/CELL/seed-1.json      written as the cell ends; enough for every figure below, without the run's folder
    OUT/table.md              made anew from them

A rate of a cell is the mean over its seeds and tasks. Its interval is a percentile bootstrap that draws seeds and tasks
anew, each with replacement: it covers other seeds as well as other tasks, roughly, as seeds are few. Differences draw
the same tasks for both.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from envs.types import Json
from rl.ablation.grid import Cell
from rl.evaluate import Evaluation
from rl.evaluator import read_results
from rl.report.markdown import markdown
from rl.report.rows import LABELS, Cells
from rl.report.summary import SUMMARY_NAME, read_summary
from rl.statistics import bootstrap_crossed, bootstrap_crossed_difference

SHOWN = ("success", "hallucination_rate", "deferral_precision", "deferral_recall", "needless_deferral_rate")
"""The rates of the tables."""

NONE_DUE = {
    "success": "success, no deferral due",
    "hallucination_rate": "hallucination, no deferral due",
}
"""Rates that the tables also show over the tasks alone in which nothing has to be asked for, by their labels."""

KEPT = ("success", "success_first_try", *SHOWN[1:])
"""The rates kept of every task."""

_MARKS = {True: "1", False: "0", None: "-"}
_VALUES = {"1": 1.0, "0": 0.0, "-": float("nan")}

_COLUMNS = (*((rate, False) for rate in SHOWN), *((rate, True) for rate in NONE_DUE))
_LABELS = (*(LABELS[rate] for rate in SHOWN), *NONE_DUE.values())


def cell_path(out: Path, cell: Cell, seed: int) -> Path:
    """The file of one seed of a cell; of a cell of another ablation, beside the results of this one."""
    folder = out.parent / cell.origin if cell.origin else out / cell.name
    return folder / f"seed-{seed}.json"


def write_cell(out: Path, cell: Cell, seed: int, run: Path, cluster: str) -> Path:
    """Write what a finished run came to, in one step.

    Args:
        out: the folder of the ablation's results.
        cell: the variant.
        seed: of the run.
        run: its directory.
        cluster: where it was run.

    Raises:
        ValueError: the run has no summary or no evaluation.
    """
    try:
        summary = read_summary(run / SUMMARY_NAME)
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(f"{run}: no readable {SUMMARY_NAME}: {error}") from error
    folders = sorted((run / "evaluation" / "after").glob("*-*"))
    if not folders:
        raise ValueError(f"{run}: nothing was measured after learning")
    evaluations = {folder.name: read_results(folder) for folder in folders}
    value: dict[str, Json] = {
        "cell": cell.name,
        "options": dict(cell.options),
        "seed": seed,
        "recipe": cell.recipe,
        "overrides": list(cell.overrides),
        "command": shlex.join(["tether", "train", cell.recipe, cluster, *cell.overrides, f"run.seed={seed}"]),
        "commit": summary["commit"],
        "versions": summary["versions"],
        "seconds": summary["seconds"],
        "learning_seconds": summary["learning_seconds"],
        "peak_memory_gb": summary["peak_memory_gb"],
        "rates": {name: _rates(found) for name, found in evaluations.items()},
        "tasks": {name: _marks(found) for name, found in evaluations.items()},
    }
    path = cell_path(out, cell, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(value, indent=1) + "\n")
    os.replace(part, path)
    return path


def read_cells(out: Path, cells: Sequence[Cell], seeds: Sequence[int]) -> dict[str, list[dict[str, Any]]]:
    """The finished seeds of each cell that has any.

    Raises:
        ValueError: as `read_cell`.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for cell in cells:
        runs = [run for seed in seeds if (run := read_cell(out, cell, seed)) is not None]
        if runs:
            found[cell.name] = runs
    return found


def read_cell(out: Path, cell: Cell, seed: int) -> dict[str, Any] | None:
    """One seed of a cell; None where it is not finished.

    Raises:
        ValueError: the file cannot be read, or holds what other settings of the cell came to; names it.
    """
    path = cell_path(out, cell, seed)
    if not path.is_file():
        return None
    try:
        value = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not JSON: {error}") from error
    # Of another ablation's cell, that ablation knows the settings.
    made_by = Path(value["recipe"]).stem, value["overrides"]
    if not cell.origin and made_by != (Path(cell.recipe).stem, list(cell.overrides)):
        raise ValueError(
            f"{path}: was made by other settings of this cell ({value['command']}); expected those of the recipe: "
            "delete it to run the cell anew"
        )
    return value


def tables(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Cells]:
    """For each evaluation, the rates of all cells and their differences from the first one."""
    names = list(dict.fromkeys(name for runs in found.values() for run in runs for name in run["tasks"]))
    parts = []
    for name in names:
        columns = {cell: [run for run in runs if name in run["tasks"]] for cell, runs in found.items()}
        columns = {cell: runs for cell, runs in columns.items() if runs}
        parts.append(_rate_cells(name, columns))
        if len(columns) > 1:
            parts.append(_difference_cells(name, columns))
    return parts


def write_tables(path: Path, title: str, parts: Sequence[Cells]) -> None:
    """Write the tables as Markdown, in one step."""
    text = f"# {title}\n\n" + "\n".join(map(markdown, parts))
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    os.replace(part, path)


def flags(runs: Sequence[Mapping[str, Any]], evaluation: str, rate: str, *, none_due: bool = False) -> np.ndarray:
    """What a rate says of every task in every run: float64 [S, T], NaN where it says nothing.

    Args:
        runs: the seeds of a cell.
        evaluation: such as heldout-greedy.
        rate: of KEPT.
        none_due: leave out the tasks in which a deferral is due, those of which deferral recall says something.

    Raises:
        ValueError: the runs measured different numbers of tasks.
    """
    rows = []
    for run in runs:
        marks = run["tasks"][evaluation]
        known = (
            marks[rate]
            if not none_due
            else (
                mark if due == _MARKS[None] else _MARKS[None]
                for mark, due in zip(marks[rate], marks["deferral_recall"], strict=True)
            )
        )
        rows.append([_VALUES[mark] for mark in known])
    if len({len(row) for row in rows}) > 1:
        raise ValueError(f"cell {runs[0]['cell']}: its seeds were measured on different numbers of tasks")
    return np.array(rows, dtype=np.float64)


def _rates(evaluation: Evaluation) -> dict[str, Json]:
    found = evaluation.to_json()
    return {rate: found[rate] for rate in KEPT} | {"n": found["n"], "errors": found["errors"]}


def _marks(evaluation: Evaluation) -> dict[str, Json]:
    return {rate: "".join(_MARKS[result.flags.get(rate)] for result in evaluation.results) for rate in KEPT}


def _rate_cells(name: str, columns: Mapping[str, Sequence[Mapping[str, Any]]]) -> Cells:
    rows = []
    for cell, runs in columns.items():
        row = [cell, str(len(runs)), f"{np.mean([run['learning_seconds'] for run in runs]):.0f}"]
        for rate, none_due in _COLUMNS:
            values = flags(runs, name, rate, none_due=none_due)
            row.append(_shown(_mean(values), bootstrap_crossed(values)))
        rows.append(tuple(row))
    num = len(flags(next(iter(columns.values())), name, SHOWN[0])[0])
    header = ("in %, with 95 % intervals", "seeds", "seconds", *_LABELS)
    return Cells(title=f"{name}, {num} tasks", header=header, rows=tuple(rows))


def _difference_cells(name: str, columns: Mapping[str, Sequence[Mapping[str, Any]]]) -> Cells:
    first, *others = columns
    rows = []
    for cell in others:
        row = [cell]
        for rate, none_due in _COLUMNS:
            one, other = (flags(columns[key], name, rate, none_due=none_due) for key in (first, cell))
            interval = bootstrap_crossed_difference(one, other)
            row.append(_shown(_mean(other) - _mean(one), interval, sign="+"))
        rows.append(tuple(row))
    header = (f"less {first}, in points", *_LABELS)
    return Cells(title=f"{name}, differences", header=header, rows=tuple(rows))


def _mean(values: np.ndarray) -> float:
    """The mean over all that is not NaN; NaN of nothing."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def _shown(value: float, interval: tuple[float, float] | None, sign: str = "") -> str:
    if np.isnan(value):
        return "-"
    text = f"{100 * value:{sign}.1f}"
    return text if interval is None else f"{text} [{100 * interval[0]:{sign}.1f}, {100 * interval[1]:{sign}.1f}]"
