"""The report's tables in Markdown."""

from __future__ import annotations

from rl.report.rows import Cells


def markdown(cells: Cells) -> str:
    """Cells as a Markdown table under its title."""
    lines = [
        f"**{cells.title}**",
        "",
        _row(cells.header),
        _row(["---", *["---:"] * (len(cells.header) - 1)]),
        *map(_row, cells.rows),
    ]
    return "\n".join(lines) + "\n"


def _row(cells: tuple[str, ...] | list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
