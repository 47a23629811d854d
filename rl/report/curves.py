"""Learning curves as a picture: one panel for each rate, one line for each recipe, seeds as a band."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from envs.types import Json

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
"""Told apart also by those who do not see red and green (Okabe and Ito)."""
GREY = "#6b6b6b"
PANELS: Mapping[str, str] = {"success": "Success", "hallucination_rate": "Tasks with a hallucination"}
GRID_POINTS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one seed measured on its way."""

    x: Sequence[float]
    """Steps or seconds, rising."""
    rates: Mapping[str, Sequence[float]]
    """For each rate its values, as fractions, one for each x."""

    def __post_init__(self) -> None:
        if any(later <= earlier for earlier, later in zip(self.x, self.x[1:], strict=False)):
            raise ValueError("x must rise")
        for rate, values in self.rates.items():
            if len(values) != len(self.x):
                raise ValueError(f"{rate}: expected {len(self.x)} values, got {len(values)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One recipe with all its seeds."""

    label: str
    runs: Sequence[Run]


def run_of(rows: Sequence[Mapping[str, Json]], x: str, rates: Mapping[str, str]) -> Run:
    """A run from its recorded metrics; rows that lack one of the numbers are left out.

    Args:
        rows: the lines of metrics.jsonl.
        x: the name of what goes along.
        rates: for each rate of the picture the name of its metric.
    """
    full = [row for row in rows if all(row.get(name) is not None for name in (x, *rates.values()))]
    return Run(
        x=[float(row[x]) for row in full],
        rates={rate: [float(row[name]) for row in full] for rate, name in rates.items()},
    )


def smoothed(run: Run, window: int) -> Run:
    """The mean over the last `window` points in place of each point, shorter at the start."""

    def means(values: Sequence[float]) -> list[float]:
        return [float(np.mean(values[max(0, end - window) : end])) for end in range(1, len(values) + 1)]

    return Run(x=run.x, rates={rate: means(values) for rate, values in run.rates.items()})


def draw(
    curves: Sequence[Curve],
    path: Path,
    *,
    x_label: str = "step",
    title: str = "",
    panels: Mapping[str, str] = PANELS,
) -> None:
    """Write the picture; its format follows from the ending of `path`.

    The line is the mean of the seeds, the band reaches from the lowest to the highest.

    Raises:
        ValueError: nothing to draw.
    """
    if not any(run.x for curve in curves for run in curve.runs):
        raise ValueError("curves: no run holds a point")
    # Without pyplot there is no global state, no display and no choice of a backend.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    figure = Figure(figsize=(4.8 * len(panels), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, (rate, name) in zip(axes, panels.items(), strict=True):
        for curve, colour in zip(curves, _colours(len(curves)), strict=True):
            _draw_curve(axis, curve, rate, colour)
        axis.set_title(name, loc="left", fontsize=11, color="#222222")
        axis.set_xlabel(x_label, color=GREY)
        axis.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axis.grid(axis="y", color="#e4e4e4", linewidth=0.8)
        axis.set_axisbelow(True)
        axis.tick_params(colors=GREY, length=0)
        axis.spines[["top", "right", "left"]].set_visible(False)
        axis.spines["bottom"].set_color("#bbbbbb")
        axis.margins(x=0.02)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    figure.savefig(path, dpi=160)


def _draw_curve(axis, curve: Curve, rate: str, colour: str) -> None:
    runs = [run for run in curve.runs if run.x and rate in run.rates]
    if not runs:
        return
    label = f"{curve.label} ({len(runs)} seeds)" if len(runs) > 1 else curve.label
    x, values = on_one_grid(runs, rate)
    marker = "o" if len(x) <= 12 else None
    axis.plot(x, values.mean(axis=0), color=colour, linewidth=2, marker=marker, markersize=4, label=label)
    if len(runs) > 1:
        axis.fill_between(x, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.18, linewidth=0)


def on_one_grid(runs: Sequence[Run], rate: str) -> tuple[np.ndarray, np.ndarray]:
    """x [n] and values [runs, n] where all runs have been; points between are on the straight line."""
    shared = np.asarray(runs[0].x, dtype=np.float64)
    if any(len(run.x) != len(shared) or not np.allclose(run.x, shared) for run in runs[1:]):
        low, high = max(run.x[0] for run in runs), min(run.x[-1] for run in runs)
        shared = np.linspace(low, max(low, high), GRID_POINTS)
    return shared, np.stack([np.interp(shared, run.x, run.rates[rate]) for run in runs])


def _colours(num: int) -> list[str]:
    return [COLOURS[index % len(COLOURS)] for index in range(num)]
