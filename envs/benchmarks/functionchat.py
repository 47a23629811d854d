"""FunctionChat-Bench (Korean) -> tasks.

What the records say, and how it is told here:

- call: the gold call and the further accepted values of its arguments are the reference. Accepted values that are a
  rule in words ("Only ... is allowed.") are no values: the gold alone is accepted.
- slot: a required value is missing: talk_to_user is due. The gold is a sentence and names no parameter.
- relevance: no function fits: change_tools is due.
- completion: the results are there and the answer is due: no call is right.

The system prompt of Singlecall and Dialog is not among the data files and is left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from envs.actions import CHANGE_TOOLS, TALK_TO_USER
from envs.benchmarks.dialects import parameters
from envs.benchmarks.records import field, find_file, proved, read_records
from envs.benchmarks.types import Benchmark
from envs.types import Json, Message, Task, TaskKind, ToolCall, ToolSpec

_RULE = re.compile(r"\b(only|must|should|fail|allowed)\b", re.IGNORECASE)
_RAW_CALL = re.compile(
    r'"name"\s*:\s*"(?P<name>[^"]+)".*?"arguments"\s*:\s*"(?P<arguments>\{.*?\})(?:"\s*\}?)?\s*$', re.DOTALL
)

GOLD_FAULTS: Mapping[str, str] = {
    "rule_in_words": "the accepted values are a rule in words: the gold value alone is accepted",
    "unescaped_arguments": "the gold call is no JSON as its arguments are not escaped: read as they are meant",
    "format_against_description": "the gold follows the description against the format of its parameter: no format",
}
_AGAINST_FORMAT: Mapping[str, tuple[str, str]] = {
    "call_decision/81": ("compareCleaningServices", "requested_date"),
    "call_decision/83": ("compareCleaningServices", "requested_date"),
}
"""Records of `format_against_description`: the tool and its parameter."""


def read(folder: Path, subset: str) -> Iterator[Task]:
    """Tasks of one subset, from the folder that holds the `FunctionChat-*` files.

    Raises:
        ValueError: no such subset or file, or a record that is wrong: `FILE:LINE: what, expected`.
    """
    if subset not in BENCHMARK.subsets:
        raise ValueError(f"subset {subset!r}: expected one of {', '.join(BENCHMARK.subsets)}")
    stem, tasks = {
        "call_decision": ("FunctionChat-CallDecision", _call_decision),
        "singlecall": ("FunctionChat-Singlecall", _single_calls),
        "dialog": ("FunctionChat-Dialog", _dialog),
    }[subset]
    for where, record in read_records(find_file(folder, stem)):
        yield from tasks(where, record)


def _call_decision(where: str, record: Mapping[str, Json]) -> Iterator[Task]:
    yield _task(
        where,
        f"call_decision/{record['serial_num']}",
        messages=field(where, record, "input_messages", list),
        tools=_tools(where, field(where, record, "input_tools", list)),
        output=field(where, record, "type_of_output", str),
        gold=_function(field(where, record, "ground_truth", dict)),
        text=record["ground_truth"].get("content"),
        acceptable=record.get("acceptable_arguments"),
        facts={"subset": "call_decision", "category": record["category"]},
    )


def _single_calls(where: str, record: Mapping[str, Json]) -> Iterator[Task]:
    """One task for each question and set of candidate functions, in the order of the questions."""
    sets = [
        (field(where, tools, "type", str), _tools(where, field(where, tools, "content", list)))
        for tools in field(where, record, "tools", list)
    ]
    columns = [field(where, record, name, list) for name in ("query", "ground_truth", "acceptable_arguments")]
    if len({len(column) for column in columns}) != 1:
        raise ValueError(f"{where}: query, ground_truth and acceptable_arguments must be equally long")
    for query, gold, acceptable in zip(*columns, strict=True):
        for name, tools in sets:
            yield _task(
                where,
                f"singlecall/{query['serial_num']}-{name}",
                messages=[{"role": "user", "content": query["content"]}],
                tools=tools,
                output="call",
                gold=gold["content"],
                text=None,
                acceptable=acceptable["content"],
                facts={"subset": "singlecall", "tools_type": name},
            )


def _dialog(where: str, record: Mapping[str, Json]) -> Iterator[Task]:
    tools = _tools(where, field(where, record, "tools", list))
    for turn in field(where, record, "turns", list):
        yield _task(
            where,
            f"dialog/{turn['serial_num']}",
            messages=turn["query"],
            tools=tools,
            output=turn["type_of_output"],
            gold=_function(turn["ground_truth"]),
            text=turn["ground_truth"].get("content"),
            acceptable=turn.get("acceptable_arguments"),
            facts={"subset": "dialog", "dialog_num": record["dialog_num"]},
        )


def _task(
    where: str,
    record: str,
    *,
    messages: list[Json],
    tools: tuple[ToolSpec, ...],
    output: str,
    gold: Json,
    text: str | None,
    acceptable: Json,
    facts: Mapping[str, Json],
) -> Task:
    faults: list[str] = []
    call: ToolCall | None = None
    accepted = _acceptable(acceptable)
    if output == "call":
        call, is_escaped = _gold_call(where, gold)
        faults += ["unescaped_arguments"] * (not is_escaped)
        faults += ["rule_in_words"] * any(_is_rule(value) for value in accepted.values())
    if record in _AGAINST_FORMAT:
        faults.append("format_against_description")
        tools = tuple(_without_format(tool, *_AGAINST_FORMAT[record]) for tool in tools)
    return Task(
        task_id=f"functionchat/{record}",
        prompt=tuple(_message(where, message) for message in messages),
        tools=tools,
        reference=_reference(where, output, call, accepted),
        kind={"slot": TaskKind.MISSING_ARGUMENT, "relevance": TaskKind.UNMATCHED_TOOLS}.get(output, TaskKind.SINGLE),
        facts={
            "benchmark": {
                **facts,
                "type_of_output": output,
                "ground_truth": None if call is None else {"name": call.name, "arguments": dict(call.arguments)},
                "ground_truth_text": text or "",
                "acceptable_arguments": accepted,
                "accepted_as_written": acceptable,
            },
            **({"gold_fault": faults[0]} if faults else {}),
        },
    )


def _reference(where: str, output: str, call: ToolCall | None, accepted: Mapping[str, Json]) -> tuple[ToolCall, ...]:
    match output:
        case "call" if call is not None:
            arguments = {name: _any_of(value, accepted.get(name)) for name, value in call.arguments.items()}
            return (ToolCall(name=call.name, arguments=arguments),)
        case "slot":
            return (ToolCall(name=TALK_TO_USER, arguments={}),)
        case "relevance":
            return (ToolCall(name=CHANGE_TOOLS, arguments={}),)
        case "completion":
            return ()
    raise ValueError(f"{where}: type_of_output {output!r}, expected call, slot, relevance or completion")


def _any_of(value: Json, further: Json) -> Json:
    if further is None or _is_rule(further):
        return value
    return {"any_of": [value, *(further if isinstance(further, list) else [further])]}


def _is_rule(value: Json) -> bool:
    """Whether accepted values are a rule in words: English, while values are Korean, names or numbers."""
    return isinstance(value, str) and len(value.split()) > 3 and _RULE.search(value) is not None


def _acceptable(value: Json) -> dict[str, Json]:
    """Accepted values by argument; a remark in words gives none, as the published evaluator has it."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return {}
    return value if isinstance(value, dict) else {}


