"""An LLM judge beside a benchmark: the figures that its metric leaves to one, and the grounding of every call.

Imports neither torch nor ray.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module

from envs.benchmarks.types import Benchmark
from envs.types import Json
from rewards.agreement import UNGROUNDED, agreement, grounding_labels
from rewards.judge import AnswerCache, Budget, Judge
from rewards.judge_questions import CALLING_TRUTHFULNESS
from rewards.judged.asking import answers_of
from rewards.judged.types import Answers, JudgedMetric, version_of
from rl.benchmarks import Suite, as_published, with_actions
from rl.statistics import as_list, wilson
from rollout.trajectory import Trajectory

MAX_TOKENS_OF_REQUEST = 100_000
"""Requests are what the budget counts; a request that takes more tokens than that is none that we make."""
MAX_ANSWER_TOKENS = 1000
"""As Relign's judges have it; room for a model that reasons first."""
TOLD_ONLY = " of told tasks only"
"""Ending of the names of figures, where the judge left tasks open."""

Labels = tuple[tuple[str | None, str | None], ...]
"""Grounded or ungrounded, for each call that can be asked about: by rule, and by the judge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Whom:
    """Which judge, and what it may cost."""

    url: str
    model: str
    max_requests: int
    concurrency: int = 8
    timeout: float = 120.0
    max_retries: int = 3
    pause: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Judging:
    """What a judge said of a set of episodes."""

    model: str
    metric: JudgedMetric | None
    """None: the benchmark's metric leaves nothing to a judge."""
    answers: Mapping[str, Answers]
    """By task_id; episodes that the infrastructure broke are not asked about."""
    grounding: Mapping[str, Labels]
    """By task_id."""
    num_requests: int
    num_tokens: int
    given_up: Mapping[str, int]
    """Questions that got no answer, by the reason."""

    @property
    def version(self) -> str:
        """Of the wording of all questions."""
        return version_of([*(self.metric.questions if self.metric else ()), CALLING_TRUTHFULNESS])


def judged_metric_of(name: str) -> JudgedMetric | None:
    """What the metric of a benchmark leaves to a judge; None: nothing."""
    module = f"rewards.judged.{name}"
    try:
        return import_module(module).JUDGED
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        return None


async def ask(
    suite: Suite,
    trajectories: Sequence[Trajectory],
    whom: Whom,
    cache: AnswerCache,
    advance: Callable[[], None] = lambda: None,
) -> Judging:
    """Ask a judge about episodes: first what the benchmark's metric leaves open, then the grounding of their calls.

    Args:
        suite: whose tasks they did.
        trajectories: one for each task.
        whom: the judge.
        cache: answers already had.
        advance: called twice for each episode that was asked about.
    """
    metric = judged_metric_of(suite.benchmark.name)
    episodes = [trajectory for trajectory in trajectories if not trajectory.ending.is_failure]
    budget = Budget(max_requests=whom.max_requests, max_tokens=whom.max_requests * MAX_TOKENS_OF_REQUEST)
    judge = Judge(
        whom.url,
        whom.model,
        budget=budget,
        cache=cache,
        max_retries=whom.max_retries,
        timeout=whom.timeout,
        pause=whom.pause,
        concurrency=whom.concurrency,
        max_answer_tokens=MAX_ANSWER_TOKENS,
    )

    async def answers(trajectory: Trajectory) -> tuple[str, Answers]:
        found = await answers_of(judge, metric, as_published(suite.benchmark, trajectory)) if metric else {}
        advance()
        return trajectory.task.task_id, found

    async def labels(trajectory: Trajectory) -> tuple[str, Labels]:
        found = await _labels(judge, suite.benchmark, trajectory)
        advance()
        return trajectory.task.task_id, found

    async with judge:
        said = await asyncio.gather(*map(answers, episodes))
        grounding = await asyncio.gather(*map(labels, episodes))
    return Judging(
        model=whom.model,
        metric=metric,
        answers=dict(said),
        grounding=dict(grounding),
        num_requests=budget.num_requests,
        num_tokens=budget.num_tokens,
        given_up=dict(judge.failures),
    )


