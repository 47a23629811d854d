"""Tasks that are made when they are asked for, by their number."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

from envs.types import Task


class TaskSequence(ABC):
    """A deterministic sequence of `num` tasks; endless if `num` is None."""

    num: int | None

    def __len__(self) -> int:
        if self.num is None:
            raise TypeError("an endless sequence of tasks has no length")
        return self.num

    def __iter__(self) -> Iterator[Task]:
        index = 0
        while self.num is None or index < self.num:
            yield self.task(index)
            index += 1

    @abstractmethod
    def task(self, index: int) -> Task:
        """Task number `index`.

        Raises:
            IndexError: there is none.
        """

    def expect(self, index: int) -> None:
        """Refuse a number that no task has.

        Raises:
            IndexError: it has none.
        """
        if index < 0 or (self.num is not None and index >= self.num):
            raise IndexError(f"task {index} of {self.num}")
