"""Recorded dialogues of benchmarks, in OpenAI form, with the task that they do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from envs.types import Json, Message, Task, ToolCall, ToolSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialogue:
    """One recorded dialogue."""

    task: Task
    """Its prompt is what stands before the first assistant message, its reference all calls of the dialogue."""
    messages: tuple[Mapping[str, Json], ...]
    """The whole dialogue in OpenAI form. A tool message of a call that failed has `status` "failed" besides."""
    tools: tuple[ToolSpec, ...]


def to_openai(message: Message, *, failed: bool = False) -> dict[str, Json]:
    """One message in OpenAI form, the arguments of calls as JSON strings."""
    value: dict[str, Json] = {"role": message.role, "content": message.content}
    if message.calls:
        value["tool_calls"] = [
            {
                "id": call.call_id,
                "type": "function",
                "function": {"name": call.name, "arguments": json.dumps(dict(call.arguments), ensure_ascii=False)},
            }
            for call in message.calls
            if isinstance(call, ToolCall)
        ]
    if message.call_id:
        value["tool_call_id"] = message.call_id
    if failed:
        value["status"] = "failed"
    return value
