"""The closing tables of a run and of a comparison of runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from rl.evaluate import FORMAT_ONLY, Comparison
from rl.evaluator import read_results
from rl.report.console import table
from rl.report.rows import GROUPS, LABELS, Cells, error_cells, kind_cells, p_value, percent, rates_cells

FORMAT_LABEL = "only the format better"

TITLES = {
    "heldout": "Held-out tasks, tools never seen",
    "real_apis": "Unseen real API documents",
    "detection": "Responses never seen, to be checked for hallucinations",
}
FIRST_SET = "heldout"
"""The first set of an evaluation that does not name it."""


def print_stages(console: Console, stages: Mapping[str, Mapping[str, Any]]) -> None:
    """Print the rates of all task sets and temperatures, side by side; kinds and errors of the greedy first set.

    Args:
        console: where to.
        stages: evaluations by name, in the form of a stage of summary.json.
    """
    for cells in stage_cells(stages):
        console.print()
        console.print(table(cells))


def stage_cells(stages: Mapping[str, Mapping[str, Any]]) -> Iterator[Cells]:
    """The tables of `print_stages`."""
    for title, columns in sections(stages):
        yield rates_cells(columns, title)
    greedy = {name: stage["greedy"] for name, stage in stages.items() if "greedy" in stage}
    detailed = greedy or stages
    groups = [kind_cells(detailed, by=by) for by in GROUPS]
    yield from (cells for cells in (*groups, error_cells(detailed)) if cells.rows)


def sections(stages: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, dict[str, Mapping[str, Any]]]]:
    """A title and the columns of each table of rates."""
    sets = ["", *sorted({key for stage in stages.values() for key, value in stage.items() if _is_set(key, value)})]
    for name in sets:
        found = {label: stage[name] if name else stage for label, stage in stages.items() if not name or name in stage}
        known = name or next((stage["tasks"] for stage in stages.values() if "tasks" in stage), FIRST_SET)
        title = TITLES.get(known, f"Tasks of {known}")
        sampled = {label: rates for label, rates in found.items() if "success" in rates}
        if sampled:
            yield f"{title}, temperature 1", sampled
        greedy = {label: rates["greedy"] for label, rates in found.items() if "greedy" in rates}
        if greedy:
            yield f"{title}, greedy", greedy


def _is_set(key: str, value: Any) -> bool:
    return isinstance(value, Mapping) and key != "greedy" and ("by_task_kind" in value or "greedy" in value)


def paired(first: Path, second: Path) -> dict[str, dict[str, Comparison]]:
    """Paired tests of two evaluation folders, for each task set and temperature that both hold.

    Raises:
        ValueError: they hold none in common, or one is not on the same tasks.
    """
    names = sorted({path.name for path in first.glob("*-*")} & {path.name for path in second.glob("*-*")})
    if not names:
        raise ValueError(f"{first} and {second} hold no evaluation of the same tasks")
    return {name: read_results(first / name).compare(read_results(second / name)) for name in names}


Comparisons = Mapping[str, Mapping[str, Comparison]]
"""By task set and temperature, then by rate."""


def print_paired(console: Console, comparisons: Comparisons, first: str, second: str) -> None:
    """Print success and hallucination of two evaluations with exact McNemar tests; summary.json holds all rates."""
    rows = []
    for place, found in comparisons.items():
        for rate in ("success", "hallucination_rate", "needless_deferral_rate", FORMAT_ONLY):
            one = found[rate]
            difference = "-" if one.difference is None else f"{100 * one.difference:+.1f}"
            rows.append(
                (
                    f"{place}: {LABELS.get(rate, FORMAT_LABEL)}",
                    percent(one.first),
                    percent(one.second),
                    difference,
                    p_value(one.p),
                )
            )
    if rows:
        title = f"{second} against {first}, on the same tasks"
        header = ("in %", first, second, "difference", "p (exact McNemar)")
        console.print()
        console.print(table(Cells(title=title, header=header, rows=tuple(rows))))
