"""ToolBench's way of writing RapidAPI endpoints as functions: names, types, and the Finish action.

StableToolBench and RelyToolBench (Relign, arXiv 2412.04141) share it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from envs.actions import CHANGE_TOOLS, TALK_TO_USER
from envs.actions import FINISH as FINISH_ACTION
from envs.benchmarks.dialects import json_schema
from envs.benchmarks.records import field, proved
from envs.types import Call, Json, Message, ToolCall, ToolSpec

FINISH = "Finish"
GIVE_ANSWER = "give_answer"
RESTART = "give_up_and_restart"
GIVE_UP_CHANGE_TOOLS = "give_up_and_change_tools"
GIVE_UP_TALK_TO_USER = "give_up_and_talk_to_user"

_FORBIDDEN = re.compile("[^\u4e00-\u9fa5^a-zA-Z0-9_]")
_KEYWORDS = frozenset({"from", "class", "return", "false", "true", "id", "and"})
_NAME_LENGTH = 64
_DESCRIPTION_LENGTH = 256
_TYPES = {"number": "number", "string": "string", "boolean": "boolean"}
"""RapidAPI's types; dates, times, enumerations, objects and files are strings, as they go into a request's text."""


def function_name(tool: str, api: str) -> str:
    """The function of one API: `API_for_TOOL`, of which the last 64 characters count."""
    return f"{parameter_name(api)}_for_{_standardised(tool)}"[-_NAME_LENGTH:]


def parameter_name(name: str) -> str:
    """Lower case, one underscore for what no identifier may hold; a reserved word gets `is_` in front."""
    plain = _standardised(name)
    return f"is_{plain}" if plain in _KEYWORDS else plain


def _standardised(name: str) -> str:
    plain = re.sub("_+", "_", _FORBIDDEN.sub("_", name)).lower().strip("_")
    return f"get_{plain}" if plain[:1].isdigit() else plain


def finish_tool(*return_types: str) -> ToolSpec:
    """Finish, by which every chain has to end, with the ways to end that a benchmark offers."""
    return ToolSpec(
        name=FINISH,
        description="End the task: give the final answer, or give up and say in which way.",
        parameters={
            "type": "object",
            "properties": {
                "return_type": {"type": "string", "enum": list(return_types)},
                "final_answer": {
                    "type": "string",
                    "description": f"What the user is told; needed if return_type is {GIVE_ANSWER}.",
                },
            },
            "required": ["return_type"],
        },
    )


def offered(where: str, record: Mapping[str, Json], finish: ToolSpec) -> tuple[ToolSpec, ...]:
    """The functions of a record's `api_list`, and Finish.

    Of several APIs with one name the first is offered: ToolBench calls the first whose name fits.

    Raises:
        ValueError: the list is no list of APIs.
    """
    tools: dict[str, ToolSpec] = {}
    for number, api in enumerate(field(where, record, "api_list", list)):
        tool = _tool(f"{where}: api_list[{number}]", api)
        tools.setdefault(tool.name, tool)
    return proved(where, iter([*tools.values(), finish]))


def relevant(where: str, record: Mapping[str, Json]) -> tuple[str, ...]:
    """Names of the functions that are needed, each once.

    Raises:
        ValueError: `relevant APIs` is no list of [tool, API].
    """
    names = []
    for pair in field(where, record, "relevant APIs", list):
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(part, str) for part in pair):
            raise ValueError(f"{where}: relevant APIs holds {pair!r}, expected [tool, API]")
        names.append(function_name(*pair))
    return tuple(dict.fromkeys(names))


def _tool(where: str, api: Json) -> ToolSpec:
    if not isinstance(api, Mapping):
        raise ValueError(f"{where} is {type(api).__name__}, expected an object")
    required = _parameters(where, api, "required_parameters")
    optional = _parameters(where, api, "optional_parameters")
    return ToolSpec(
        name=function_name(field(where, api, "tool_name", str), field(where, api, "api_name", str)),
        description=f"{api['tool_name']}: {_cut(api.get('api_description'))}",
        parameters=json_schema(
            {"type": "object", "properties": {**optional, **required}, "required": list(required)},
        ),
    )


def _parameters(where: str, api: Mapping[str, Json], key: str) -> dict[str, Json]:
    """Schema by name. What RapidAPI calls a default is an example: it fills the form of the API's web page."""
    found: dict[str, Json] = {}
    for parameter in field(where, api, key, list):
        name = parameter_name(field(f"{where}.{key}", parameter, "name", str))
        if not name:
            continue
        schema: dict[str, Json] = {"type": _TYPES.get(str(parameter.get("type")).lower(), "string")}
        if parameter.get("description"):
            schema["description"] = _cut(parameter["description"])
        if parameter.get("default") not in (None, ""):
            schema["examples"] = [parameter["default"]]
        found[name] = schema
    return found


def _cut(text: Json) -> str:
    return str(text or "")[:_DESCRIPTION_LENGTH]


def to_actions(message: Message) -> Message:
    """The calls of Finish in a message as tether's actions, of the same meaning.

    `give_up_and_restart` ends the task without an answer. A Finish that ToolBench would refuse (no return_type or one
    that does not exist, or no answer to give) stays as it is.
    """
    return replace(message, calls=tuple(map(_to_action, message.calls)))


def _to_action(call: Call) -> Call:
    if not isinstance(call, ToolCall) or call.name != FINISH:
        return call
    answer = call.arguments.get("final_answer", "")
    if not isinstance(answer, str):
        return call
    match call.arguments.get("return_type"):
        case "give_answer" if "final_answer" in call.arguments:
            return replace(call, name=FINISH_ACTION, arguments={"answer": answer})
        case "give_up_and_restart":
            return replace(call, name=FINISH_ACTION, arguments={"answer": ""})
        case "give_up_and_change_tools":
            return replace(call, name=CHANGE_TOOLS, arguments={"reason": answer})
        case "give_up_and_talk_to_user":
            return replace(call, name=TALK_TO_USER, arguments={"question": answer, "missing": []})
    return call


def from_actions(message: Message) -> Message:
    """Tether's actions in a message as calls of Finish, of the same meaning."""
    return replace(message, calls=tuple(map(_from_action, message.calls)))


def _from_action(call: Call) -> Call:
    if not isinstance(call, ToolCall):
        return call
    match call.name:
        case "finish":
            arguments = {"return_type": GIVE_ANSWER, "final_answer": call.arguments.get("answer", "")}
        case "change_tools":
            arguments = {"return_type": GIVE_UP_CHANGE_TOOLS}
        case "talk_to_user":
            arguments = {"return_type": GIVE_UP_TALK_TO_USER}
        case _:
            return call
    return replace(call, name=FINISH, arguments=arguments)
