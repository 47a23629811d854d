"""ToolTalk: conversations in which each turn of the assistant may call several tools (arXiv 2311.10775).

As in the published evaluation each turn of the assistant is a task, after the recorded conversation before it, with all
28 tools offered; `Task.reference` are the calls of that turn. The published measure is of whole conversations, so the
facts name the conversation and hold all its calls. The service adds `session_token` itself: neither documents nor
references have it. Texts (the body of an e-mail) are compared as such by tether, which is stricter than the published
measure. A later call repeats the value of an earlier result (an id) as it is recorded.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from envs.benchmarks.dialects import json_schema
from envs.benchmarks.dialogues import Dialogue, to_openai
from envs.benchmarks.gold import contradiction, only
from envs.benchmarks.records import field, find_file, proved, read_records
from envs.benchmarks.types import Benchmark
from envs.types import Json, Message, Task, TaskKind, ToolCall, ToolSpec

_SUBSETS = ("easy", "tooltalk")
_TOKEN = "session_token"


def read(folder: Path, subset: str) -> Iterator[Task]:
    """Tasks of `easy` or `tooltalk`, one for each turn of the assistant."""
    tools = _tools(folder)
    actions = _actions(folder)
    for where, record in read_records(find_file(folder, subset)):
        yield from _turn_tasks(where, record, subset, tools, actions)


def dialogues(folder: Path) -> Iterator[Dialogue]:
    """Every recorded conversation, of both subsets in their order."""
    tools = _tools(folder)
    for subset in _SUBSETS:
        for where, record in read_records(find_file(folder, subset)):
            yield _dialogue(where, record, subset, tools)


def _turn_tasks(
    where: str, record: Mapping[str, Json], subset: str, tools: tuple[ToolSpec, ...], actions: Sequence[str]
) -> Iterator[Task]:
    name = field(where, record, "name", str)
    turns = field(where, record, "conversation", list)
    gold = [_published(api) for turn in turns for api in turn.get("apis", ())]
    prompt = [_system(record)]
    for turn in turns:
        if turn["role"] == "user":
            prompt.append(Message(role="user", content=turn["text"]))
            continue
        reference = tuple(_call(api) for api in turn.get("apis", ()))
        fault = contradiction(reference, tools)
        yield Task(
            task_id=f"tooltalk/{subset}/{name}:{turn['index']}",
            prompt=tuple(prompt),
            tools=tools,
            reference=reference,
            kind=_kind(reference),
            facts={
                "benchmark": {"conversation": name, "gold": gold, "actions": list(actions)},
                **({"gold_fault": fault} if fault else {}),
            },
        )
        prompt += [message for message, _ in _assistant(turn)]


def _kind(reference: Sequence[ToolCall]) -> str:
    if not reference:
        return "reply"
    return TaskKind.PARALLEL if len(reference) > 1 else TaskKind.SINGLE


def _dialogue(where: str, record: Mapping[str, Json], subset: str, tools: tuple[ToolSpec, ...]) -> Dialogue:
    messages: list[tuple[Message, bool]] = [(_system(record), False)]
    for turn in field(where, record, "conversation", list):
        if turn["role"] == "user":
            messages.append((Message(role="user", content=turn["text"]), False))
        else:
            messages += _assistant(turn)
    first = next(index for index, (message, _) in enumerate(messages) if message.role == "assistant")
    task = Task(
        task_id=f"tooltalk/{subset}/{field(where, record, 'name', str)}",
        prompt=tuple(message for message, _ in messages[:first]),
        tools=tools,
        reference=tuple(
            ToolCall(name=call.name, arguments=call.arguments)
            for message, _ in messages
            for call in message.calls
            if isinstance(call, ToolCall)
        ),
        kind="dialogue",
    )
    return Dialogue(
        task=task, messages=tuple(to_openai(message, failed=failed) for message, failed in messages), tools=tools
    )


def _system(record: Mapping[str, Json]) -> Message:
    metadata = record["metadata"]
    user = metadata.get("username")
    return Message(
        role="system",
        content=f"You are a helpful assistant. The user is in {metadata['location']}. "
        f"It is {metadata['timestamp']}. "
        + (f"The user is logged in as {user}." if user else "The user is not logged in."),
    )


def _assistant(turn: Mapping[str, Json]) -> Iterator[tuple[Message, bool]]:
    """The calls of a turn, each with its result, and what is said after them; with it whether the call failed."""
    for number, api in enumerate(turn.get("apis", ())):
        call_id = f"call_{turn['index']}_{number}"
        call = _call(api)
        call = ToolCall(call_id=call_id, name=call.name, arguments=call.arguments)
        yield Message(role="assistant", calls=(call,)), False
        result = json.dumps({"response": api["response"], "exception": api["exception"]}, ensure_ascii=False)
        yield Message(role="tool", content=result, call_id=call_id), api["exception"] is not None
    yield Message(role="assistant", content=turn["text"]), False


def _call(api: Mapping[str, Json]) -> ToolCall:
    request = api["request"]
    return ToolCall(
        name=request["api_name"],
        arguments={name: value for name, value in request["parameters"].items() if name != _TOKEN},
    )


def _published(api: Mapping[str, Json]) -> dict[str, Json]:
    call = _call(api)
    return {
        "name": call.name,
        "arguments": dict(call.arguments),
        "response": api["response"],
        "exception": api["exception"],
    }


def _tools(folder: Path) -> tuple[ToolSpec, ...]:
    path = find_file(folder, "api_schemas")
    return proved(str(path), (_tool(where, document) for where, document in read_records(path)))


def _actions(folder: Path) -> list[str]:
    """Names of the tools that change something."""
    documents = read_records(find_file(folder, "api_schemas"))
    return [document["name"] for _, document in documents if document["is_action"]]


def _tool(where: str, document: Mapping[str, Json]) -> ToolSpec:
    described: dict[str, dict[str, Json]] = {
        name: dict(parameter) for name, parameter in field(where, document, "parameters", dict).items()
    }
    required = [name for name, parameter in described.items() if parameter.pop("required")]
    if document["name"] == "CreateEvent" and "enum" in described["name"]:
        described["event_type"]["enum"] = described["name"].pop("enum")
    return ToolSpec(
        name=document["name"],
        description=document["description"],
        parameters=json_schema({"type": "object", "properties": described, "required": required}),
    )


BENCHMARK = Benchmark(
    name="tooltalk",
    subsets=_SUBSETS,
    read=read,
    traces=dialogues,
    gold_faults={
        "misplaced_enum": "the document of CreateEvent limits `name` to the values of `event_type`: moved there",
        **only("missing_argument", "unknown_argument", "bad_type", "bad_enum"),
    },
    uncounted_faults=frozenset({"misplaced_enum"}),
)
