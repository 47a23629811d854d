"""Seal-Tools' format accuracy, and precision, recall and F1 of tools and of parameters, as its evaluator counts them.

Source: arXiv 2405.08355, section 4, and the program beside the data. All are counted over the whole set. A made call is
right if some gold call has its name (so a repeated call is right again); an argument of a made call is right if the
first gold call of that name has it with a value that reads the same as text. An answer that cannot be read as a list of
calls has a wrong format and no call. The program leaves out figures that are 0; here they are 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from envs.types import MalformedCall, Task, ToolCall
from rewards.published.figures import f1, made_calls
from rewards.published.types import Record
from rollout.trajectory import Trajectory


class SealTools:
    """Counts of one answer, and the figures of a set."""

    missing: Mapping[str, str] = {}

    def record(self, trajectory: Trajectory) -> Record:
        """Whether the format is right, and the counts: calls and parameters, made, gold and right."""
        gold = [
            ToolCall(name=call["name"], arguments=call["arguments"])
            for call in trajectory.task.facts["benchmark"]["gold"]
        ]
        first: dict[str, ToolCall] = {}
        for call in gold:
            first.setdefault(call.name, call)
        made = _readable(trajectory)
        calls = made or []
        return {
            "format": float(made is not None),
            "calls": float(len(calls)),
            "gold_calls": float(len(gold)),
            "right_calls": float(sum(call.name in first for call in calls)),
            "parameters": float(sum(len(call.arguments) for call in calls)),
            "gold_parameters": float(sum(len(call.arguments) for call in gold)),
            "right_parameters": float(sum(_right(call, first[call.name]) for call in calls if call.name in first)),
        }

    def total(self, records: Sequence[tuple[Task, Record]]) -> Mapping[str, float | None]:
        """All figures over the set, then those of its easy and its difficult records: `tool_f1/easy`."""
        figures = _figures([record for _, record in records])
        for name in ("easy", "difficult"):
            of_it = [record for task, record in records if task.facts["benchmark"]["difficulty"] == name]
            if of_it:
                figures |= {f"{key}/{name}": value for key, value in _figures(of_it).items()}
        return figures


def _readable(trajectory: Trajectory) -> list[ToolCall] | None:
    """The calls of the answer; None if there is none, or one of them cannot be read."""
    calls = [call for call, _ in made_calls(trajectory)]
    if not calls or any(isinstance(call, MalformedCall) for call in calls):
        return None
    return [call for call in calls if isinstance(call, ToolCall)]


def _right(made: ToolCall, gold: ToolCall) -> int:
    return sum(
        name in gold.arguments and str(value) == str(gold.arguments[name]) for name, value in made.arguments.items()
    )


def _figures(records: Sequence[Record]) -> dict[str, float | None]:
    count = {name: sum(record[name] or 0.0 for record in records) for name in records[0]} if records else {}
    if not count:
        return {}
    figures: dict[str, float | None] = {"format_accuracy": count["format"] / len(records)}
    for name, counted in (("tool", "calls"), ("parameter", "parameters")):
        right, made, gold = count[f"right_{counted}"], count[counted], count[f"gold_{counted}"]
        precision = right / made if made else 0.0
        recall = right / gold if gold else None
        figures[f"{name}_precision"] = precision
        figures[f"{name}_recall"] = recall
        figures[f"{name}_f1"] = None if recall is None else f1(precision, recall)
    return figures


METRIC = SealTools()
