"""StableToolBench's solvable pass rate, by any judge.

Source: arXiv 2403.07714: Solved counts 1, Unsure 1/2, Unsolved 0; the mean over the tasks of a test set, then the plain
mean over test sets. The published figure repeats the judgement and means over the repeats; here it is made once, at
temperature 0. The recorded traces are cut after 100 characters, and so is what the second judge reads of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from envs.types import Task
from rewards.judge_questions import UNSURE
from rewards.judged.toolbench import ANSWER_STATUS, SOLUTION_STATUS, SOLVED, UNSOLVED, status, status_questions
from rewards.judged.types import Answers, Case
from rewards.published.stabletoolbench import by_subset
from rewards.published.types import Record
from rollout.trajectory import Trajectory

_WORTH = {SOLVED: 1.0, UNSURE: 0.5, UNSOLVED: 0.0}


class JudgedStableToolBench:
    """The solvable pass rate."""

    missing: Mapping[str, str] = {
        "solvable_pass_rate": "the published judge and the virtual API server; solvable_pass_rate_judged is its rule "
        "with the judge named above",
        "solvable_win_rate": "answers of a reference model to compare with",
    }
    questions = (ANSWER_STATUS, SOLUTION_STATUS)

    def open_questions(self, trajectory: Trajectory, answers: Answers) -> Mapping[str, Case]:
        """About the answer, and the whole solution where that leaves the judge unsure."""
        return status_questions(trajectory, answers)

    def record(self, trajectory: Trajectory, answers: Answers) -> Record:
        """{"solvable_pass_rate_judged": 1, 1/2 or 0}."""
        said = status(trajectory, answers)
        return {"solvable_pass_rate_judged": None if said is None else _WORTH[said]}

    def total(self, records: Sequence[tuple[Task, Record]]) -> Mapping[str, float | None]:
        """Plain mean over test sets."""
        return by_subset(records)


JUDGED = JudgedStableToolBench()
