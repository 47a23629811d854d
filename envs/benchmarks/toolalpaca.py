"""ToolAlpaca's evaluation sets: instructions over small REST APIs, with gold calls (arXiv 2306.05301).

Tools are the operations of the OpenAPI document: parameters of path, query and header and the properties of a JSON body
are one flat object, as the gold calls write them. A key to the API (`Authentication`), which no instruction says, is no
parameter of an offered tool, and the gold calls are compared without it.

`facts["benchmark"]["gold"]` is what the published metric compares: null for a call that cannot be compared (no JSON, a
placeholder among its values, the question to the user and what hangs on its answer), `optional` where it may be left
out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from envs.benchmarks.alternatives import ALTERNATIVES, alternatives_to_json
from envs.benchmarks.dialects import json_schema
from envs.benchmarks.gold import UNLISTED_TOOL, contradiction, only
from envs.benchmarks.records import field, find_file, proved, read_records
from envs.benchmarks.types import Benchmark
from envs.types import Json, Message, Task, TaskKind, ToolCall, ToolSpec

ASKS_USER = "getDetails"
"""The action with which gold asks the user for what the instruction does not say; no function of the API."""
_PLACEHOLDER = re.compile(r"\$\{[^{}]*\}|\"\{[^{}:]+\}\"")
_OPTIONAL = "[Optional]"
_FILES = {"real": "eval_real", "simulated": "eval_simulated"}
_DEEPEST = 8
"""A reference within a schema is followed so far: some schemas name themselves."""


def read(folder: Path, subset: str) -> Iterator[Task]:
    """Tasks of `real` or `simulated`, one for each instruction."""
    for where, record in read_records(find_file(folder, _FILES[subset])):
        name = field(where, record, "Name", str)
        secrets = frozenset(record.get("Authentication") or ())
        tools = proved(where, (_without_secrets(tool, secrets) for tool in _tools(where, record)))
        instructions = field(where, record, "Instructions", list)
        gold = field(where, record, "Golden_Answers", list)
        if len(gold) != len(instructions):
            raise ValueError(
                f"{where}: {len(gold)} gold answers, expected one for each of {len(instructions)} instructions"
            )
        for number, (instruction, actions) in enumerate(zip(instructions, gold, strict=True)):
            yield _task(f"toolalpaca/{subset}/{name}:{number}", instruction, actions, tools, secrets)


def _task(
    task_id: str,
    instruction: str,
    actions: Sequence[Mapping[str, Json]],
    tools: tuple[ToolSpec, ...],
    secrets: frozenset[str],
) -> Task:
    calls = [_call(action, secrets) for action in actions]
    readable = [call for call in calls if call is not None]
    fault = _fault(actions, readable, tools, secrets)
    needed = [
        call for action, call in zip(actions, calls, strict=True) if call is not None and not _is_optional(action)
    ]
    unknown = fault in ("asks_user", "placeholder", "unreadable_gold", UNLISTED_TOOL)
    kind = TaskKind.PARALLEL if len(calls) > 1 else TaskKind.SINGLE
    if fault == "placeholder":
        kind = TaskKind.CHAIN
    return Task(
        task_id=task_id,
        prompt=(Message(role="user", content=instruction),),
        tools=tools,
        reference=None if unknown else tuple(needed),
        kind=TaskKind.MISSING_ARGUMENT if fault == "asks_user" else kind,
        facts={
            "benchmark": {
                "gold": [
                    None if fault == "asks_user" else _compared(action, call)
                    for action, call in zip(actions, calls, strict=True)
                ],
                "standard": [
                    {"name": action["Action"], "arguments": _text_without_secrets(action["Action_Input"], secrets)}
                    for action in actions
                ],
            },
            **({ALTERNATIVES: alternatives_to_json([readable])} if fault == "optional_call" else {}),
            **({"gold_fault": fault} if fault else {}),
        },
    )


def _compared(action: Mapping[str, Json], call: ToolCall | None) -> dict[str, Json] | None:
    """A gold call as the published metric compares it; None where it cannot."""
    if call is None or _PLACEHOLDER.search(action["Action_Input"]):
        return None
    optional = {"optional": True} if _is_optional(action) else {}
    return {"name": call.name, "arguments": call.arguments, **optional}


def _fault(
    actions: Sequence[Mapping[str, Json]],
    readable: Sequence[ToolCall],
    tools: tuple[ToolSpec, ...],
    secrets: frozenset[str],
) -> str | None:
    if any(action["Action"] == ASKS_USER for action in actions):
        return "asks_user"
    if any(_PLACEHOLDER.search(action["Action_Input"]) for action in actions):
        return "placeholder"
    if len(readable) < len(actions):
        return "unreadable_gold"
    if any(_is_optional(action) for action in actions):
        return "optional_call"
    found = contradiction(readable, tools)
    if found is None and any(f'"{name}"' in action["Action_Input"] for action in actions for name in secrets):
        return "secret_key"
    return found


def _call(action: Mapping[str, Json], secrets: frozenset[str]) -> ToolCall | None:
    """The call without the keys to the API; None if it is no JSON object."""
    try:
        given = json.loads(action["Action_Input"])
    except json.JSONDecodeError:
        return None
    if not isinstance(given, dict):
        return None
    arguments = {name: value for name, value in given.items() if name not in secrets}
    return ToolCall(name=action["Action"].removeprefix(_OPTIONAL), arguments=arguments)


def _is_optional(action: Mapping[str, Json]) -> bool:
    return action["Action"].startswith(_OPTIONAL)


def _text_without_secrets(text: str, secrets: frozenset[str]) -> str:
    """The input of a gold call, JSON or not, without the keys to the API."""
    for name in sorted(secrets):
        pair = rf'"{re.escape(name)}"\s*:\s*"[^"]*"'
        text = re.sub(rf"{pair}\s*,\s*|\s*,\s*{pair}|{pair}", "", text)
    return text


def _without_secrets(tool: ToolSpec, secrets: frozenset[str]) -> ToolSpec:
    """The tool without the keys to the API, which the policy is not told."""
    properties = {name: schema for name, schema in tool.properties.items() if name not in secrets}
    required = [name for name in tool.required if name not in secrets]
    return replace(tool, parameters={**tool.parameters, "properties": properties, "required": required})


def _tools(where: str, record: Mapping[str, Json]) -> Iterator[ToolSpec]:
    try:
        document = json.loads(field(where, record, "Documentation", str))
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: Documentation is not JSON ({error}), expected an OpenAPI document") from error
    for name, (path, method) in field(where, record, "Function_Projection", dict).items():
        try:
            shared, operation = document["paths"][path], document["paths"][path][method]
        except KeyError as error:
            raise ValueError(f"{where}: {name} is {method} {path}, which Documentation does not have") from error
        yield ToolSpec(
            name=name,
            description=operation.get("summary") or operation.get("description") or "",
            parameters=_parameters(
                document, [*shared.get("parameters", ()), *operation.get("parameters", ())], operation
            ),
        )


def _parameters(document: Mapping[str, Json], listed: Sequence[Json], operation: Mapping[str, Json]) -> dict[str, Json]:
    properties: dict[str, Json] = {}
    required: list[str] = []
    for item in listed:
        parameter = _resolved(document, item)
        schema = dict(parameter.get("schema") or {})
        if "description" in parameter:
            schema["description"] = parameter["description"]
        properties[parameter["name"]] = schema
        if parameter.get("required"):
            required.append(parameter["name"])
    content = _resolved(document, operation.get("requestBody") or {}).get("content") or {}
    body = next((_resolved(document, media.get("schema") or {}) for media in content.values()), {})
    properties |= body.get("properties") or {}
    required += body.get("required") or []
    return json_schema({"type": "object", "properties": properties, "required": list(dict.fromkeys(required))})


def _resolved(document: Mapping[str, Json], value: Json, depth: int = 0) -> Json:
    """`value` with every `$ref` into the document replaced by what it names."""
    if isinstance(value, list):
        return [_resolved(document, item, depth) for item in value]
    if not isinstance(value, dict):
        return value
    reference = value.get("$ref")
    if not isinstance(reference, str):
        return {key: _resolved(document, item, depth) for key, item in value.items()}
    if depth == _DEEPEST:
        return {}
    found: Json = document
    for part in reference.removeprefix("#/").split("/"):
        found = found.get(part, {}) if isinstance(found, dict) else {}
    return _resolved(document, found, depth + 1)


BENCHMARK = Benchmark(
    name="toolalpaca",
    subsets=tuple(_FILES),
    read=read,
    gold_faults={
        "asks_user": "gold asks the user by an action that is not offered: a missing argument, the reference unknown",
        "placeholder": "a gold value is a placeholder for one that gold does not have: the reference is unknown",
        "optional_call": "gold marks a call as optional: the reference without it and the one with it are both right",
        "unreadable_gold": "a gold call is not a JSON object: the reference is unknown",
        "secret_key": "gold has a key to the API that the policy is not told: neither offered nor compared",
        **only(UNLISTED_TOOL, "missing_argument", "unknown_argument", "bad_type", "bad_enum"),
    },
)
