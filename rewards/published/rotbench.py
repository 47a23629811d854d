"""RoTBench's tool selection, parameter identification and content filling, as its evaluator defines them.

Source: arXiv 2401.08326 and the program beside the data. A record accepts several calls. TS: the name is that of an
accepted call. PI: in addition the sets of argument names are equal. CF: in addition the values are equal; an accepted
value "None" is not compared, nor are the values of `finish` and `ask_to_user`. `finish` also stands for the last tool
of the record, whatever its noisy name. A call that cannot be parsed fails all three. Rates are over all records.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from envs.types import Json, Task, ToolCall
from rewards.published.figures import first_call, mean
from rewards.published.types import Record
from rollout.trajectory import Trajectory

STAGES = ("ts", "pi", "cf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """What a record accepts."""

    calls: Sequence[ToolCall]
    finish: str
    """Name of the tool that ends the task, whose values are not compared."""
    ask: str
    """Name of the tool that asks the user, whose values are not compared."""


def stages(made: ToolCall | None, accepted: Accepted, *, as_published: bool = True) -> int:
    """How many stages `made` passes: 0 none, 1 TS, 2 PI, 3 CF.

    The published evaluator counts a call without arguments as wrong, its own labels too. It also deletes from the
    answer what an accepted call does not compare, so that a later accepted call of the same tool sees fewer arguments.

    Args:
        made: the first call of the answer; None if there is none or it cannot be parsed.
        accepted: the right calls.
        as_published: with both of these; otherwise corrected.
    """
    if made is None or (as_published and not made.arguments):
        return 0
    name, arguments = made.name, dict(made.arguments)
    reached = 0
    for right in accepted.calls:
        if name == "finish" and right.name == accepted.finish:
            name = right.name
        if right.name != name:
            continue
        reached = max(reached, 1)
        if right.arguments.keys() != arguments.keys():
            continue
        reached = max(reached, 2)
        ignored = [key for key, value in right.arguments.items() if value == "None"]
        left = {key: value for key, value in arguments.items() if key not in ignored}
        wanted = {key: value for key, value in right.arguments.items() if key not in ignored}
        if as_published:
            arguments = left
        if left == wanted or right.name in (accepted.finish, accepted.ask):
            return 3
    return reached


class RoTBench:
    """TS, PI and CF of the first call."""

    missing: Mapping[str, str] = {}

    def __init__(self, *, as_published: bool = True) -> None:
        """Choose the evaluator: as published, or one that takes calls without arguments for what they are."""
        self.as_published = as_published

    def record(self, trajectory: Trajectory) -> Record:
        """ts, pi and cf, each 0 or 1."""
        reached = stages(first_call(trajectory), accepted(trajectory.task), as_published=self.as_published)
        return {name: float(reached > index) for index, name in enumerate(STAGES)}

    def total(self, records: Sequence[tuple[Task, Record]]) -> Mapping[str, float | None]:
        """ts, pi and cf over all records, and each over the records of a scenario: `ts/TG`."""
        figures: dict[str, float | None] = {name: mean([record[name] for _, record in records]) for name in STAGES}
        scenarios = sorted({task.facts["benchmark"]["scenario"] for task, _ in records})
        for scenario in scenarios:
            of_it = [record for task, record in records if task.facts["benchmark"]["scenario"] == scenario]
            figures |= {f"{name}/{scenario}": mean([record[name] for record in of_it]) for name in STAGES}
        return figures


def accepted(task: Task) -> Accepted:
    """What the record of `task` accepts."""
    facts: Mapping[str, Json] = task.facts["benchmark"]
    return Accepted(
        calls=[ToolCall(name=call["name"], arguments=call["arguments"]) for call in facts["accepted"]],
        finish=facts["finish"],
        ask=facts["ask"],
    )


PUBLISHED = RoTBench()
CORRECTED = RoTBench(as_published=False)


class BothWays:
    """What the published evaluator says and, as `ts/corrected`, what it would say without its two faults."""

    missing: Mapping[str, str] = {}

    def record(self, trajectory: Trajectory) -> Record:
        """ts, pi and cf, each 0 or 1, and the same corrected."""
        corrected = CORRECTED.record(trajectory)
        return {**PUBLISHED.record(trajectory), **{f"{name}/corrected": corrected[name] for name in STAGES}}

    def total(self, records: Sequence[tuple[Task, Record]]) -> Mapping[str, float | None]:
        """As published, and over all records the corrected ones."""
        names = [f"{name}/corrected" for name in STAGES]
        return {**PUBLISHED.total(records), **{name: mean([record[name] for _, record in records]) for name in names}}


METRIC = BothWays()
