"""The tables of detection: every set with its rates, and the paper's Table 4 beside ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from envs.types import Json
from rl.report.markdown import markdown
from rl.report.rows import Cells, percent, with_interval

COLUMNS = ("accuracy", "decided", "accuracy_decided", "precision", "recall")
TITLES = {"response": "Responses", "sentence": "Sentences"}

PAPER: Mapping[str, Mapping[str, tuple[float, float, float, float]]] = {
    "factool_chinese": {
        "GPT-4 prompt": (54.93, 59.40, 33.17, 42.57),
        "GPT-4 pipeline": (79.76, 64.71, 50.00, 56.41),
        "HaluAgent 7B": (73.57, 32.96, 55.97, 41.49),
        "HaluAgent 13B": (75.47, 33.80, 56.25, 42.23),
    },
    "factool_knowledge_qa": {
        "GPT-4 prompt": (75.97, 39.29, 50.00, 44.00),
        "GPT-4 pipeline": (84.12, 85.31, 93.21, 89.09),
        "HaluAgent 7B": (83.33, 41.82, 82.14, 55.42),
        "HaluAgent 13B": (81.97, 62.07, 85.71, 72.00),
    },
    "factool_math": {
        "GPT-4 prompt": (55.27, 49.25, 23.74, 32.04),
        "GPT-4 pipeline": (91.61, 79.66, 78.33, 78.99),
        "HaluAgent 7B": (85.39, 81.13, 59.72, 68.80),
        "HaluAgent 13B": (87.50, 64.52, 72.73, 68.38),
    },
    "factool_scientific": {
        "GPT-4 prompt": (59.14, 64.71, 81.82, 72.26),
        "GPT-4 pipeline": (95.72, 96.77, 98.04, 97.40),
        "HaluAgent 7B": (90.27, 94.77, 93.55, 94.16),
        "HaluAgent 13B": (92.39, 96.05, 94.81, 95.42),
    },
}
"""Table 4 of arXiv 2406.11277 as printed: accuracy, P, R, F1 of sentences in %."""

NOTES = (
    "Positive is a hallucination. What failed or was left undecided counts as wrong in accuracy and recall; `decided` "
    "is the share with a verdict.",
    "Table 4 is printed with precision and recall swapped in most rows (their denominators are those of the other: 153 "
    "false claims of Science, 56 of KB-QA); F1 does not change by that.",
    "The paper leaves failed samples out of its denominators, and counts the 29 Math claims labelled `null` as "
    "hallucinations; here they have no label.",
    "The paper's sets are whole; those here are the part of them that is in the data folder.",
    "Claims of FacTool are judged each by itself, as its labels are; elsewhere a sentence that uses a wrong result is "
    "wrong.",
    "Sets called _evidence are checked with the texts that come with them to search in.",
    "The labels of Chinese-QA are by FacTool with GPT-4, not by people.",
)


def set_cells(report: Mapping[str, Json], level: str) -> Cells:
    """Every set that has labels of a level, with its rates."""
    rows = []
    for name, figures in report["sets"].items():
        found = figures.get(level)
        if found is None:
            continue
        rates = [with_interval(found, column) for column in COLUMNS]
        counts = (str(found["n"]), str(found["positives"]))
        rows.append((name, *counts, *rates, percent(found["f1"]), str(found["failed"]), str(found["undecided"])))
    header = ("in %, with 95 % intervals", "n", "false", *COLUMNS, "f1", "failed", "undecided")
    return Cells(title=TITLES[level], header=header, rows=tuple(rows))


def paper_cells(report: Mapping[str, Json]) -> Cells:
    """Table 4 of the paper, and the same figures of this run where it has the set."""
    rows: list[tuple[str, ...]] = []
    for name, systems in PAPER.items():
        found = report["sets"].get(name, {}).get("sentence")
        if found is None:
            continue
        for system, values in systems.items():
            rows.append((f"{name}: {system}, paper", *(f"{value:.1f}" for value in values), "-"))
        ours = (found[rate] for rate in ("accuracy", "precision", "recall", "f1", "decided"))
        rows.append((f"{name}: {report['model']}", *map(percent, ours)))
    header = ("sentences, in %", "accuracy", "P", "R", "F1", "decided")
    return Cells(title="Beside HaluAgent's Table 4", header=header, rows=tuple(rows))


def cells_of(report: Mapping[str, Json]) -> Sequence[Cells]:
    """All tables that have rows."""
    found = (*(set_cells(report, level) for level in TITLES), paper_cells(report))
    return [cells for cells in found if cells.rows]


def as_markdown(report: Mapping[str, Json]) -> str:
    """The report for people."""
    tables = "\n".join(markdown(cells) for cells in cells_of(report))
    return f"# Detection by {report['model']}\n\n{tables}\n" + "".join(f"- {note}\n" for note in NOTES)
