"""Builds trajectories by hand: fake token ids, one span of three tokens per turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from envs.actions import ACTION_NAMES, ACTIONS, FINISH
from envs.schema import check
from envs.types import (
    Call,
    MalformedCall,
    Message,
    Outcome,
    Task,
    TaskKind,
    ToolCall,
    ToolResult,
    ToolSpec,
    ToolStatus,
)
from rollout.trajectory import Ending, Trajectory, Turn

TURN_TOKENS = 3


def spec(name: str, required: dict | None = None, optional: dict | None = None) -> ToolSpec:
    required, optional = required or {}, optional or {}
    return ToolSpec(
        name=name,
        parameters={"type": "object", "properties": {**required, **optional}, "required": list(required)},
    )


BOOK = spec(
    "book_flight",
    {"city": {"type": "string"}, "days": {"type": "integer"}},
    {"class": {"type": "string", "enum": ["economy", "business"], "default": "economy"}, "note": {"type": "string"}},
)
FIND = spec("find_hotel", {"city": {"type": "string"}}, {"stars": {"type": "integer"}})
PAY = spec("pay_bill", {"bill_id": {"type": "string"}})
WEATHER = spec("get_weather", {"city": {"type": "string"}})
TOOLS = (BOOK, FIND, PAY, WEATHER)


def call(name: str, /, **arguments) -> ToolCall:
    return ToolCall(name=name, arguments=arguments)


def finish(answer: str = "done") -> ToolCall:
    return call(FINISH, answer=answer)


def ask(*missing: str) -> ToolCall:
    return call("talk_to_user", question="which?", missing=list(missing))


def other_tools(reason: str = "none serves") -> ToolCall:
    return call("change_tools", reason=reason)


def make_task(
    *reference: ToolCall,
    request: str = "Book a flight to Oslo for 3 days",
    kind: str = TaskKind.SINGLE,
    tools: Sequence[ToolSpec] = TOOLS,
    known: bool = True,
    task_id: str = "task",
    **fields,
) -> Task:
    return Task(
        task_id=task_id,
        prompt=(Message(role="user", content=request),),
        tools=tuple(tools),
        reference=reference if known else None,
        kind=kind,
        **fields,
    )


def play(
    task: Task,
    *turns: Call | Sequence[Call] | str,
    answers: Sequence[str | tuple[ToolStatus, str]] | None = None,
    new_tools: dict[int, Sequence[ToolSpec]] | None = None,
    ending: Ending = Ending.COMPLETED,
    trajectory_id: str = "trajectory",
) -> Trajectory:
    """One episode. A turn is a call, several calls, or text.

    Args:
        task: what was to be done.
        turns: what the policy wrote.
        answers: for each turn, in place of the content of its results: a text (status ok) or (status, text).
        new_tools: tools offered after a turn.
        ending: how the episode ended.
        trajectory_id: its name.
    """
    offered = {tool.name: tool for tool in (*task.tools, *ACTIONS)}
    made: list[Turn] = []
    finished = False
    number = 0
    for index, written in enumerate(turns):
        if isinstance(written, str):
            message = Message(role="assistant", content=written)
        else:
            calls = (written,) if isinstance(written, (ToolCall, MalformedCall)) else tuple(written)
            message = Message(role="assistant", calls=calls)
        results = []
        for one in message.calls:
            status, content = _fact(one, offered)
            if answers is not None and index < len(answers) and answers[index] != "":
                answer = answers[index]
                status, content = answer if isinstance(answer, tuple) else (ToolStatus.OK, answer)
            results.append(ToolResult(call_id=f"call_{number}", status=ToolStatus(status), content=content))
            number += 1
            finished = finished or (isinstance(one, ToolCall) and one.name == FINISH and status == ToolStatus.OK)
        after = (new_tools or {}).get(index)
        start = index * TURN_TOKENS * 2 + TURN_TOKENS
        tools = None if after is None else (*after, *ACTIONS)
        if tools is not None:
            offered = {tool.name: tool for tool in tools}
        made.append(
            Turn(message=message, results=tuple(results), start=start, end=start + TURN_TOKENS, new_tools=tools)
        )
    length = len(made) * TURN_TOKENS * 2
    mask = (np.arange(length) // TURN_TOKENS) % 2 == 1
    return Trajectory(
        trajectory_id=trajectory_id,
        group_id=task.task_id,
        task=task,
        tools=(*task.tools, *ACTIONS),
        turns=tuple(made),
        token_ids=np.arange(length, dtype=np.int32),
        action_mask=mask,
        logprobs=np.where(mask, -0.5, np.nan).astype(np.float32),
        oldest_version=0,
        newest_version=0,
        ending=ending,
        outcome=Outcome(finished=finished),
    )


def _fact(made: Call, offered: dict[str, ToolSpec]) -> tuple[ToolStatus, str]:
    if isinstance(made, MalformedCall):
        return ToolStatus.MALFORMED, '{"error":"malformed"}'
    if made.name not in offered:
        return ToolStatus.UNKNOWN_TOOL, '{"error":"no such tool"}'
    if check(made.arguments, offered[made.name].parameters):
        return ToolStatus.INVALID_ARGUMENTS, '{"error":"invalid"}'
    return ToolStatus.OK, "{}" if made.name in ACTION_NAMES else '{"result":"fine"}'


class Builder:
    """The helpers above, as one fixture: modules under tests/ are not importable by name."""

    spec = staticmethod(spec)
    call = staticmethod(call)
    finish = staticmethod(finish)
    ask = staticmethod(ask)
    other_tools = staticmethod(other_tools)
    task = staticmethod(make_task)
    play: Callable[..., Trajectory] = staticmethod(play)
    BOOK, FIND, PAY, WEATHER = BOOK, FIND, PAY, WEATHER


@pytest.fixture(scope="session")
def build() -> type[Builder]:
    return Builder
