"""Recorded episodes that come with a benchmark: a task, the conversation in OpenAI form, and the tools."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from envs.types import Json, Task, ToolSpec

_SCANNER = json.JSONDecoder(strict=False)
_SEPARATOR = re.compile(r"\s*,\s*")
_COLON = re.compile(r"\s*:\s*")


class Trace(NamedTuple):
    """One recorded episode.

    `task.facts["unjudged"]`, where present, says what the record cannot tell because it is incomplete: a list of
    {"turn", "call", "kinds"}, kinds of error that say nothing about the policy there.
    """

    task: Task
    messages: Sequence[Mapping[str, Json]]
    tools: tuple[ToolSpec, ...]


def openai_call(call_id: str, name: str, arguments: Mapping[str, Json]) -> dict[str, Json]:
    """One entry of `tool_calls`."""
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": json.dumps(dict(arguments))}}


def complete_pairs(text: str) -> tuple[dict[str, Json], bool]:
    """The name-value pairs that stand complete in the text of a JSON object which may be cut, and whether it is whole.

    A number at the very end may have lost digits, so it counts as cut.
    """
    found: dict[str, Json] = {}
    text = text.strip()
    position = 1
    try:
        while text[position:].strip() not in ("", "}"):
            position += len(text[position:]) - len(text[position:].lstrip())
            name, position = _SCANNER.raw_decode(text, position)
            colon = _COLON.match(text, position)
            if colon is None or not isinstance(name, str):
                return found, False
            value, position = _SCANNER.raw_decode(text, colon.end())
            if position == len(text):
                return found, False
            found[name] = value
            separator = _SEPARATOR.match(text, position)
            position = position if separator is None else separator.end()
            if separator is None and text[position:].strip() != "}":
                return found, False
    except ValueError:
        return found, False
    return found, text.startswith("{") and text.endswith("}") and text[position:].strip() == "}"
