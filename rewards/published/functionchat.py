"""FunctionChat-Bench: the exact match of calls, the part of its evaluation that needs no LLM judge.

As the released evaluator decides (src/evaluation_handler.py of the benchmark): the first call has the name of the gold
and no argument that the gold has not, and each argument equals the gold or a further accepted value, texts without
spaces and case. An argument whose further accepted values are neither a list nor a text accepts every value, as
released. A call that does not match exactly goes to the judge, so the exact match is a lower bound of the pass rate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from envs.types import Json, Task
from rewards.published.replies import function_calls
from rewards.published.types import Record
from rollout.trajectory import Trajectory


class FunctionChatMetric:
    """Share of exact matches among the records in which a call is due."""

    missing: Mapping[str, str] = {
        "pass_rate": "an LLM judge: for calls that do not match exactly, and for slot, relevance and completion turns",
    }

    def record(self, trajectory: Trajectory) -> Record:
        """{"exact": 1 or 0}; None where no call is due."""
        facts = trajectory.task.facts["benchmark"]
        if facts["type_of_output"] != "call":
            return {"exact": None}
        calls = function_calls(trajectory)
        truth = facts["ground_truth"]
        return {
            "exact": float(
                bool(calls)
                and calls is not None
                and calls[0].name == truth["name"]
                and _same_arguments(calls[0].arguments, truth["arguments"], facts["acceptable_arguments"])
            )
        }

    def total(self, records: Sequence[tuple[Task, Record]]) -> Mapping[str, float | None]:
        """Exact match of the calls of CallDecision, of Singlecall (also for each set of candidates) and of Dialog."""
        values: dict[str, list[float]] = {}
        for task, record in records:
            if record["exact"] is None:
                continue
            facts = task.facts["benchmark"]
            values.setdefault(f"{facts['subset']}_call_exact", []).append(record["exact"])
            if "tools_type" in facts:
                values.setdefault(f"{facts['subset']}_{facts['tools_type']}_call_exact", []).append(record["exact"])
        return {name: sum(found) / len(found) for name, found in values.items()}


def _same_arguments(made: Mapping[str, Json], gold: Mapping[str, Json], accepted: Mapping[str, Json]) -> bool:
    return all(name in gold for name in made) and all(
        _same(made.get(name), value) or _is_accepted(made.get(name), accepted.get(name, []))
        for name, value in gold.items()
    )


def _is_accepted(value: Json, accepted: Json) -> bool:
    if isinstance(accepted, list):
        return any(_same(value, item) for item in accepted)
    return _same(value, accepted) if isinstance(accepted, str) else True


def _same(left: Json, right: Json) -> bool:
    if isinstance(left, str) and isinstance(right, str):
        return left.replace(" ", "").lower() == right.replace(" ", "").lower()
    return left == right


METRIC = FunctionChatMetric()
