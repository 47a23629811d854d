"""ToolAlpaca's evaluation sets: instructions over small REST APIs, with gold calls (arXiv 2306.05301).

Tools are the operations of the OpenAPI document: parameters of path, query and header and the properties of a JSON body
are one flat object, as the gold calls write them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
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
        tools = proved(where, _tools(where, record))
        instructions = field(where, record, "Instructions", list)
        gold = field(where, record, "Golden_Answers", list)
        if len(gold) != len(instructions):
            raise ValueError(
                f"{where}: {len(gold)} gold answers, expected one for each of {len(instructions)} instructions"
            )
        secrets = frozenset(record.get("Authentication") or ())
        for number, (instruction, actions) in enumerate(zip(instructions, gold, strict=True)):
            yield _task(f"toolalpaca/{subset}/{name}:{number}", instruction, actions, tools, secrets)


def _task(
    task_id: str,
    instruction: str,
    actions: Sequence[Mapping[str, Json]],
    tools: tuple[ToolSpec, ...],
    secrets: frozenset[str],
) -> Task:
    calls = [_call(action) for action in actions]
    readable = [_named(call) for call in calls if call is not None]
    fault = _fault(actions, readable, tools, secrets)
    optional = [action["Action"].startswith(_OPTIONAL) for action in actions]
    unknown = fault in ("asks_user", "placeholder", "unreadable_gold", UNLISTED_TOOL)
    kind = TaskKind.PARALLEL if len(calls) > 1 else TaskKind.SINGLE
    if fault == "placeholder":
        kind = TaskKind.CHAIN
    return Task(
        task_id=task_id,
        prompt=(Message(role="user", content=instruction),),
        tools=tools,
        reference=None if unknown else _reference(readable, secrets, leave_out=optional),
        kind=TaskKind.MISSING_ARGUMENT if fault == "asks_user" else kind,
        facts={
            "benchmark": {
                "gold": [None if call is None else {"name": call.name, "arguments": call.arguments} for call in calls],
                "standard": [{"name": action["Action"], "arguments": action["Action_Input"]} for action in actions],
            },
            **(
                {ALTERNATIVES: alternatives_to_json([_reference(readable, secrets)])}
                if fault == "optional_call"
                else {}
            ),
            **({"gold_fault": fault} if fault else {}),
        },
    )


def _reference(
    calls: Sequence[ToolCall], secrets: frozenset[str], leave_out: Sequence[bool] | None = None
) -> tuple[ToolCall, ...]:
    """The calls without secret keys, and without those to leave out."""
    return tuple(
        ToolCall(name=call.name, arguments={key: value for key, value in call.arguments.items() if key not in secrets})
        for index, call in enumerate(calls)
        if leave_out is None or not leave_out[index]
    )


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
    if any(action["Action"].startswith(_OPTIONAL) for action in actions):
        return "optional_call"
    found = contradiction(readable, tools)
    if found is None and any(secrets & call.arguments.keys() for call in readable):
        return "secret_key"
    return found


def _call(action: Mapping[str, Json]) -> ToolCall | None:
    try:
        arguments = json.loads(action["Action_Input"])
    except json.JSONDecodeError:
        return None
    return ToolCall(name=action["Action"], arguments=arguments) if isinstance(arguments, dict) else None


def _named(call: ToolCall) -> ToolCall:
    return ToolCall(name=call.name.removeprefix(_OPTIONAL), arguments=call.arguments)


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
        "secret_key": "gold has a key to the API that the policy is not told: any value of it is accepted",
        **only(UNLISTED_TOOL, "missing_argument", "unknown_argument", "bad_type", "bad_enum"),
    },
)
