"""The tables of an evaluation on a public benchmark."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from envs.types import Json
from rewards.relign import CLASSES
from rl.evaluate import RELIGN_RATE
from rl.report.markdown import markdown
from rl.report.rows import LABELS, SET_LABELS, Cells, error_cells, number, percent, value_at, with_interval
from rl.set_metrics import GUARDS

TOTAL = "total"
MANY = 12
"""With more subsets than that each figure has a row of its own."""
FEW = 6
"""Errors of so many subsets at most are shown apart; of more, in total."""
Table = tuple[tuple[str, ...], list[tuple[str, ...]]]
"""Header and rows."""
NUMBERS = ("utility", "cost")
"""Figures that are no shares begin with one of these."""
GROUNDING = ("ungrounded_by_rule", "ungrounded_by_judge", "agreement")
OWN = ("success", "hallucination_rate", RELIGN_RATE, "deferral_recall", "needless_deferral_rate")


def parts_of(report: Mapping[str, Json]) -> dict[str, Mapping[str, Json]]:
    """Figures by subset, and the total where there are several."""
    subsets = report["subsets"]
    return {**subsets, TOTAL: report["total"]} if len(subsets) > 1 else dict(subsets)


def published_cells(report: Mapping[str, Json]) -> Cells:
    """The benchmark's own figures, as they are published or under names of their own."""
    return _figure_cells(report, "published", f"{report['benchmark']}: own metric")


def judged_cells(report: Mapping[str, Json]) -> Cells:
    """What the benchmark's metric leaves to a judge, by the judge that was asked."""
    cells = _figure_cells(report, "judged", f"{report['benchmark']}: judged by {_judge(report)}")
    counts = [part.get("judge_open", 0) for part in parts_of(report).values()]
    if not cells.rows or not any(counts) or len(cells.header) != 1 + len(counts):
        return cells
    return replace(cells, rows=(*cells.rows, ("left open by the judge", *map(str, counts))))


def _judge(report: Mapping[str, Json]) -> str:
    return report["judge"]["model"] if "judge" in report else "nobody"


def _figure_cells(report: Mapping[str, Json], key: str, title: str) -> Cells:
    parts = parts_of(report)
    names = list(dict.fromkeys(name for part in parts.values() for name in part.get(key, ())))
    header, rows = (_by_place if len(parts) > MANY else _by_name)(parts, names, key)
    return Cells(title=title, header=header, rows=tuple(rows) if names else ())


def _by_name(parts: Mapping[str, Json], names: Sequence[str], key: str) -> Table:
    known = [name for name in names if any(part.get(key, {}).get(name) is not None for part in parts.values())]
    rows = [(name, *(_figure(name, part.get(key, {}).get(name)) for part in parts.values())) for name in known]
    return (_unit(known), *parts), [*rows, ("tasks", *(str(part.get(f"{key}_n", 0)) for part in parts.values()))]


def _by_place(parts: Mapping[str, Json], names: Sequence[str], key: str) -> Table:
    """A row for each figure that there is: with many subsets most have figures of their own."""
    rows: list[tuple[str, ...]] = []
    shown: set[tuple[str, float]] = set()
    for place, part in parts.items():
        for name in names:
            value = part.get(key, {}).get(name)
            if value is None or (place == TOTAL and (name, value) in shown):
                continue
            shown.add((name, value))
            rows.append((f"{place}: {name}", _figure(name, value)))
    return (_unit(names), "figure"), rows


def _unit(names: Sequence[str]) -> str:
    numbers = [name for name in NUMBERS if any(other.startswith(name) for other in names)]
    return f"in %; {' and '.join(numbers)} as numbers" if numbers else "in %"


def own_cells(report: Mapping[str, Json]) -> Cells:
    """tether's rates."""
    return _rate_cells(report, {rate: LABELS[rate] for rate in OWN}, "tether's rates")


def _rate_cells(report: Mapping[str, Json], names: Mapping[str, str], title: str) -> Cells:
    """Rates by dotted name with their intervals, a row for each subset and a column for each rate that is known."""
    parts = parts_of(report)
    known = [name for name in names if any(value_at(part, name) is not None for part in parts.values())]
    rows = [
        (place, *(with_interval(part, name) for name in known), str(part["n"]))
        for place, part in parts.items()
        if known
    ]
    header = ("in %, with 95 % intervals", *(names[name] for name in known), "tasks")
    return Cells(title=f"{report['benchmark']}: {title}", header=header, rows=tuple(rows))


