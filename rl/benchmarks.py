"""Public benchmarks: their tasks, and the rates of the episodes that did them, published metric and tether's own.

Imports neither torch nor ray.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from types import ModuleType

from envs.actions import ACTIONS
from envs.benchmarks import benchmark
from envs.benchmarks.alternatives import ALTERNATIVES, accepted_references
from envs.benchmarks.types import Benchmark
from envs.types import Json, Task, ToolCall
from rewards.classify import Verdict, judge
from rewards.published.types import PublishedMetric, Record
from rewards.relign import CLASSES
from rewards.types import HALLUCINATIONS
from rl.evaluate import Evaluation, TaskResult, result_of
from rl.statistics import as_list, wilson
from rollout.dialogues import from_dialogue
from rollout.trajectory import Trajectory


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """The tasks of a benchmark that are measured, and its metric."""

    benchmark: Benchmark
    metric: PublishedMetric | None
    """None where tether has no metric of this benchmark."""
    tasks: Mapping[str, Sequence[Task]]
    """By subset, in the order of reports."""
    folder: Path

    @property
    def all_tasks(self) -> list[Task]:
        """Of all subsets, in their order."""
        return [task for tasks in self.tasks.values() for task in tasks]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One episode, judged in both ways."""

    task: Task
    result: TaskResult
    record: Record | None
    """None: no metric, or the infrastructure failed."""
    num_unjudged: int
    """Errors that were left out, as the record cannot tell them."""


def load(name: str, data: Path, subsets: Sequence[str] | None = None) -> Suite:
    """The tasks of a benchmark.

    Args:
        name: of `envs.benchmarks.BENCHMARKS`.
        data: its folder, or the one above, in which it is called as the benchmark is, underlines apart.
        subsets: those to read; None: all.

    Raises:
        ValueError: no such benchmark, subset or folder, or a file that cannot be read.
    """
    found = benchmark(name)
    wanted = list(dict.fromkeys(subsets or found.subsets))
    unknown = [subset for subset in wanted if subset not in found.subsets]
    if unknown:
        raise ValueError(f"{name} has no subset {unknown[0]!r}: expected some of {', '.join(found.subsets)}")
    folder = folder_of(name, data)
    tasks = {subset: list(found.read(folder, subset)) for subset in wanted}
    empty = [subset for subset in wanted if not tasks[subset]]
    if empty:
        raise ValueError(f"{folder}: subset {empty[0]} holds no task")
    return Suite(benchmark=found, metric=metric_of(name), tasks=tasks, folder=folder)


def folder_of(name: str, data: Path) -> Path:
    """The folder of a benchmark: a folder in `data` that is called like it (apibank, functionchat_bench), else `data`.

    Raises:
        ValueError: `data` is no folder.
    """
    if not data.is_dir():
        raise ValueError(f"{data}: no such folder; expected the files of {name}, or a folder that holds {name}")
    plain = name.replace("_", "")
    below = sorted(path for path in data.iterdir() if path.is_dir() and path.name.replace("_", "").startswith(plain))
    return below[0] if below else data


def metric_of(name: str) -> PublishedMetric | None:
    """The metric of a benchmark as published; None where there is none."""
    module = f"rewards.published.{name}"
    try:
        found: ModuleType = import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        return None
    return found.METRIC


def recorded(suite: Suite) -> Suite:
    """The suite of the episodes that come with a benchmark, in the place of its tasks.

    Raises:
        ValueError: none come with it.
    """
    return replace(suite, tasks=_by_subset(suite, [trajectory.task for trajectory in recorded_trajectories(suite)]))


def recorded_trajectories(suite: Suite) -> list[Trajectory]:
    """The recorded episodes of the suite's subsets.

    Raises:
        ValueError: none come with the benchmark, or a file cannot be read.
    """
    if suite.benchmark.traces is None:
        raise ValueError(f"{suite.benchmark.name}: no recorded episodes come with this benchmark")
    wanted = {f"{suite.benchmark.name}/{subset}" for subset in suite.tasks}
    found = [
        from_dialogue(dialogue)
        for dialogue in suite.benchmark.traces(suite.folder)
        if dialogue.task.task_id.rpartition("/")[0] in wanted
    ]
    if not found:
        raise ValueError(f"{suite.benchmark.name}: no recorded episodes of {', '.join(suite.tasks)}")
    return found


def of_tasks(suite: Suite, tasks: Sequence[Task]) -> Suite:
    """The suite with these tasks alone; subsets that none belongs to are left out."""
    return replace(suite, tasks=_by_subset(suite, tasks))


def _by_subset(suite: Suite, tasks: Sequence[Task]) -> dict[str, list[Task]]:
    found = {
        subset: [task for task in tasks if task.task_id.startswith(f"{suite.benchmark.name}/{subset}/")]
        for subset in suite.tasks
    }
    return {subset: part for subset, part in found.items() if part}


def judged(suite: Suite, trajectory: Trajectory) -> Judged:
    """Judge one episode as published and as tether does."""
    task = trajectory.task
    if trajectory.ending.is_failure:
        return Judged(task=task, result=result_of(trajectory), record=None, num_unjudged=0)
    own = with_actions(suite.benchmark, trajectory)
    own, full = best_verdict(own)
    verdict = without_unjudged(full, task)
    knows = suite.metric is not None and "benchmark" in task.facts
    return Judged(
        task=task,
        result=result_of(own, verdict),
        record=suite.metric.record(as_published(suite.benchmark, trajectory))
        if suite.metric is not None and knows
        else None,
        num_unjudged=len(full.errors) - len(verdict.errors),
    )


