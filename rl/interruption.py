"""Ctrl-C and SIGTERM: the first asks to stop after the step, the second stops at once."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Interruption:
    """Whether somebody wants the run to end."""

    def __init__(self) -> None:
        self.requested = False
        self._at_leisure = False
        self._task: asyncio.Task[Any] | None = None

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Handle the signals while the current task runs; outside `at_leisure` they cancel it."""
        self._task = asyncio.current_task()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.request)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    @contextmanager
    def at_leisure(self) -> Iterator[None]:
        """Within it the first signal only sets `requested`."""
        self._at_leisure = True
        try:
            yield
        finally:
            self._at_leisure = False

    def request(self) -> None:
        """What a signal does."""
        at_once = self.requested or not self._at_leisure
        self.requested = True
        if at_once and self._task is not None:
            self._task.cancel()
