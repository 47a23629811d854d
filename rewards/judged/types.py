"""What is left to an LLM judge, as data: questions about an episode, answers to them, and what follows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from envs.types import Task
from rewards.judge_questions import Question
from rewards.published.types import Record
from rollout.trajectory import Trajectory

Answers = Mapping[str, str | None]
"""What the judge said, by the name of the question; None where it gave up. Questions not yet asked are absent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One question about one episode."""

    question: Question
    parts: Mapping[str, str]
    """Title and text of what the judge sees."""


class JudgedMetric(Protocol):
    """The part of a published metric that needs a judge. Pure: the answers come in as data, whoever gave them.

    Every figure is named `..._judged`: the judge is another one than published, and the wording is our own.
    """

    missing: Mapping[str, str]
    """Published figures that are not computed even so, and what they need."""
    questions: tuple[Question, ...]
    """All that may be asked."""

    def open_questions(self, trajectory: Trajectory, answers: Answers) -> Mapping[str, Case]:
        """What has to be asked as far as the answers go, those already answered among them. Some follow from others."""
        ...

    def record(self, trajectory: Trajectory, answers: Answers) -> Record:
        """One episode; None for each value that hangs on a question which the judge gave up."""
        ...

    def total(self, records: Sequence[tuple[Task, Record]]) -> Mapping[str, float | None]:
        """The figures of a set of tasks, over those that have a value."""
        ...


def version_of(questions: Iterable[Question]) -> str:
    """Eight digits that change with the wording or the choices of any of the questions."""
    told = sorted([question.name, question.instructions, *question.choices] for question in questions)
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:8]
