import asyncio
import io
import time
from collections.abc import Iterator

import pytest
from rich.console import Console

from rl.console import all_started, make_console, make_progress, track


def terminal() -> tuple[Console, io.StringIO]:
    shown = io.StringIO()
    return Console(file=shown, force_terminal=True, width=120), shown


def test_a_tracked_iterable_gives_its_items_and_shows_how_many_are_done_with_rate_and_time_left():
    def letters() -> Iterator[str]:
        for letter in "abc":
            time.sleep(0.02)
            yield letter

    console, shown = terminal()
    assert list(track(letters(), "letters", total=3, console=console, auto_refresh=False)) == ["a", "b", "c"]
    assert "letters" in shown.getvalue()
    assert "3/3" in shown.getvalue()
    assert "/s" in shown.getvalue()
    assert "left" in shown.getvalue()


def test_a_bar_that_does_not_refresh_itself_moves_with_the_items():
    console, shown = terminal()
    for number in track(range(2), "schemes", total=2, console=console, auto_refresh=False):
        assert f"{number}/2" in shown.getvalue()


def test_bars_can_stand_inside_one_another():
    console, shown = terminal()
    with make_progress(console) as outer:
        outer.add_task("training", total=2)
        assert list(track([1], "evaluating", total=1, console=console)) == [1]
    assert "evaluating" in shown.getvalue()
    assert "training" in shown.getvalue()


def test_without_a_terminal_there_is_no_bar():
    shown = io.StringIO()
    assert list(track([1, 2], "items", total=2, console=Console(file=shown))) == [1, 2]
    assert shown.getvalue() == ""
    assert make_console().width >= 80


async def test_what_starts_together_is_waited_for_together():
    console, shown = terminal()
    started = asyncio.Event()

    async def engine() -> None:
        started.set()

    async def learner() -> None:
        await started.wait()

    await all_started(console, {"learner": learner(), "engine": engine()})
    assert "starting learner" in shown.getvalue()
    assert "starting engine" in shown.getvalue()


async def test_a_start_that_fails_is_raised_while_the_others_still_wait():
    async def hangs() -> None:
        await asyncio.Event().wait()

    async def fails() -> None:
        raise OSError("no device")

    with pytest.raises(OSError, match="no device"):
        await all_started(Console(file=io.StringIO()), {"learner": hangs(), "engine": fails()})
