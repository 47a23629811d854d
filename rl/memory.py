"""How much memory a run takes: the proportional set size summed over its process tree."""

from __future__ import annotations

import threading
from types import TracebackType

import psutil

INTERVAL_SECONDS = 2.0
_GB = 1e9


def tree_gb() -> float:
    """Proportional set size of this process and all below it: shared pages count once."""
    root = psutil.Process()
    total = 0
    for process in [root, *root.children(recursive=True)]:
        try:
            total += process.memory_full_info().pss
        except psutil.Error:
            # It ended while we looked, or belongs to somebody else.
            continue
    return total / _GB


class MemoryWatch:
    """Looks at the process tree every two seconds, between enter and exit."""

    def __init__(self) -> None:
        self.peak_gb = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            self.peak_gb = max(self.peak_gb, tree_gb())
            if self._over.wait(INTERVAL_SECONDS):
                return
