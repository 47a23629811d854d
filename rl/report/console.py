"""The report's tables on the console."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from rl.report.rows import Cells, Rates, error_cells, kind_cells, rates_cells


def table(cells: Cells) -> Table:
    """Cells as a rich table: names to the left, numbers to the right."""
    drawn = Table(title=cells.title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for index, name in enumerate(cells.header):
        drawn.add_column(name, justify="right" if index else "left", no_wrap=index > 0)
    for row in cells.rows:
        drawn.add_row(*row)
    return drawn


def print_report(console: Console, columns: Mapping[str, Rates], title: str = "Rates") -> None:
    """Print rates, success and hallucination by kind of task, and errors.

    Args:
        console: where to.
        columns: evaluations by name, such as before, after and control.
        title: of the first table: which tasks, and how they were sampled.
    """
    parts = [rates_cells(columns, title), kind_cells(columns), kind_cells(columns, "hallucination_rate")]
    for cells in (*parts, error_cells(columns)):
        if cells.rows:
            console.print()
            console.print(table(cells))
