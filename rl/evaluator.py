"""Runs evaluations on a rollout pool: task sets x temperatures, one episode for each task, kept as Parquet.

What the rates are is decided in `rl.evaluate`; here episodes are run and put where summary.json wants them.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from envs.actions import without_deferrals
from envs.component import Component
from envs.types import Task
from rewards.types import ErrorKind
from rl.config import Evaluation as EvaluationConfig
from rl.console import make_progress
from rl.evaluate import Evaluation, TaskResult, evaluate
from rl.set_metrics import TaskMetrics
from rl.task_sets import TaskSet
from rl.task_sets import task_sets as sets_of
from rollout.engine import Sampling
from rollout.pool import RolloutPool
from rollout.store import write_trajectories
from rollout.trajectory import Trajectory
from rollout.worker import EpisodeSettings

SAMPLED, GREEDY = 1.0, 0.0


def task_sets(config: EvaluationConfig) -> list[TaskSet]:
    """The sets that an evaluation names.

    Raises:
        ValueError: as `rl.task_sets.task_set`.
    """
    sets = sets_of(config.tasks, num=config.num, num_others=config.num_others, seed=config.seed)
    if config.deferrals:
        return sets
    return [replace(one, tasks=list(map(without_deferrals, one.tasks))) for one in sets]


class Evaluator:
    """Evaluates whatever weights a pool serves."""

    def __init__(
        self,
        pool: RolloutPool,
        env: Component,
        *,
        max_tokens: int,
        max_turns: int,
        console: Console,
        offer_actions: bool = True,
    ) -> None:
        self._offer_actions = offer_actions
        self._pool = pool
        self._env = env
        self._max_tokens = max_tokens
        self._max_turns = max_turns
        self._console = console

    async def run(self, sets: Sequence[TaskSet], temperatures: Sequence[float], seed: int, folder: Path) -> Any:
        """Evaluate on every set at every temperature.

        Args:
            sets: the first one's rates stand at the top, those of the others under their names.
            temperatures: rates at 1 are the plain keys, those at 0 stand under `greedy`.
            seed: of sampling.
            folder: where the episodes are kept.

        Returns:
            A JSON object in the form of one stage of summary.json.
        """
        found: dict[str, dict[str, Any]] = {}
        for task_set_ in sets:
            for temperature in temperatures:
                result = await self.one(task_set_, temperature, seed, folder / place(task_set_.name, temperature))
                _put(found.setdefault(task_set_.name, {}), temperature, result.to_json())
        first, *others = (found[task_set_.name] for task_set_ in sets)
        named = {set_.name: values for set_, values in zip(sets[1:], others, strict=True)}
        return {"tasks": sets[0].name} | first | named

    async def one(self, task_set: TaskSet, temperature: float, seed: int, folder: Path) -> Evaluation:
        """Evaluate on one set at one temperature."""
        evaluation, _ = await self.episodes(task_set, temperature, seed, folder)
        return evaluation

    async def episodes(
        self, task_set: TaskSet, temperature: float, seed: int, folder: Path
    ) -> tuple[Evaluation, list[Trajectory]]:
        """Evaluate on one set at one temperature, and keep the episodes in `folder`; they come in the tasks' order."""
        settings = EpisodeSettings(
            env=task_set.env or self._env,
            sampling=Sampling(temperature=temperature, max_tokens=self._max_tokens, seed=seed if temperature else None),
            max_turns=max(self._max_turns, task_set.turns),
            offer_actions=self._offer_actions,
        )
        label = f"{task_set.name}, {'greedy' if temperature == GREEDY else f'temperature {temperature:g}'}"
        with make_progress(self._console) as progress:
            bar = progress.add_task(label, total=len(task_set.tasks))

            async def episode(index: int, task: Task) -> Trajectory:
                (trajectory,) = await self._pool.run(
                    task, group_id=f"{place(task_set.name, temperature)}-{index}", settings=settings
                )
                progress.advance(bar)
                return trajectory

            async def run_tasks(tasks: Sequence[Task]) -> Sequence[Trajectory]:
                return await asyncio.gather(*[episode(index, task) for index, task in enumerate(tasks)])

            evaluation, trajectories = await evaluate(run_tasks, task_set.tasks)
        write_trajectories(folder, 0, trajectories, env=settings.env.factory)
        write_results(folder, evaluation)
        return evaluation, trajectories


RESULTS = "results.jsonl"
"""What each task says about each rate, beside the episodes: what paired comparisons need."""


def write_results(folder: Path, evaluation: Evaluation) -> None:
    """Write one line for each task."""
    lines = [
        {
            "task_id": result.task_id,
            "kind": result.kind,
            **({"language": result.language} if result.language else {}),
            "failed": result.failed,
            "flags": dict(result.flags),
            "hallucinated_share": result.hallucinated_share,
            "errors": sorted(result.errors),
            "metrics": None if result.metrics is None else result.metrics.to_json(),
        }
        for result in evaluation.results
    ]
    (folder / RESULTS).write_text("".join(json.dumps(line) + "\n" for line in lines))


def read_results(folder: Path) -> Evaluation:
    """What `write_results` wrote.

    Raises:
        ValueError: there are no results that can be read.
    """
    try:
        lines = [json.loads(line) for line in (folder / RESULTS).read_text().splitlines()]
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(f"{folder}: no readable {RESULTS}: {error}") from error
    return Evaluation(results=tuple(map(_result, lines)))


def _result(line: dict[str, Any]) -> TaskResult:
    metrics = line.get("metrics")  # Files may be older than this field.
    return TaskResult(
        **{
            **line,
            "errors": frozenset(ErrorKind(kind) for kind in line["errors"]),
            "metrics": None if metrics is None else TaskMetrics(**metrics),
        }
    )


def place(name: str, temperature: float) -> str:
    """Folder of the episodes of a set at a temperature."""
    return f"{name}-{'greedy' if temperature == GREEDY else f't{temperature:g}'}"


def _put(stage: dict[str, Any], temperature: float, rates: dict[str, Any]) -> None:
    """Plain keys at temperature 1, others under the name of their temperature."""
    if temperature == SAMPLED:
        stage.update(rates)
    else:
        stage["greedy" if temperature == GREEDY else f"temperature_{temperature:g}"] = rates
