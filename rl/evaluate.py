"""From episodes to rates: what an evaluation reports, per task kind, with intervals and paired tests.

One episode for each task. Episodes that the infrastructure broke are counted apart and are in no rate.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from envs.types import Json, Task
from rewards.classify import Verdict, judge
from rewards.relign import Labelled, labels
from rewards.types import ErrorKind
from rl.set_metrics import SetResult, TaskMetrics, format_only, set_metrics, task_metrics
from rl.statistics import as_list, bootstrap_mean, mcnemar, wilson
from rollout.trajectory import Trajectory

RATES = (
    "success",
    "success_first_try",
    "hallucination_rate",
    "deferral_precision",
    "deferral_recall",
    "needless_deferral_rate",
)
"""The rates that are a share of tasks, so that two runs on the same tasks can be compared in pairs."""

RELIGN_RATE = "hallucination_rate_relign"
"""The rate that is a mean over tasks of a share of calls."""

FORMAT_ONLY = "format_only"
"""In a comparison: tasks in which the format alone was better in the first run, and in the second."""

RunTasks = Callable[[Sequence[Task]], Awaitable[Sequence[Trajectory]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskResult:
    """What one episode says about each rate."""

    task_id: str
    kind: str
    failed: bool
    """Whether the infrastructure failed."""
    flags: Mapping[str, bool | None]
    """For each of RATES whether it holds; None where the task does not speak to it."""
    hallucinated_share: float
    """Relign's share of hallucinated calls among the calls of this task; 0 without calls."""
    errors: frozenset[ErrorKind]
    language: str = ""
    """Of the task, where tasks of several are told apart."""
    metrics: TaskMetrics | None = None
    """What it adds to the metrics of the set; None if the infrastructure failed, or if it was not measured then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One rate of two runs on the same tasks, over the tasks that speak to it in both."""

    n: int
    first: float | None
    second: float | None
    only_first: int
    only_second: int
    p: float
    """Exact two-sided McNemar."""

    @property
    def difference(self) -> float | None:
        """Second minus first."""
        return None if self.first is None or self.second is None else self.second - self.first

    def to_json(self) -> dict[str, Json]:
        """The fields and the difference."""
        return {
            "n": self.n,
            "first": self.first,
            "second": self.second,
            "difference": self.difference,
            "only_first": self.only_first,
            "only_second": self.only_second,
            "p": self.p,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The results of one policy on a list of tasks, in their order."""

    results: tuple[TaskResult, ...]

    def to_json(self) -> dict[str, Json]:
        """The rates in the form of summary.json: a fraction, or None where no task speaks to a rate.

        `n` counts the tasks in the rates; `failed` those left out because the infrastructure failed. `by_task_kind` has
        the rates of each kind; `by_language` of each language, where tasks say theirs.
        """
        groups = {"by_task_kind": [result.kind for result in self.results]}
        languages = [result.language for result in self.results]
        if any(languages):
            groups["by_language"] = languages
        return {**_rates(self.results), **{name: self._by(group) for name, group in groups.items()}}

    def _by(self, groups: Sequence[str]) -> dict[str, Json]:
        """The rates of each group of tasks.

        Args:
            groups: the group of each result.
        """
        return {
            name: _rates([result for result, group in zip(self.results, groups, strict=True) if group == name])
            for name in sorted(set(groups))
        }

    def compare(self, other: Evaluation) -> dict[str, Comparison]:
        """Each rate of this run (first) against another one (second) on the same tasks; and FORMAT_ONLY.

        Raises:
            ValueError: the two runs are not on the same tasks in the same order.
        """
        if [result.task_id for result in self.results] != [result.task_id for result in other.results]:
            raise ValueError("a paired comparison needs the same tasks in the same order")
        pairs = [
            (first, second)
            for first, second in zip(self.results, other.results, strict=True)
            if not first.failed and not second.failed
        ]
        found = {rate: _compare([(a.flags[rate], b.flags[rate]) for a, b in pairs]) for rate in RATES}
        return found | {FORMAT_ONLY: _compare([format_only(a.errors, b.errors) for a, b in pairs])}


async def evaluate(run_tasks: RunTasks, tasks: Sequence[Task]) -> tuple[Evaluation, list[Trajectory]]:
    """Run one episode of each task and measure them; also returns the episodes in the order of the tasks."""
    trajectories = in_order(await run_tasks(tasks), tasks)
    return measure(trajectories, tasks), trajectories


def measure(trajectories: Sequence[Trajectory], tasks: Sequence[Task]) -> Evaluation:
    """The results of one episode for each task, in the order of the tasks.

    Raises:
        ValueError: a task without an episode or with several, or an episode of another task.
    """
    return Evaluation(results=tuple(result_of(trajectory) for trajectory in in_order(trajectories, tasks)))


def in_order(trajectories: Sequence[Trajectory], tasks: Sequence[Task]) -> list[Trajectory]:
    """One episode for each task, in the order of the tasks.

    Raises:
        ValueError: a task without an episode or with several, or an episode of another task.
    """
    found: dict[str, Trajectory] = {}
    for trajectory in trajectories:
        if trajectory.task.task_id in found:
            raise ValueError(f"task {trajectory.task.task_id}: expected one episode, got several")
        found[trajectory.task.task_id] = trajectory
    wanted = [task.task_id for task in tasks]
    if len(set(wanted)) != len(wanted):
        raise ValueError("tasks: the task_ids are not unique")
    missing = [task_id for task_id in wanted if task_id not in found]
    if missing or len(found) != len(wanted):
        other = sorted(set(found) - set(wanted))
        raise ValueError(f"expected one episode for each task; missing {missing[:3]}, of no task {other[:3]}")
    return [found[task_id] for task_id in wanted]


def result_of(trajectory: Trajectory, verdict: Verdict | None = None) -> TaskResult:
    """What one episode says about each rate, by its verdict if that is already known."""
    task = trajectory.task
    if trajectory.ending.is_failure:
        return TaskResult(
            task_id=task.task_id,
            kind=str(task.kind),
            language=language_of(task),
            failed=True,
            flags=dict.fromkeys(RATES),
            hallucinated_share=0.0,
            errors=frozenset(),
        )
    verdict = verdict or judge(trajectory)
    found = labels(trajectory, verdict)
    success = verdict.success if verdict.success is not None else _said_by_env(trajectory)
    deferrals = set(verdict.deferrals)
    right = any((match.turn, match.call) in deferrals for match in verdict.matches)
    needless = any(error.kind == ErrorKind.NEEDLESS_DEFERRAL for error in verdict.errors)
    known = task.reference is not None
    return TaskResult(
        task_id=task.task_id,
        kind=str(task.kind),
        language=language_of(task),
        failed=False,
        flags={
            "success": success,
            "success_first_try": None if success is None else success and not verdict.errors,
            "hallucination_rate": verdict.hallucinated,
            "deferral_precision": right and not _faulty_deferral(verdict) if known and deferrals else None,
            "deferral_recall": verdict.deferred_first if verdict.deferral_due else None,
            "needless_deferral_rate": needless if known and not verdict.deferral_due else None,
        },
        hallucinated_share=relign_share(verdict, found),
        errors=frozenset(error.kind for error in verdict.errors),
        metrics=task_metrics(trajectory, verdict, found),
    )


def language_of(task: Task) -> str:
    """The language that a task says it is in; "" if it says none."""
    language = task.facts.get("language")
    return language if isinstance(language, str) else ""


def _said_by_env(trajectory: Trajectory) -> bool | None:
    """Success as the environment tells it, where no reference says what is right."""
    success = trajectory.outcome.facts.get("success")
    return success if isinstance(success, bool) else None


def relign_share(verdict: Verdict, found: Sequence[Labelled]) -> float:
    """Relign's hallucinated calls as a share of all calls but the actions; 0 without calls."""
    if verdict.num_calls == 0:
        return 0.0
    return sum(one.group is not None for one in found) / verdict.num_calls


def _faulty_deferral(verdict: Verdict) -> bool:
    """Whether any deferral of the episode was wrong; one repeated because it got no answer is not."""
    faulty = {(error.turn, error.call) for error in verdict.errors}
    return any(place in faulty for place in verdict.deferrals)


def _rates(results: Sequence[TaskResult]) -> dict[str, Json]:
    counted = [result for result in results if not result.failed]
    rates: dict[str, Json] = {"n": len(counted), "failed": len(results) - len(counted)}
    intervals: dict[str, Json] = {}
    for rate in RATES:
        flags = [flag for result in counted if (flag := result.flags[rate]) is not None]
        rates[rate] = sum(flags) / len(flags) if flags else None
        intervals[rate] = as_list(wilson(sum(flags), len(flags)))
    shares = [result.hallucinated_share for result in counted]
    rates[RELIGN_RATE] = sum(shares) / len(shares) if shares else None
    # A mean of fractions is no share of trials, so Wilson's interval does not apply.
    intervals[RELIGN_RATE] = as_list(bootstrap_mean(shares))
    errors = {}
    for kind in ErrorKind:
        num = sum(kind in result.errors for result in counted)
        errors[str(kind)] = num / len(counted) if counted else None
        intervals[f"errors.{kind}"] = as_list(wilson(num, len(counted)))
    sets, set_intervals = set_metrics(
        [
            SetResult(subset=result.kind, metrics=result.metrics, errors=result.errors)
            for result in counted
            if result.metrics is not None
        ]
    )
    return {**rates, **sets, "errors": errors, "intervals": intervals | set_intervals}


def _compare(pairs: Sequence[tuple[bool | None, bool | None]]) -> Comparison:
    both = [(bool(a), bool(b)) for a, b in pairs if a is not None and b is not None]
    only_first = sum(a and not b for a, b in both)
    only_second = sum(b and not a for a, b in both)
    return Comparison(
        n=len(both),
        first=sum(a for a, _ in both) / len(both) if both else None,
        second=sum(b for _, b in both) / len(both) if both else None,
        only_first=only_first,
        only_second=only_second,
        p=mcnemar(only_first, only_second),
    )
