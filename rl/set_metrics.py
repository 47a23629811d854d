"""Relign's metrics over a set of tasks, and the guards that show whether a rate was gamed.

Source: Relign (arXiv 2412.04141), metrics of its release: per task, averaged within a subset, then over the subsets
alike. Kinds of task are the subsets. No LLM judge is asked: what stands in its place says `rewards.reliability`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from envs.actions import DEFERRALS
from envs.types import Json
from rewards.classify import Verdict
from rewards.reliability import WITHOUT_JUDGE, is_solvable, reliability
from rewards.relign import CLASSES, Labelled
from rewards.types import ErrorKind
from rl.statistics import as_list, bootstrap_mean, wilson
from rollout.trajectory import Trajectory

RELIGN = ("pass_rate", "repr", "utility", "benefit_cost_ratio", *(f"hallucination.{name}" for name in CLASSES))
"""Of `relign` in the JSON of an evaluation."""

GUARDS = ("call_avoidance", "call_spam", "malformed_only")
"""Of `guards` in the JSON of an evaluation."""

_NUM_RESAMPLES = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskMetrics:
    """What one episode adds to the metrics of its set."""

    passed: float
    """1 passed, 0.5 unsure, 0 failed."""
    reliable: float
    """The same, and failed if the answer is hallucinated."""
    utility: float
    tool_cost: float
    """1 + calls that count / 10."""
    hallucinated: Mapping[str, float]
    """For each of Relign's classes the share of calls that it labels so."""
    avoided: bool | None
    """Whether no call was made; None where a call is not what the task asks for first."""
    num_extra: int | None
    """Calls beyond those of the reference; None without a reference."""

    def to_json(self) -> dict[str, Json]:
        """The fields."""
        return {
            "passed": self.passed,
            "reliable": self.reliable,
            "utility": self.utility,
            "tool_cost": self.tool_cost,
            "hallucinated": dict(self.hallucinated),
            "avoided": self.avoided,
            "num_extra": self.num_extra,
        }


def task_metrics(trajectory: Trajectory, verdict: Verdict, labels: Sequence[Labelled]) -> TaskMetrics:
    """The metrics of one episode that did not fail for reasons of the infrastructure.

    Args:
        trajectory: the episode.
        verdict: what `rewards.classify.judge` says of it.
        labels: what `rewards.relign.labels` says of it.
    """
    found = reliability(trajectory, verdict, labels)
    reference = trajectory.task.reference
    wanted = None if reference is None else sum(call.name not in DEFERRALS for call in reference)
    num = verdict.num_calls
    return TaskMetrics(
        passed=found.passed,
        reliable=found.reliable,
        utility=found.utility,
        tool_cost=1 + found.cost / 10,
        hallucinated={name: sum(one.group == name for one in labels) / num if num else 0.0 for name in CLASSES},
        avoided=num == 0 if wanted and is_solvable(trajectory, verdict) else None,
        num_extra=None if wanted is None else max(0, num - wanted),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SetResult:
    """One task of a set: its subset, its metrics, and its kinds of error."""

    subset: str
    metrics: TaskMetrics
    errors: frozenset[ErrorKind]


def set_metrics(results: Sequence[SetResult]) -> tuple[dict[str, Json], dict[str, Json]]:
    """The metrics of a set as JSON, and 95 % intervals by dotted name.

    `relign`: pass rate, RePR, benefit-cost utility and ratio, rates of hallucination by class; intervals by a
    bootstrap within each subset. `guards`: what a rate may hide.

    - `call_avoidance`: of the tasks that a call solves as they stand, the share in which none was made;
    - `call_spam`: calls beyond those of the reference, a task;
    - `malformed_only`: share of tasks whose only kind of error is `malformed`. By so much can rates rise when nothing
      is learned but the format; what one run has over another so is `format_only`.
    """
    values, intervals = _relign(results)
    hallucination = {name: values.pop(f"hallucination.{name}") for name in CLASSES}
    relign: dict[str, Json] = {**values, "hallucination": hallucination, "judge": WITHOUT_JUDGE}
    guards, guard_intervals = _guards(results)
    return {"relign": relign, "guards": guards}, {
        **{f"relign.{name}": interval for name, interval in intervals.items()},
        **{f"guards.{name}": interval for name, interval in guard_intervals.items()},
    }


def format_only(first: frozenset[ErrorKind], second: frozenset[ErrorKind]) -> tuple[bool, bool]:
    """Whether of two episodes of a task the first or the second has the better format, and nothing else is better.

    That is: the other's kinds of error hold `malformed`, its own do not, and the remaining kinds are the same.

    Args:
        first: kinds of error of one episode.
        second: kinds of error of the other.
    """
    malformed = frozenset({ErrorKind.MALFORMED})
    return first == second - malformed != second, second == first - malformed != first


def _relign(results: Sequence[SetResult]) -> tuple[dict[str, float | None], dict[str, list[float] | None]]:
    subsets: dict[str, list[TaskMetrics]] = {}
    for result in results:
        subsets.setdefault(result.subset, []).append(result.metrics)
    if not subsets:
        return dict.fromkeys(RELIGN), dict.fromkeys(RELIGN)
    rng = np.random.default_rng(0)
    means = [_means(np.array([_row(one) for one in group]), rng) for group in subsets.values()]
    macro = dict(zip(RELIGN, np.mean(means, axis=0).T, strict=True))
    values: dict[str, float | None] = {name: float(array[0]) for name, array in macro.items()}
    return values, {name: np.quantile(array[1:], [0.025, 0.975]).tolist() for name, array in macro.items()}


def _row(one: TaskMetrics) -> list[float]:
    return [one.passed, one.reliable, one.utility, one.tool_cost, *(one.hallucinated[name] for name in CLASSES)]


def _means(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """`_row`s of a subset -> RELIGN of itself and, below, of its resamples: [1 + resamples, 4 + classes]."""
    num = len(rows)
    resampled = (rows[rng.integers(num, size=num)].mean(axis=0) for _ in range(_NUM_RESAMPLES))
    means = np.stack([rows.mean(axis=0), *resampled])
    means[:, 3] = means[:, 0] / means[:, 3]
    return means


def _guards(results: Sequence[SetResult]) -> tuple[dict[str, Json], dict[str, Json]]:
    avoided = [result.metrics.avoided for result in results if result.metrics.avoided is not None]
    extra = [result.metrics.num_extra for result in results if result.metrics.num_extra is not None]
    malformed = [result.errors == {ErrorKind.MALFORMED} for result in results]
    values: dict[str, Json] = {
        "call_avoidance": sum(avoided) / len(avoided) if avoided else None,
        "call_spam": sum(extra) / len(extra) if extra else None,
        "malformed_only": sum(malformed) / len(malformed) if malformed else None,
    }
    intervals: dict[str, Json] = {
        "call_avoidance": as_list(wilson(sum(avoided), len(avoided))),
        "call_spam": as_list(bootstrap_mean(extra)),
        "malformed_only": as_list(wilson(sum(malformed), len(malformed))),
    }
    return values, intervals
