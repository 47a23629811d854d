"""Several right answers to one task: whole references, where the values of one call cannot say it."""

from __future__ import annotations

from collections.abc import Sequence

from envs.types import Json, Task, ToolCall

ALTERNATIVES = "alternatives"
"""Key of `Task.facts`: further references, each a list of calls, that are as right as `Task.reference`."""


def alternatives_to_json(references: Sequence[Sequence[ToolCall]]) -> list[Json]:
    """References as `Task.facts` holds them."""
    return [[{"name": call.name, "arguments": dict(call.arguments)} for call in calls] for calls in references]


def accepted_references(task: Task) -> tuple[tuple[ToolCall, ...], ...]:
    """Every reference of the task, its own first; empty if it is unknown. A policy is right if it meets one of them."""
    if task.reference is None:
        return ()
    others = task.facts.get(ALTERNATIVES, ())
    return (
        tuple(task.reference),
        *(tuple(ToolCall(name=call["name"], arguments=call["arguments"]) for call in calls) for calls in others),
    )
