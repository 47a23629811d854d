"""What people read: one rich console, plain lines where there is no terminal."""

from __future__ import annotations

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

PLAIN_WIDTH = 160
"""Columns without a terminal: lines must not be folded in a log file."""


def make_console(*, stderr: bool = False) -> Console:
    """A console that folds and colours only on a terminal."""
    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal:
        console = Console(stderr=stderr, highlight=False, width=PLAIN_WIDTH)
    return console


class RateColumn(ProgressColumn):
    """The field `rate` of a task where it has one, else what it advances by in a second."""

    def render(self, task: Task) -> Text:
        """The column's text; empty before the first advance."""
        return Text(task.fields.get("rate") or (f"{task.speed:,.1f}/s" if task.speed else ""))


def make_progress(console: Console) -> Progress:
    """A bar with rate and time left; shows nothing without a terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        RateColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def duration(seconds: float) -> str:
    """Seconds as people say them: 8.2 s, 3 min 05 s, 1 h 02 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
