"""What people read: one rich console, plain lines where there is no terminal."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Iterator, Mapping
from typing import TypeVar

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

T = TypeVar("T")

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


def make_progress(console: Console, *, auto_refresh: bool = True) -> Progress:
    """Bars with rate and time left, also inside one another; shows nothing without a terminal.

    Args:
        console: where they are drawn.
        auto_refresh: draw ten times a second, not only when told to: a thread that what is timed would pay for.
    """
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
        auto_refresh=auto_refresh,
        disable=not console.is_terminal,
    )


def track(
    items: Iterable[T], description: str, *, total: int, console: Console | None = None, auto_refresh: bool = True
) -> Iterator[T]:
    """The items one after another, with a bar of how many of `total` are done; see `make_progress`."""
    with make_progress(console or make_console(), auto_refresh=auto_refresh) as progress:
        yield from progress.track(items, total, description=description)


async def all_started(console: Console, starts: Mapping[str, Awaitable[object]]) -> None:
    """Wait for processes that start at the same time, with a bar of how long each has taken.

    Raises:
        Exception: whatever the first that fails raises, at once.
    """
    with make_progress(console) as progress:

        async def one(name: str, start: Awaitable[object]) -> None:
            bar = progress.add_task(f"starting {name}", total=1)
            await start
            progress.advance(bar)

        await asyncio.gather(*[one(name, start) for name, start in starts.items()])


def duration(seconds: float) -> str:
    """Seconds as people say them: 8.2 s, 3 min 05 s, 1 h 02 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
