"""API-Bank, levels 1 and 2: dialogues with calls and their recorded results (arXiv 2304.08244).

As in the published evaluation each call of a dialogue is a task of its own, after the recorded dialogue before it;
`level_1` and `level_2` hold those. `level_1_replies` and `level_2_replies` ask for the reply after a call: no call is
right there, but where the recorded reply makes the next call in the same breath, that call is. Level 1 offers the tools
of the dialogue. Level 2 offers `ToolSearcher` and the tools that earlier searches found. What the assistant says in the
same breath as the call is not part of the prompt. A later call repeats the value of an earlier result (a token) as it
is recorded, so values are plain and compared as such.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from envs.benchmarks.dialogues import Dialogue, to_openai
from envs.benchmarks.gold import contradiction, only
from envs.benchmarks.records import field, find_file, proved, read_records
from envs.benchmarks.types import Benchmark
from envs.types import Json, Message, Task, TaskKind, ToolCall, ToolSpec

PROMPT = "This year is 2023."
_FILES = {"level_1": "level-1-given-desc", "level_2": "level-2-toolsearcher"}
_SEARCHER = "ToolSearcher"
_REPLIES = "_replies"
_TYPES: Mapping[str, Mapping[str, Json]] = {
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
    "list": {"type": "array"},
    "list(str)": {"type": "array", "items": {"type": "string"}},
}
_OPTIONAL = re.compile(r"\[Optional\]|Only needed for the (first|second) call", re.IGNORECASE)
"""How documents say that a parameter may be left out; there is no list of required ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Recorded:
    """One dialogue as messages, and where its calls stand."""

    where: str
    name: str
    messages: tuple[Message, ...]
    failed: frozenset[str]
    """Ids of calls that raised."""
    turns: tuple[int, ...]
    """For each message its place in the source, that of the call for an assistant message with one."""


def read(folder: Path, subset: str) -> Iterator[Task]:
    """Tasks of a level: its calls, or with `_replies` its replies."""
    level = subset.removesuffix(_REPLIES)
    documents = _documents(folder)
    for recorded in _recorded(folder, level, documents):
        for index, message in enumerate(recorded.messages):
            if message.role != "assistant" or not index:
                continue
            after_call = recorded.messages[index - 1].role == "tool"
            if message.calls and subset == level:
                at_once = after_call and not message.content
                yield _call_task(recorded, index, level, documents, weight=2 if at_once else 1)
            if message.content and after_call and subset != level:
                yield _reply_task(recorded, index, level, documents)


def dialogues(folder: Path) -> Iterator[Dialogue]:
    """Every recorded dialogue, of both levels in their order."""
    documents = _documents(folder)
    for level in _FILES:
        for recorded in _recorded(folder, level, documents):
            yield _dialogue(recorded, level, documents)


def _call_task(recorded: _Recorded, index: int, level: str, documents: Mapping[str, ToolSpec], *, weight: int) -> Task:
    reference, tools, fault = _called(recorded, index, level, documents)
    (call,) = reference
    return Task(
        task_id=f"api_bank/{level}/{recorded.name}:{recorded.turns[index]}",
        prompt=_prompt(recorded, index),
        tools=tools,
        reference=reference,
        kind=TaskKind.SINGLE,
        facts={
            # The published program counts a call that follows another one at once twice: as the call, and as the
            # turn after a call.
            "benchmark": {"call": {"name": call.name, "arguments": dict(call.arguments)}, "weight": weight},
            **({"gold_fault": fault} if fault else {}),
        },
    )


def _reply_task(recorded: _Recorded, index: int, level: str, documents: Mapping[str, ToolSpec]) -> Task:
    reference, tools, fault = _called(recorded, index, level, documents)
    return Task(
        task_id=f"api_bank/{level}{_REPLIES}/{recorded.name}:{recorded.turns[index]}",
        prompt=_prompt(recorded, index),
        tools=tools,
        reference=reference,
        kind=TaskKind.SINGLE if reference else "reply",
        facts={
            "benchmark": {"reply": recorded.messages[index].content},
            **({"gold_fault": fault} if fault else {}),
        },
    )


def _called(
    recorded: _Recorded, index: int, level: str, documents: Mapping[str, ToolSpec]
) -> tuple[tuple[ToolCall, ...], tuple[ToolSpec, ...], str | None]:
    """The call of message `index`, if it makes one, the tools that are offered there, and the fault of the call."""
    calls = [call for call in recorded.messages[index].calls if isinstance(call, ToolCall)]
    reference = tuple(ToolCall(name=call.name, arguments=call.arguments) for call in calls)
    tools = _offered(recorded, index, level, documents)
    offered = {tool.name for tool in tools}
    unfound = tuple(documents[call.name] for call in reference if call.name not in offered)
    if unfound:
        return reference, (*tools, *unfound), "unfound_tool"
    return reference, tools, contradiction(reference, tools)


def _prompt(recorded: _Recorded, index: int) -> tuple[Message, ...]:
    return (Message(role="system", content=PROMPT), *recorded.messages[:index])