def _tools(where: str, documents: list[Json]) -> tuple[ToolSpec, ...]:
    functions = [document.get("function", document) for document in documents]
    return proved(
        where,
        (
            ToolSpec(
                name=function["name"],
                description=function.get("description") or "",
                parameters=parameters(function.get("parameters")),
            )
            for function in functions
        ),
    )


def _without_format(tool: ToolSpec, name: str, parameter: str) -> ToolSpec:
    if tool.name != name:
        return tool
    schema = {key: value for key, value in tool.properties[parameter].items() if key != "format"}
    return replace(tool, parameters={**tool.parameters, "properties": {**tool.properties, parameter: schema}})


def _function(message: Mapping[str, Json]) -> Json:
    """The call of a gold message, if it makes one."""
    calls = message.get("tool_calls")
    return calls[0]["function"] if calls else None


def _gold_call(where: str, gold: Json) -> tuple[ToolCall, bool]:
    """The gold call, and whether it was well-formed JSON."""
    escaped = True
    if isinstance(gold, str):
        try:
            gold = json.loads(gold)
        except ValueError:
            found = _RAW_CALL.search(gold)
            if found is None:
                raise ValueError(f"{where}: gold {gold!r}, expected a call as JSON") from None
            gold, escaped = {"name": found["name"], "arguments": found["arguments"].replace('\\"', '"')}, False
    if not isinstance(gold, dict) or "name" not in gold:
        raise ValueError(f"{where}: gold {gold!r}, expected a call with name and arguments")
    return ToolCall(name=gold["name"], arguments=_arguments(where, gold.get("arguments"))), escaped


def _arguments(where: str, value: Json) -> dict[str, Json]:
    try:
        found = json.loads(value) if isinstance(value, str) else value
    except ValueError as error:
        raise ValueError(f"{where}: arguments {value!r} are not JSON ({error})") from error
    if not isinstance(found, dict):
        raise ValueError(f"{where}: arguments {value!r}, expected a JSON object")
    return found


def _message(where: str, message: Mapping[str, Json]) -> Message:
    return Message(
        role=message["role"],
        content=message.get("content") or "",
        calls=tuple(
            ToolCall(
                call_id=call.get("id", ""),
                name=call["function"]["name"],
                arguments=_arguments(where, call["function"]["arguments"]),
            )
            for call in message.get("tool_calls") or ()
        ),
        call_id=message.get("tool_call_id", ""),
    )


BENCHMARK = Benchmark(
    name="functionchat",
    subsets=("call_decision", "singlecall", "dialog"),
    read=read,
    gold_faults=GOLD_FAULTS,
)
