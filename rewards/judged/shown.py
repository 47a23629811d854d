"""Tasks and episodes as a judge reads them."""

from __future__ import annotations

import json
from collections.abc import Iterable

from envs.actions import ACTION_NAMES, CHANGE_TOOLS, TALK_TO_USER
from envs.benchmarks.dialogues import to_openai
from envs.types import Call, Json, MalformedCall, Message, ToolSpec
from rollout.trajectory import Trajectory

NOTHING = "(nothing)"
_WORDS = {TALK_TO_USER: "question", CHANGE_TOOLS: "reason"}


def as_json(value: Json) -> str:
    """One line, the letters as they are."""
    return json.dumps(value, ensure_ascii=False, default=dict)


def tools_text(tools: Iterable[ToolSpec]) -> str:
    """One document a line."""
    lines = [
        as_json({"name": tool.name, "description": tool.description, "parameters": tool.parameters}) for tool in tools
    ]
    return "\n".join(lines) or NOTHING


def conversation_text(messages: Iterable[Message]) -> str:
    """One message a line, in OpenAI form."""
    return "\n".join(as_json(to_openai(message)) for message in messages)


def reply_text(message: Message, tools: Iterable[ToolSpec]) -> str:
    """Words and calls of one message; tether's actions, tools that the benchmark does not know, are words as well."""
    offered = {tool.name for tool in tools}
    texts = [message.content] if message.content else []
    for call in message.calls:
        is_action = not isinstance(call, MalformedCall) and call.name in ACTION_NAMES and call.name not in offered
        texts.append(_words(call) if is_action else f"call: {call_text(call)}")
    return "\n".join(filter(None, texts)) or NOTHING


def call_text(call: Call) -> str:
    """Name and arguments of a call as JSON; of one that could not be read, its text."""
    if isinstance(call, MalformedCall):
        return call.text
    return as_json({"name": call.name, "arguments": dict(call.arguments)})


def steps_text(trajectory: Trajectory) -> str:
    """Everything that was said, called and answered, in its order."""
    lines: list[str] = []
    for turn in trajectory.turns:
        if turn.message.content:
            lines.append(f"said: {turn.message.content}")
        for position, call in enumerate(turn.message.calls):
            lines.append(f"call: {call_text(call)}")
            if position < len(turn.results):
                lines.append(f"response: {turn.results[position].content or NOTHING}")
        lines += [f"{message.role}: {message.content}" for message in turn.heard]
    return "\n".join(lines) or NOTHING


def request_text(trajectory: Trajectory) -> str:
    """What the user asked for: the prompt without the system's message."""
    return "\n\n".join(message.content for message in trajectory.task.prompt if message.role != "system")


def _words(call: Call) -> str:
    if isinstance(call, MalformedCall):
        return call.text
    return str(call.arguments.get(_WORDS.get(call.name, "answer")) or "")