def class_cells(report: Mapping[str, Json]) -> Cells:
    """Share of tasks with a hallucination of each of Relign's classes."""
    names = {f"hallucination_by_class.{name}": name for name in CLASSES}
    return _rate_cells(report, names, "tasks with a hallucination, by Relign's classes")


def guard_cells(report: Mapping[str, Json]) -> Cells:
    """What the rates may hide."""
    names = {name: SET_LABELS[name] for name in (f"guards.{guard}" for guard in GUARDS)}
    return _rate_cells(report, names, "guards against gaming")


def grounding_cells(report: Mapping[str, Json]) -> Cells:
    """Calls with a value that nothing grounds: the deterministic check beside the judge, and how far they agree."""
    rows = []
    for place, part in parts_of(report).items():
        found = part.get("grounding")
        if found and found["calls"] + found["open"]:
            shares = [with_interval(found, name) for name in GROUNDING]
            rows.append((place, *shares, number(found["kappa"]), str(found["calls"]), str(found["open"])))
    return Cells(
        title=f"Calls with a made-up value (ungrounded_value): by rule, and by {_judge(report)}",
        header=("in %, with 95 % intervals", "by rule", "by judge", "agreement", "kappa", "calls", "left open"),
        rows=tuple(rows),
    )


def kind_of_error_cells(report: Mapping[str, Json]) -> Cells:
    """The share of tasks with each kind of error: every subset where they are few, else in total."""
    parts = parts_of(report)
    return error_cells(parts if len(parts) <= FEW else {TOTAL: report["total"]})


def cells_of(report: Mapping[str, Json]) -> Iterator[Cells]:
    """All tables, without those that are empty."""
    tables = (
        published_cells,
        judged_cells,
        own_cells,
        guard_cells,
        class_cells,
        kind_of_error_cells,
        grounding_cells,
    )
    yield from (cells for table in tables if (cells := table(report)).rows)


def notes_of(report: Mapping[str, Json]) -> Iterator[str]:
    """One line each: what of the published metric is missing, what was left out, which faults of the gold there are."""
    if report["published_missing"]:
        names_of: dict[str, list[str]] = {}
        for name, what in report["published_missing"].items():
            names_of.setdefault(what, []).append(name)
        missing = "; ".join(f"{', '.join(names)} ({what})" for what, names in names_of.items())
        yield f"not computed, and what it needs: {missing}"
    total = report["total"]
    if "judge" in report:
        yield from _notes_of_judge(report["judge"], total["judge_open"])
    if total["failed"]:
        yield f"left out, as the infrastructure failed: {total['failed']} tasks"
    if total["n"] and total["success"] is None:
        yield "not known, as no reference is: success, deferrals, and the guards against gaming"
    if report.get("unscored"):
        yield f"left out, as their reference is unknown: {report['unscored']} tasks"
    if total["unjudged"]:
        yield f"not judged, as the record is incomplete: {total['unjudged']} findings"
    for name, fault in report["gold_faults"].items():
        if fault["num"]:
            yield f"gold fault {name}, {fault['num']} tasks: {fault['handling']}"


def _notes_of_judge(judge: Mapping[str, Json], num_open: int) -> Iterator[str]:
    spent = f"{judge['requests']} requests, {judge['tokens']} tokens; answers known from the cache cost nothing"
    yield f"judge {judge['model']}, tether's questions, version {judge['questions']}: {spent}"
    if judge["given_up"]:
        why = ", ".join(f"{reason}: {num}" for reason, num in judge["given_up"].items())
        yield (
            f"the judge gave up {sum(judge['given_up'].values())} questions ({why}); {num_open} tasks are left out of "
            "the figures that hang on them"
        )


def as_markdown(report: Mapping[str, Json]) -> str:
    """The whole report: tables and notes."""
    tables = "\n".join(markdown(cells) for cells in cells_of(report))
    notes = "".join(f"- {note}\n" for note in notes_of(report))
    return f"# {report['benchmark']}: {report['policy']}\n\n{tables}\n{notes}"


def _figure(name: str, value: float | None) -> str:
    """A fraction in per cent; what counts something else than shares as it is."""
    is_share = value is None or (0.0 <= value <= 1.0 and not name.startswith(NUMBERS))
    return percent(value) if is_share else number(value)
