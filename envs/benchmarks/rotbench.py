"""RoTBench: one call under noisy names of tools and parameters, at five levels of noise (arXiv 2401.08326).

A record offers tools and accepts one or more calls. Its published evaluator looks at one answer only; the answers of
`Third_Turn` come after two earlier steps with their results.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from envs.benchmarks.alternatives import ALTERNATIVES, alternatives_to_json
from envs.benchmarks.dialects import json_schema
from envs.benchmarks.gold import contradiction, only
from envs.benchmarks.records import field, find_file, proved, read_records
from envs.benchmarks.types import Benchmark
from envs.types import Json, Message, Task, TaskKind, ToolCall, ToolSpec

LEVELS = ("clean", "slight", "medium", "heavy", "union")
_FOLDERS = {
    **{level: ("First_Turn", level) for level in LEVELS},
    **{f"{level}_third": ("Third_Turn", level) for level in LEVELS},
}
_TOOLS = "you have access of the following tools:\n"


def read(folder: Path, subset: str) -> Iterator[Task]:
    """Tasks of one level; `LEVEL` is the first turn, `LEVEL_third` the third."""
    turn, level = _FOLDERS[subset]
    for number, (where, record) in enumerate(read_records(find_file(folder / turn, level))):
        yield _task(where, record, f"rotbench/{subset}/{number}")


def _task(where: str, record: Mapping[str, Json], task_id: str) -> Task:
    messages = field(where, record, "conversations", list)
    system, answers = messages[0]["value"], messages[-1]["value"]
    documents = _documents(where, system)
    tools = _named_once(proved(where, map(_tool, documents)))
    accepted = [_action(where, answer)[1] for answer in answers]
    finish, ask = documents[-1]["name"], documents[-2]["name"]
    sound = [call for call in accepted if contradiction([call], tools) is None]
    references = [_reference(call, tools, free=call.name in (finish, ask)) for call in sound or accepted[:1]]
    facts: dict[str, Json] = {
        "benchmark": {
            "id": record["id"],
            "scenario": record["scenario"],
            "accepted": [{"name": call.name, "arguments": dict(call.arguments)} for call in accepted],
            "finish": finish,
            "ask": ask,
        }
    }
    if len(references) > 1:
        facts[ALTERNATIVES] = alternatives_to_json([[call] for call in references[1:]])
    fault = contradiction(accepted[:1], tools) if not sound else None
    if fault is None and len(tools) < len(documents):
        fault = "duplicate_tool"
    if fault is not None:
        facts["gold_fault"] = fault
    return Task(
        task_id=task_id,
        prompt=(Message(role="system", content=system.split("\n", 1)[0]), *_history(where, messages[1:-1])),
        tools=tools,
        reference=(references[0],),
        kind=TaskKind.SINGLE,
        facts=facts,
    )


def _documents(where: str, system: str) -> list[dict[str, Json]]:
    start = system.find(_TOOLS)
    if start < 0:
        raise ValueError(f"{where}: no tools in the system message, expected them after {_TOOLS.strip()!r}")
    try:
        value, _ = json.JSONDecoder().raw_decode(system, start + len(_TOOLS))
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: the tools are not JSON ({error}); expected a list of documents") from error
    return value


def _tool(document: Mapping[str, Json]) -> ToolSpec:
    parameters = json_schema(document["parameters"])
    # Noise may give two parameters one name; a list of required names holds each once.
    required = list(dict.fromkeys(parameters.get("required", ())))
    return ToolSpec(
        name=document["name"],
        description=document.get("description", ""),
        parameters={**parameters, "required": required},
    )


def _named_once(tools: Sequence[ToolSpec]) -> tuple[ToolSpec, ...]:
    """Noise may give two tools one name: the last of them is offered, as a policy could not tell them apart."""
    return tuple({tool.name: tool for tool in tools}.values())


def _reference(call: ToolCall, tools: Sequence[ToolSpec], *, free: bool) -> ToolCall:
    """The accepted call without the values that the published evaluator does not look at.

    They are those of `finish` and `ask_to_user`, and the text "None". An argument that is required may then have any
    value, one that is not may be "None" or left out.
    """
    required = next(tool.required for tool in tools if tool.name == call.name)
    arguments: dict[str, Json] = {}
    for name, value in call.arguments.items():
        if not free and value != "None":
            arguments[name] = value
        elif name not in required:
            arguments[name] = {"any_of": [value, ""]}
    return ToolCall(name=call.name, arguments=arguments)


def _action(where: str, text: Json) -> tuple[str, ToolCall]:
    """Thought and call of an answer: lines of Thought, Action and Action Input, the last of which is JSON."""
    if isinstance(text, str) and "Action:" in text and "Action Input:" in text:
        head, _, arguments = text.partition("Action Input:")
        thought, _, name = head.partition("Action:")
        try:
            value = json.loads(arguments)
        except json.JSONDecodeError:
            value = None
        if isinstance(value, dict):
            return thought.removeprefix("Thought:").strip(), ToolCall(name=name.strip(), arguments=value)
    raise ValueError(f"{where}: {text!r}: expected Thought, Action and Action Input with a JSON object")


def _history(where: str, messages: Sequence[Mapping[str, str]]) -> Iterator[Message]:
    """Earlier steps. What the user answered to `ask_to_user` is the result of that call."""
    open_call = ""
    for number, message in enumerate(messages):
        text = message["value"]
        if message["from"] == "assistant":
            thought, call = _action(where, text)
            open_call = f"call_{number}"
            yield Message(
                role="assistant",
                content=thought,
                calls=(ToolCall(call_id=open_call, name=call.name, arguments=call.arguments),),
            )
        elif open_call:
            yield Message(role="tool", content=text.removesuffix("\nBegin!\n"), call_id=open_call)
            open_call = ""
        else:
            yield Message(role="user", content=text.removesuffix("\nBegin!\n"))


BENCHMARK = Benchmark(
    name="rotbench",
    subsets=tuple(_FOLDERS),
    read=read,
    gold_faults={
        **only("missing_argument", "unknown_argument"),
        "duplicate_tool": "the noise gave two tools one name: the last of them is offered",
    },
)
