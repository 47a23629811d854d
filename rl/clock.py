"""The time of the learning loop: where it goes, how far the run is, when it is over."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

SMOOTHING = 0.2
"""Weight of the latest step in the estimate of the time left."""


class Clock:
    """Knows the limits of a run in steps and seconds; `progress` follows whichever runs out first."""

    def __init__(self, num_steps: int, max_seconds: float, elapsed: float = 0.0) -> None:
        """Start counting.

        Args:
            num_steps: of the whole run.
            max_seconds: of the whole loop; 0: no limit.
            elapsed: seconds that the loop of a resumed run had taken.
        """
        self._num_steps = num_steps
        self._max_seconds = max_seconds
        self._elapsed = elapsed
        self._started = time.monotonic() - elapsed
        self._step_started = self._lap_started = time.monotonic()
        self._laps: dict[str, float] = {}
        self._usual: float | None = None

    def start(self) -> None:
        """The loop begins: what lies before it is not its time."""
        self._started = time.monotonic() - self._elapsed

    def elapsed(self) -> float:
        """Seconds the loop has taken."""
        return time.monotonic() - self._started

    def progress(self, step: int) -> float:
        """Share of the run that is done before step number `step` (from 0), in [0, 1]."""
        by_steps = step / self._num_steps if self._num_steps else 1.0
        by_time = self.elapsed() / self._max_seconds if self._max_seconds else 0.0
        return min(max(by_steps, by_time), 1.0)

    def is_over(self) -> bool:
        """Whether the time is used up."""
        return bool(self._max_seconds) and self.elapsed() >= self._max_seconds

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What is done inside is no time of the loop."""
        began = time.monotonic()
        try:
            yield
        finally:
            pause = time.monotonic() - began
            self._started += pause
            self._step_started += pause
            self._lap_started += pause

    def begin_step(self) -> None:
        """A step begins."""
        self._step_started = self._lap_started = time.monotonic()
        self._laps = {}

    def lap(self, name: str) -> None:
        """What was done since the last lap is called `name`."""
        now = time.monotonic()
        self._laps[name] = now - self._lap_started
        self._lap_started = now

    def end_step(self, step: int, metrics: Mapping[str, float]) -> dict[str, float]:
        """timing_s/* and perf/* of the step that is now finished, `step` of them in all."""
        seconds = time.monotonic() - self._step_started
        self._usual = seconds if self._usual is None else self._usual + SMOOTHING * (seconds - self._usual)
        left = (self._num_steps - step) * self._usual
        if self._max_seconds:
            left = min(left, self._max_seconds - self.elapsed())
        return {
            **{f"timing_s/{name}": value for name, value in self._laps.items()},
            "timing_s/step": seconds,
            "timing_s/elapsed": self.elapsed(),
            "timing_s/left": max(left, 0.0),
            "perf/tokens_per_second": metrics.get("train/tokens", 0.0) / seconds,
        }