def _dialogue(recorded: _Recorded, level: str, documents: Mapping[str, ToolSpec]) -> Dialogue:
    messages = (Message(role="system", content=PROMPT), *recorded.messages)
    first = next(index for index, message in enumerate(messages) if message.role == "assistant")
    calls = [call for message in messages for call in message.calls if isinstance(call, ToolCall)]
    offered = {tool.name: tool for tool in _offered(recorded, len(recorded.messages), level, documents)}
    tools = tuple((offered | {call.name: documents[call.name] for call in calls if call.name not in offered}).values())
    task = Task(
        task_id=f"api_bank/{level}/{recorded.name}",
        prompt=messages[:first],
        tools=tools,
        reference=tuple(ToolCall(name=call.name, arguments=call.arguments) for call in calls),
        ordered=True,
        kind="dialogue",
    )
    return Dialogue(
        task=task,
        messages=tuple(to_openai(message, failed=message.call_id in recorded.failed) for message in messages),
        tools=tools,
    )


def _offered(recorded: _Recorded, index: int, level: str, documents: Mapping[str, ToolSpec]) -> tuple[ToolSpec, ...]:
    """The tools whose documents the policy has at message `index`."""
    if level == "level_1":
        messages: Sequence[Message] = recorded.messages
        names = [call.name for message in messages for call in message.calls if isinstance(call, ToolCall)]
        return tuple(documents[name] for name in dict.fromkeys(names))
    names = [_SEARCHER]
    searches: set[str] = set()
    for message in recorded.messages[:index]:
        searches |= {call.call_id for call in message.calls if isinstance(call, ToolCall) and call.name == _SEARCHER}
        if message.role == "tool" and message.call_id in searches:
            found = json.loads(message.content)
            names += [tool["name"] for tool in (found if isinstance(found, list) else [found]) if tool]
    return tuple(documents[name] for name in dict.fromkeys(names))


def _documents(folder: Path) -> dict[str, ToolSpec]:
    path = find_file(folder, "api_schemas")
    tools = proved(str(path), (_tool(where, document) for where, document in read_records(path)))
    return {tool.name: tool for tool in tools}


def _tool(where: str, document: Mapping[str, Json]) -> ToolSpec:
    described = field(where, document, "input_parameters", dict)
    properties: dict[str, Json] = {}
    for name, parameter in described.items():
        if parameter["type"] not in _TYPES:
            raise ValueError(f"{where}: {name} is of type {parameter['type']!r}, expected one of {', '.join(_TYPES)}")
        properties[name] = {**_TYPES[parameter["type"]], "description": parameter["description"]}
    required = [name for name, parameter in described.items() if not _OPTIONAL.search(parameter["description"])]
    return ToolSpec(
        name=field(where, document, "name", str),
        description=field(where, document, "description", str),
        parameters={"type": "object", "properties": properties, "required": required},
    )


def _recorded(folder: Path, level: str, documents: Mapping[str, ToolSpec]) -> Iterator[_Recorded]:
    for where, record in read_records(find_file(folder, _FILES[level])):
        messages: list[Message] = []
        turns: list[int] = []
        failed: set[str] = set()
        said = ""
        for number, turn in enumerate(field(where, record, "dialogue", list)):
            if turn["role"] != "API":
                if said:
                    messages.append(Message(role="assistant", content=said))
                    turns.append(number - 1)
                said = turn["text"] if turn["role"] == "AI" else ""
                if turn["role"] == "User":
                    messages.append(Message(role="user", content=turn["text"]))
                    turns.append(number)
                continue
            call = _gold(where, turn, documents, call_id=f"call_{number}")
            messages.append(Message(role="assistant", content=said, calls=(call,)))
            said = ""
            if turn["result"].get("exception") is not None:
                failed.add(call.call_id)
            messages.append(Message(role="tool", content=_answer(turn["result"]), call_id=call.call_id))
            turns += [number, number]
        if said:
            messages.append(Message(role="assistant", content=said))
            turns.append(len(record["dialogue"]) - 1)
        yield _Recorded(
            where=where,
            name=field(where, record, "file", str),
            messages=tuple(messages),
            failed=frozenset(failed),
            turns=tuple(turns),
        )


def _gold(where: str, turn: Mapping[str, Json], documents: Mapping[str, ToolSpec], *, call_id: str) -> ToolCall:
    name = turn["api_name"]
    if name not in documents:
        raise ValueError(f"{where}: {name} has no document, expected one in api_schemas")
    properties = documents[name].properties
    return ToolCall(
        call_id=call_id,
        name=name,
        arguments={key: _typed(value, properties.get(key)) for key, value in turn["param_dict"].items()},
    )


def _typed(value: Json, schema: Json) -> Json:
    """The value that a text stands for: the source writes every argument as text and converts it by its document."""
    kind = schema.get("type") if isinstance(schema, Mapping) else "string"
    if not isinstance(value, str) or kind == "string":
        return value
    if kind == "boolean":
        return value == "True"
    try:
        return json.loads(value.replace("'", '"') if kind == "array" else value)
    except json.JSONDecodeError:
        return value


def _answer(result: Mapping[str, Json]) -> str:
    if result.get("exception") is not None:
        return json.dumps({"exception": result["exception"]}, ensure_ascii=False)
    return json.dumps(result.get("output"), ensure_ascii=False)


BENCHMARK = Benchmark(
    name="api_bank",
    subsets=(*_FILES, *(f"{level}{_REPLIES}" for level in _FILES)),
    read=read,
    traces=dialogues,
    gold_faults={
        "unfound_tool": "gold calls a tool that no search before it found: it is offered besides",
        **only("missing_argument", "unknown_argument", "bad_type"),
    },
)
