"""The cells of the report's tables, as text. What draws them knows nothing of rates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from envs.types import Json
from rewards.relign import CLASSES
from rl.evaluate import RATES, RELIGN_RATE, Comparison

Rates = Mapping[str, Json]
"""The rates of one evaluation, as `rl.evaluate.Evaluation.to_json` gives them."""

LABELS: Mapping[str, str] = {
    "success": "success",
    "success_first_try": "success at the first try",
    "hallucination_rate": "tasks with a hallucination",
    RELIGN_RATE: "hallucinated calls (Relign)",
    "deferral_precision": "deferrals right",
    "deferral_recall": "due deferrals made first",
    "needless_deferral_rate": "needless deferral",
}
"""The rates of tether, in the order of the report."""

SET_LABELS: Mapping[str, str] = {
    "relign.pass_rate": "passed (Relign, no judge)",
    "relign.repr": "reliably passed (RePR, no judge)",
    **{f"relign.hallucination.{name}": f"hallucinated calls: {name}" for name in CLASSES},
    "relign.utility": "benefit-cost utility, -20 to 20",
    "relign.benefit_cost_ratio": "benefit-cost ratio",
    "guards.call_avoidance": "no call where one solves the task",
    "guards.call_spam": "calls beyond the reference, a task",
    "guards.malformed_only": "no error but malformed",
}
"""Metrics of a set by dotted name: Relign's, over kinds of task alike, and the guards against gaming."""

_PLAIN = frozenset({"relign.utility", "relign.benefit_cost_ratio", "guards.call_spam"})
"""Those that are no share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """A table: the first column is a name, the others are numbers."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def rates_cells(columns: Mapping[str, Rates], title: str = "Rates") -> Cells:
    """Each rate with its interval, one column for each evaluation, such as before, after and control."""
    rows = [(LABELS[rate], *(with_interval(rates, rate) for rates in columns.values())) for rate in LABELS]
    for name, label in SET_LABELS.items():
        if any(value_at(rates, name) is not None for rates in columns.values()):
            rows.append((label, *(with_interval(rates, name) for rates in columns.values())))
    rows.append(("tasks", *(str(rates["n"]) for rates in columns.values())))
    if any(rates.get("failed") for rates in columns.values()):
        rows.append(("left out: infrastructure failed", *(str(rates.get("failed", 0)) for rates in columns.values())))
    return Cells(title=title, header=("in %, with 95 % intervals", *columns), rows=tuple(rows))


GROUPS = {"by_task_kind": "kind of task", "by_language": "language"}
"""What tasks are grouped by in the JSON of an evaluation."""


def kind_cells(columns: Mapping[str, Rates], rate: str = "success", by: str = "by_task_kind") -> Cells:
    """One rate by kind of task, or by another one of GROUPS."""
    kinds = list(dict.fromkeys(kind for rates in columns.values() for kind in rates.get(by, {})))
    rows = []
    for kind in kinds:
        found = [rates.get(by, {}).get(kind) for rates in columns.values()]
        num = max((part["n"] for part in found if part), default=0)
        rows.append((f"{kind} ({num})", *("-" if part is None else with_interval(part, rate) for part in found)))
    header = (f"{GROUPS[by].split()[0]} (tasks)", *columns)
    return Cells(title=f"By {GROUPS[by]}: {LABELS[rate]}", header=header, rows=tuple(rows))


def error_cells(columns: Mapping[str, Rates]) -> Cells:
    """The share of tasks with each kind of error, the most frequent first; kinds that never occur are left out."""
    largest: dict[str, float] = {}
    for rates in columns.values():
        for kind, share in rates["errors"].items():
            largest[kind] = max(largest.get(kind, 0.0), share or 0.0)
    kinds = sorted((kind for kind, share in largest.items() if share > 0), key=lambda kind: -largest[kind])
    rows = [(kind, *(percent(rates["errors"].get(kind)) for rates in columns.values())) for kind in kinds]
    return Cells(title="Errors: share of tasks", header=("in %", *columns), rows=tuple(rows))


def comparison_cells(comparisons: Mapping[str, Comparison], first: str, second: str) -> Cells:
    """Two runs on the same tasks, rate by rate, with exact McNemar tests."""
    rows = []
    for rate in RATES:
        found = comparisons[rate]
        difference = "-" if found.difference is None else f"{100 * found.difference:+.1f}"
        discordant = f"{found.only_first} / {found.only_second}"
        rows.append(
            (LABELS[rate], percent(found.first), percent(found.second), difference, discordant, p_value(found.p))
        )
    return Cells(
        title=f"{second} against {first}, in pairs",
        header=("in %", first, second, "difference", f"only {first} / only {second}", "p (exact McNemar)"),
        rows=tuple(rows),
    )


def percent(share: float | None) -> str:
    """A share as per cent with one decimal; a dash for none."""
    return "-" if share is None else f"{100 * share:.1f}"


def p_value(p: float) -> str:
    """A p value with two digits that matter."""
    return "< 0.0001" if p < 1e-4 else f"{p:.4f}" if p < 0.1 else f"{p:.2f}"


def with_interval(rates: Rates, name: str) -> str:
    """A value by dotted name with its interval: in per cent, or as a number if it is no share.

    Without an interval that has no width, as the bootstrap of equal values has.
    """
    shown = number if name in _PLAIN else percent
    value = shown(value_at(rates, name))
    interval: Sequence[float] | None = rates.get("intervals", {}).get(name)
    if interval is None or interval[0] == interval[1]:
        return value
    return f"{value} [{shown(interval[0])}, {shown(interval[1])}]"


def value_at(rates: Rates, name: str) -> float | None:
    """A value by dotted name; None if it is not there."""
    found: Json = rates
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def number(value: float | None) -> str:
    """A number with two decimals; a dash for none."""
    return "-" if value is None else f"{value:.2f}"
