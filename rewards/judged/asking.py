"""Asks a judge what a benchmark's metric leaves open."""

from __future__ import annotations

import asyncio

from rewards.judge import Judge
from rewards.judged.types import JudgedMetric
from rollout.trajectory import Trajectory


async def answers_of(judge: Judge, metric: JudgedMetric, trajectory: Trajectory) -> dict[str, str | None]:
    """The judge's answers about one episode, with the questions that follow from them; never raises."""
    answers: dict[str, str | None] = {}
    while True:
        due = metric.open_questions(trajectory, answers)
        cases = {name: case for name, case in due.items() if name not in answers}
        if not cases:
            return answers
        said = await asyncio.gather(*(judge.ask(case.question, dict(case.parts)) for case in cases.values()))
        answers.update(zip(cases, said, strict=True))
