"""What every published metric gives: a verdict on one episode, and the figures of a subset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from envs.types import Task
from rollout.trajectory import Trajectory

Record = Mapping[str, float | None]
"""Named values of one task; None where the task does not speak to a value or the value cannot be had here."""


class PublishedMetric(Protocol):
    """The metric of one benchmark. Pure: no network, no files."""

    missing: Mapping[str, str]
    """Published figures that cannot be computed from a trajectory alone, and what they need (a judge, the tools). Never
    reported under the benchmark's name. Empty if the metric is complete."""

    def record(self, trajectory: Trajectory) -> Record:
        """One episode; reads `trajectory.task.facts["benchmark"]`."""
        ...

    def total(self, records: Sequence[tuple[Task, Record]]) -> Mapping[str, float | None]:
        """The published figures of a set of tasks, as fractions unless the name says otherwise."""
        ...
