"""StableToolBench's metrics (arXiv 2403.07714): solvable pass rate and win rate are an LLM judge's.

What is certain without a judge is given under names of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from envs.benchmarks.toolbench import FINISH, GIVE_ANSWER
from envs.types import Task, ToolCall
from rewards.published.types import Record
from rollout.trajectory import Trajectory


class StableToolBench:
    """The deterministic part of an episode's verdict."""

    missing: Mapping[str, str] = {
        "solvable_pass_rate": "a judge, and the virtual API server",
        "solvable_win_rate": "a judge, and the virtual API server",
    }

    def record(self, trajectory: Trajectory) -> Record:
        """One episode.

        - `ends_with_answer`: its last call is Finish with give_answer and an answer; else the judge fails it unread.
        - `gives_up`: its last call is Finish, and gives up.
        - `relevant_called`: share of the needed APIs that were called; None where they are not known.
        - `unlisted_name_rate`: share of the calls that can be read, Finish among them, whose name is not in the list of
          tools.
        """
        made = [call for turn in trajectory.turns for call in turn.message.calls]
        calls = [call for call in made if isinstance(call, ToolCall)]
        listed = {tool.name for tool in trajectory.task.tools}
        needed = trajectory.task.facts["benchmark"].get("relevant")
        names = {call.name for call in calls}
        # A call that cannot be read ends the episode otherwise than by Finish.
        last = made[-1] if made and isinstance(made[-1], ToolCall) and made[-1].name == FINISH else None
        return {
            "ends_with_answer": float(gives_answer(last)),
            "gives_up": float(last is not None and str(last.arguments.get("return_type")).startswith("give_up")),
            "relevant_called": sum(name in names for name in needed) / len(needed) if needed else None,
            "unlisted_name_rate": sum(call.name not in listed for call in calls) / len(calls) if calls else 0.0,
        }

    def total(self, records: Sequence[tuple[Task, Record]]) -> Mapping[str, float | None]:
        """Means over the tasks that speak to a value."""
        return means([record for _, record in records])


def gives_answer(call: ToolCall | None) -> bool:
    """Whether a call is a Finish that gives an answer which is not empty."""
    if call is None or call.arguments.get("return_type") != GIVE_ANSWER:
        return False
    return bool(str(call.arguments.get("final_answer") or "").strip())


def means(records: Sequence[Record]) -> dict[str, float | None]:
    """Mean of each value over the records that have it, in the order of the first record."""
    found: dict[str, float | None] = {}
    for name in records[0] if records else ():
        values = [value for record in records if (value := record[name]) is not None]
        found[name] = sum(values) / len(values) if values else None
    return found


def by_subset(records: Sequence[tuple[Task, Record]]) -> dict[str, float | None]:
    """Means within each subset, then the plain mean over subsets."""
    subsets: dict[str, list[Record]] = {}
    for task, record in records:
        subsets.setdefault(task.task_id.split("/")[1], []).append(record)
    return means([means(part) for part in subsets.values()])


METRIC = StableToolBench()
