"""Recorded outputs of a model for the tasks of a benchmark -> trajectories. No model is run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from envs.actions import ACTIONS, CHANGE_TOOLS, DEFERRALS
from envs.benchmarks.episode import SingleTurnEnv
from envs.benchmarks.records import read_records
from envs.types import Call, Json, Message, Task, ToolCall, ToolResult, ToolSpec, ToolStatus
from rewards.gold import gold_calls, in_full
from rollout.endpoint import message_of_endpoint
from rollout.parsers import PARSERS
from rollout.recorded import shown
from rollout.trajectory import Trajectory
from rollout.unrendered import unrendered

Reply = tuple[Message, tuple[ToolResult, ...]]
FORMS = ("messages", "calls", "text")


def read_predictions(path: Path, tasks: Sequence[Task], *, offer_actions: bool) -> list[Trajectory]:
    """One trajectory for each task, in the order of the tasks.

    Each line is `{"id", "messages"}` (assistant and tool messages in OpenAI form), `{"id", "calls"}` or
    `{"id", "text", "grammar"}`; ids are those of the tasks.

    Args:
        path: JSONL, also .gz.
        tasks: what was to be done.
        offer_actions: whether tether's actions were offered.

    Raises:
        ValueError: a line is wrong, of no task or of one that came before, or a task has none.
    """
    wanted = {task.task_id: task for task in tasks}
    found: dict[str, Trajectory] = {}
    for where, record in read_records(path):
        task_id = record.get("id")
        if not isinstance(task_id, str) or task_id not in wanted:
            known = next(iter(wanted), "none")
            raise ValueError(
                f"{where}: id {shown(task_id)} is of no task that is scored (see --subset and --limit); expected a "
                f"task_id such as {known}"
            )
        if task_id in found:
            raise ValueError(f"{where}: id {task_id} for the second time; expected one line for each task")
        task = wanted[task_id]
        replies = _replies(where, record, task)
        found[task_id] = unrendered(
            task,
            replies,
            tools=(*task.tools, *ACTIONS) if offer_actions else task.tools,
            answer=(replies[-1][0].content or None) if replies else None,
        )
    missing = [task.task_id for task in tasks if task.task_id not in found]
    if missing:
        raise ValueError(
            f"{path}: no prediction for {len(missing)} of {len(tasks)} tasks, such as {missing[0]}; expected one for "
            "each task of the subsets that are scored"
        )
    return [found[task.task_id] for task in tasks]


def _replies(where: str, record: Mapping[str, Json], task: Task) -> list[Reply]:
    forms = [form for form in FORMS if form in record]
    if len(forms) != 1:
        raise ValueError(f"{where}: has {' and '.join(forms) or 'no output'}, expected one of {', '.join(FORMS)}")
    match forms[0]:
        case "messages":
            return _of_messages(where, record["messages"], task)
        case "calls":
            return _of_calls(where, record["calls"], task)
    return _of_text(where, record, task)


def _of_messages(where: str, messages: Json, task: Task) -> list[Reply]:
    if not isinstance(messages, list):
        raise ValueError(f"{where}: messages is {type(messages).__name__}, expected a list")
    replies: list[tuple[Message, dict[str, str]]] = []
    num_calls = 0
    for number, message in enumerate(messages):
        role = message.get("role") if isinstance(message, Mapping) else None
        if role == "assistant":
            reply = message_of_endpoint(message, start=num_calls)
            num_calls += len(reply.calls)
            replies.append((reply, {}))
        elif role == "tool" and replies:
            replies[-1][1][str(message.get("tool_call_id") or "")] = str(message.get("content") or "")
        else:
            raise ValueError(
                f"{where}: messages[{number}] has the role {shown(role)}, expected assistant, and tool after it"
            )
    return [(reply, _results(task, reply, answers)) for reply, answers in replies]


def _of_calls(where: str, calls: Json, task: Task) -> list[Reply]:
    if not isinstance(calls, list):
        raise ValueError(f"{where}: calls is {type(calls).__name__}, expected a list")
    for number, call in enumerate(calls):
        if not isinstance(call, Mapping) or not isinstance(call.get("name"), str):
            raise ValueError(f"{where}: calls[{number}] is {shown(call)}, expected {{name, arguments}}")
    reply = message_of_endpoint({"tool_calls": [{"function": call} for call in calls]})
    return [(reply, _results(task, reply))]


def _of_text(where: str, record: Mapping[str, Json], task: Task) -> list[Reply]:
    text, grammar = record["text"], record.get("grammar")
    if not isinstance(text, str):
        raise ValueError(f"{where}: text is {type(text).__name__}, expected a string")
    if not isinstance(grammar, str) or grammar not in PARSERS:
        raise ValueError(f"{where}: grammar {shown(grammar)}, expected one of {', '.join(PARSERS)}")
    parsed = PARSERS[grammar].parse(text)
    calls: list[Call] = [replace(call, call_id=f"call_{number}") for number, call in enumerate(parsed.calls)]
    reply = Message(role="assistant", content=parsed.content, calls=tuple(calls))
    return [(reply, _results(task, reply))]


def _results(task: Task, reply: Message, answers: Mapping[str, str] | None = None) -> tuple[ToolResult, ...]:
    """The recorded results; where there is none, what can be said of a call that was not run."""
    env = SingleTurnEnv(task)
    return tuple(
        ToolResult(call_id=call.call_id, status=ToolStatus.OK, content=answers[call.call_id])
        if answers and call.call_id in answers
        else env.result(call)
        for call in reply.calls
    )


def gold_trajectory(task: Task) -> Trajectory:
    """What a policy that makes no error says: each deferral that is due, and the calls of the reference.

    Raises:
        ValueError: the reference of the task is unknown.
    """
    messages: list[list[ToolCall]] = [[]]
    for call in gold_calls(task):
        if call.name in DEFERRALS:
            messages += [[in_full(call, task)], []]
        else:
            messages[-1].append(call)
    written = [calls for calls in messages if calls] or [[]]
    defers = any(call.name in DEFERRALS for calls in written for call in calls)
    tools = (*task.tools, *ACTIONS) if defers else task.tools
    replies = [_numbered(calls, number) for number, calls in enumerate(written)]
    made = unrendered(task, [(reply, _results(task, reply)) for reply in replies], tools=tools)
    fresh = tuple(ToolSpec.from_json(tool) for tool in task.facts.get("new_tools") or ())
    if not fresh:
        return made
    turns = [
        replace(turn, new_tools=(*fresh, *ACTIONS)) if any(_is_change(call) for call in turn.message.calls) else turn
        for turn in made.turns
    ]
    return replace(made, turns=tuple(turns))


def _numbered(calls: Sequence[ToolCall], turn: int) -> Message:
    numbered = tuple(replace(call, call_id=f"call_{turn}_{number}") for number, call in enumerate(calls))
    return Message(role="assistant", calls=numbered)


def _is_change(call: Call) -> bool:
    return isinstance(call, ToolCall) and call.name == CHANGE_TOOLS