async def _labels(judge: Judge, found: Benchmark, trajectory: Trajectory) -> Labels:
    own = with_actions(found, trajectory)
    unjudged = {
        (place["turn"], place["call"])
        for place in own.task.facts.get("unjudged") or ()
        if "ungrounded_value" in place["kinds"]
    }
    # What an incomplete record cannot tell is not asked about either.
    return tuple(await grounding_labels(judge, own, leave_out=unjudged))


def with_judge(
    report: Mapping[str, Json], suite: Suite, trajectories: Sequence[Trajectory], judging: Judging
) -> dict[str, Json]:
    """The report of a benchmark with what the judge said.

    Args:
        report: as `rl.benchmarks.report` gives it.
        suite: whose tasks the episodes did.
        trajectories: one for each task.
        judging: what the judge said of them.

    Returns:
        The report with `judge` (model, version of the questions, what was spent and given up), with `judged`,
        `judged_n`, `judge_open` and `grounding` in the figures of each subset and in total, and with what is missing of
        the published metric even so in `published_missing`.
    """
    found = {trajectory.task.task_id: trajectory for trajectory in trajectories}
    parts = {subset: [found[task.task_id] for task in tasks] for subset, tasks in suite.tasks.items()}
    everything = [trajectory for part in parts.values() for trajectory in part]
    subsets = {
        subset: {**figures, **_figures(judging, suite.benchmark, parts[subset])}
        for subset, figures in report["subsets"].items()
    }
    missing = report["published_missing"] if judging.metric is None else dict(judging.metric.missing)
    return {
        **report,
        "subsets": subsets,
        "total": {**report["total"], **_figures(judging, suite.benchmark, everything)},
        "published_missing": missing,
        "judge": {
            "model": judging.model,
            "questions": judging.version,
            "requests": judging.num_requests,
            "tokens": judging.num_tokens,
            "given_up": dict(judging.given_up),
        },
    }


def _figures(judging: Judging, found: Benchmark, part: Sequence[Trajectory]) -> dict[str, Json]:
    asked = [trajectory for trajectory in part if trajectory.task.task_id in judging.answers]
    metric = judging.metric
    records = []
    if metric is not None:
        records = [
            (one.task, metric.record(as_published(found, one), judging.answers[one.task.task_id])) for one in asked
        ]
    num_open = sum(None in record.values() for _, record in records)
    figures = metric.total(records) if metric is not None and records else {}
    # What needs no judge is mostly failure, so figures without the open tasks say little of all and are named so.
    ending = TOLD_ONLY if num_open else ""
    return {
        "judged": {f"{name}{ending}": value for name, value in figures.items()},
        "judged_n": len(records),
        "judge_open": num_open,
        "grounding": _grounding([pair for one in asked for pair in judging.grounding[one.task.task_id]]),
    }


def _grounding(labels: Sequence[tuple[str | None, str | None]]) -> dict[str, Json]:
    """Share of calls with a value that nothing grounds, by rule and by the judge, over the calls that both told."""
    found = agreement(labels)
    counts = found.counts
    by_rule = sum(count for (rule, _), count in counts.items() if rule == UNGROUNDED)
    by_judge = sum(count for (_, judge), count in counts.items() if judge == UNGROUNDED)
    equal = sum(count for (rule, judge), count in counts.items() if rule == judge)
    shares = {"ungrounded_by_rule": by_rule, "ungrounded_by_judge": by_judge, "agreement": equal}
    intervals = {name: wilson(num, found.num) for name, num in shares.items()}
    return {
        "calls": found.num,
        "open": found.num_unscored,
        **{name: num / found.num if found.num else None for name, num in shares.items()},
        "kappa": found.kappa,
        "counts": {f"{rule}/{judge}": count for (rule, judge), count in sorted(counts.items())},
        "intervals": {name: as_list(pair) for name, pair in intervals.items()},
    }