def with_actions(found: Benchmark, trajectory: Trajectory) -> Trajectory:
    """The episode with the benchmark's own ways to end or defer as tether's actions, which count as offered then."""
    if found.to_actions is None:
        return trajectory
    turns = []
    used: set[str] = set()
    for turn in trajectory.turns:
        message = found.to_actions(turn.message)
        pairs = zip(turn.message.calls, message.calls, strict=True)
        used |= {new.name for old, new in pairs if new is not old and isinstance(new, ToolCall)}
        turns.append(replace(turn, message=message))
    offered = {tool.name for tool in trajectory.tools}
    more = tuple(action for action in ACTIONS if action.name in used and action.name not in offered)
    return replace(trajectory, turns=tuple(turns), tools=(*trajectory.tools, *more))


def as_published(found: Benchmark, trajectory: Trajectory) -> Trajectory:
    """The episode with tether's actions as the benchmark's own ways to end or defer, where it has any."""
    if found.from_actions is None:
        return trajectory
    turns = tuple(replace(turn, message=found.from_actions(turn.message)) for turn in trajectory.turns)
    return replace(trajectory, turns=turns)


def best_verdict(trajectory: Trajectory) -> tuple[Trajectory, Verdict]:
    """The verdict against the accepted reference that the episode meets best, and the episode with that reference."""
    task = trajectory.task
    if ALTERNATIVES not in task.facts or task.reference is None:
        return trajectory, judge(trajectory)
    episodes = [replace(trajectory, task=replace(task, reference=reference)) for reference in accepted_references(task)]
    verdicts = [(episode, judge(episode)) for episode in episodes]
    return min(verdicts, key=lambda pair: _faults(pair[1]))


def _faults(verdict: Verdict) -> tuple[bool, int, int]:
    hallucinations = sum(error.kind in HALLUCINATIONS for error in verdict.errors)
    return not verdict.success, hallucinations, len(verdict.errors)


def without_unjudged(verdict: Verdict, task: Task) -> Verdict:
    """The verdict without errors that an incomplete record cannot tell (`facts["unjudged"]`)."""
    places = {
        (place["turn"], place["call"], kind) for place in task.facts.get("unjudged") or () for kind in place["kinds"]
    }
    if not places:
        return verdict
    kept = [error for error in verdict.errors if (error.turn, error.call, str(error.kind)) not in places]
    return replace(verdict, errors=tuple(kept))


def report(suite: Suite, trajectories: Sequence[Trajectory]) -> dict[str, Json]:
    """The figures of each subset and in total.

    Args:
        suite: whose tasks the episodes did.
        trajectories: one for each task, in any order.

    Returns:
        A JSON object: `benchmark`, `subsets` (by name), `total`, `published_missing` (published figures that are not
        computed, and what they need) and `gold_faults` (of the tasks: how many, None where tasks are not counted, and
        what the reader does).
    """
    found = {trajectory.task.task_id: judged(suite, trajectory) for trajectory in trajectories}
    by_subset = {subset: [found[task.task_id] for task in tasks] for subset, tasks in suite.tasks.items()}
    everything = [one for part in by_subset.values() for one in part]
    total = figures(suite.metric, everything)
    return {
        "benchmark": suite.benchmark.name,
        "subsets": {subset: figures(suite.metric, part) for subset, part in by_subset.items()},
        "total": total,
        "published_missing": _missing(suite, total["published"]),
        "gold_faults": _gold_faults(suite.benchmark, [one.task for one in everything]),
    }


def _gold_faults(found: Benchmark, tasks: Sequence[Task]) -> dict[str, Json]:
    counts = Counter(str(task.facts["gold_fault"]) for task in tasks if "gold_fault" in task.facts)
    return {
        name: {
            "num": None if name in found.uncounted_faults else counts[name],
            "handling": found.gold_faults.get(name, ""),
        }
        for name in dict.fromkeys([*found.gold_faults, *counts])
    }


def _missing(suite: Suite, computed: Mapping[str, float | None]) -> dict[str, str]:
    """What of the published metric is not among the figures; some episodes give more of it than others.

    The figure of a subset that was not asked for is not missing.
    """
    if suite.metric is None:
        return {"everything": "a metric of this benchmark in tether"}
    left_out = set(suite.benchmark.subsets) - set(suite.tasks)
    return {
        name: needs
        for name, needs in suite.metric.missing.items()
        if computed.get(name) is None and name not in left_out
    }


def figures(metric: PublishedMetric | None, part: Sequence[Judged]) -> dict[str, Json]:
    """All rates of a set of episodes: `rl.evaluate`'s, tasks with a hallucination by class, and the published ones."""
    value = Evaluation(results=tuple(one.result for one in part)).to_json()
    measured = [one.result.metrics.hallucinated for one in part if one.result.metrics is not None]
    by_class = {name: sum(shares[name] > 0 for shares in measured) for name in CLASSES}
    for name, num in by_class.items():
        value["intervals"][f"hallucination_by_class.{name}"] = as_list(wilson(num, len(measured)))
    records = [(one.task, one.record) for one in part if one.record is not None]
    return {
        **value,
        "hallucination_by_class": {name: num / len(measured) if measured else None for name, num in by_class.items()},
        "unjudged": sum(one.num_unjudged for one in part),
        "published": dict(metric.total(records)) if metric is not None and records else {},
        "published_n": len(records),
    }
