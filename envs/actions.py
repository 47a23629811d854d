"""The actions every task offers beside its tools: deferring, and finishing (Relign, section 3)."""

from __future__ import annotations

from dataclasses import replace

from envs.types import Task, ToolSpec

TALK_TO_USER = "talk_to_user"
CHANGE_TOOLS = "change_tools"
FINISH = "finish"

ACTIONS: tuple[ToolSpec, ...] = (
    ToolSpec(
        name=TALK_TO_USER,
        description="Ask the user for required values that were not given.",
        parameters={
            "type": "object",
            "properties": {
                "question": {"type": "string"},
                "missing": {"type": "array", "items": {"type": "string"}},
            },
            "required": ["question", "missing"],
        },
    ),
    ToolSpec(
        name=CHANGE_TOOLS,
        description="Ask for other tools when none of the offered ones serves the request.",
        parameters={
            "type": "object",
            "properties": {"reason": {"type": "string"}},
            "required": ["reason"],
        },
    ),
    ToolSpec(
        name=FINISH,
        description="End the task and give the answer.",
        parameters={
            "type": "object",
            "properties": {"answer": {"type": "string"}},
            "required": ["answer"],
        },
    ),
)

ACTION_NAMES = frozenset(action.name for action in ACTIONS)
DEFERRALS = frozenset({TALK_TO_USER, CHANGE_TOOLS})
"""The indecisive actions: right when a call would be a guess, needless otherwise."""


def offered_actions(task: Task) -> tuple[ToolSpec, ...]:
    """The actions beside the tools of a task: those that `facts["actions"]` names, without that fact all of them."""
    names = task.facts.get("actions")
    return ACTIONS if names is None else tuple(action for action in ACTIONS if action.name in names)


def without_deferrals(task: Task) -> Task:
    """The same task with `finish` as its only action."""
    return replace(task, facts={**task.facts, "actions": [FINISH]})
