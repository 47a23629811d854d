"""The calls that the reference of a task accepts: what a policy that makes no error would call."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from envs.actions import CHANGE_TOOLS, TALK_TO_USER
from envs.types import Json, Task, ToolCall
from rewards.matching import alternatives, may_be_omitted


def gold_calls(task: Task) -> tuple[ToolCall, ...]:
    """One accepted call for each reference call, in order.

    An argument has its first accepted value; one that may be left out is left out, unless the tool requires it.

    Raises:
        ValueError: the reference of the task is unknown.
    """
    if task.reference is None:
        raise ValueError(f"task {task.task_id}: the reference is unknown")
    required = {tool.name: frozenset(tool.required) for tool in task.tools}
    return tuple(
        ToolCall(
            name=call.name,
            call_id=call.call_id,
            arguments=_chosen(call.arguments, required.get(call.name, frozenset())),
        )
        for call in task.reference
    )


def in_full(call: ToolCall, task: Task) -> ToolCall:
    """A deferral of a reference, which leaves the free text open, as it would be said; other calls as they are.

    What the task says of the request (`facts["wanted"]["phrase"]`, as the tool world has it) becomes the reason.
    """
    if call.name == TALK_TO_USER:
        names = call.arguments.get("missing") or ()
        question = f"which {' and '.join(map(_spoken, names))}?" if names else "what else?"
        return replace(call, arguments={"question": question, "missing": [], **call.arguments})
    if call.name == CHANGE_TOOLS:
        wanted = task.facts.get("wanted")
        phrase = wanted.get("phrase") if isinstance(wanted, Mapping) else None
        return replace(call, arguments={"reason": f"no tool can {phrase or 'serve the request'}", **call.arguments})
    return call


def _spoken(name: Json) -> str:
    """The words of an identifier: "startDate" and "start_date" become "start date"."""
    return re.sub("(?<=[a-z0-9])(?=[A-Z])", " ", str(name)).replace("_", " ").lower()


def _chosen(arguments: Mapping[str, Json], required: frozenset[str]) -> dict[str, Json]:
    return {name: _first(value) for name, value in arguments.items() if name in required or not may_be_omitted(value)}


def _first(value: Json) -> Json:
    accepted = alternatives(value)
    if accepted is not None:
        # Where all that is left is "", it is the value itself.
        return _first(next((item for item in accepted if item != ""), ""))
    if isinstance(value, Mapping):
        return _chosen(value, frozenset())
    if isinstance(value, (list, tuple)):
        return [_first(item) for item in value]
    return value
