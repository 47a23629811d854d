"""Groups on their way from the source to the learner, in slots that bound how stale they can get.

    make(0) make(1) make(2) ...          started in order, as long as there are free slots
       |       |       |
       v       v       v
    [ group | group | group | ... ]      (max_staleness + 1) * groups_per_step slots
       |
    take(n): the n oldest, in order; waits for them
       |
    release(n): the weights learned from them are live; the next take starts n more

A slot stays taken while its group is learned from, so with max_staleness = 0 nothing is sampled until the new
weights are live, and no group can be older than max_staleness updates when it is learned from. Only `take` starts
groups, so after the last step nothing is made in vain. Groups come in
the order of their index, whoever finishes first: a source that gives away the short episodes first is biased.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Buffer(Generic[T]):
    """Runs `make(index)` for consecutive indices in a bounded number of slots."""

    def __init__(self, make: Callable[[int], Awaitable[T]], *, num_slots: int, start: int = 0) -> None:
        """Prepare a buffer; nothing is started before the first `take`.

        Args:
            make: makes the group of an index.
            num_slots: groups being made, waiting, or being learned from.
            start: the first index.
        """
        if num_slots < 1:
            raise ValueError(f"num_slots {num_slots}: expected at least 1")
        self._make = make
        self._free = num_slots
        self._next = start
        self._taken = 0
        self._pending: deque[asyncio.Future[T]] = deque()
        self.position = start
        """Index of the first group that was not learned from: where a resumed run goes on."""

    async def take(self, num: int) -> list[T]:
        """The next `num` groups in order.

        Raises:
            ValueError: there are not so many slots, so they would never come.
        """
        self._fill()
        if num > len(self._pending):
            raise ValueError(f"{num} groups asked for, {len(self._pending)} in the buffer's slots")
        groups = []
        for _ in range(num):
            groups.append(await self._pending[0])
            self._pending.popleft()
            self._taken += 1
        return groups

    def release(self, num: int) -> None:
        """Free the slots of `num` groups that were taken."""
        if num > self._taken:
            raise ValueError(f"{num} slots released, {self._taken} taken")
        self._taken -= num
        self._free += num
        self.position += num

    async def close(self) -> None:
        """Abandon what is being made."""
        self._free = 0
        pending = list(self._pending)
        self._pending.clear()
        for future in pending:
            future.cancel()
        await asyncio.gather(*pending, return_exceptions=True)

    def _fill(self) -> None:
        while self._free > 0:
            self._pending.append(asyncio.ensure_future(self._make(self._next)))
            self._next += 1
            self._free -= 1
