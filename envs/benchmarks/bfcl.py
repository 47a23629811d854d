"""BFCL, the Berkeley Function-Calling Leaderboard (data files of version 4) -> tasks.

What the records say, and how it is told here:

- simple, multiple, parallel and live: the accepted values of each argument are a reference of {"any_of": ...}; ""
  means that it may be left out. Calls of one message have no order.
- irrelevance and live_irrelevance: right is no call. The reference is empty and the kind `unmatched_tools`: to say so
  by change_tools is right too, and not due.
- live_relevance: right is some call, which one is not said. The reference is unknown.
- exec_*: the gold is one call in Python source. It was compared by running both calls.
- multi_turn_*: one task for each turn; what came before are the user's messages and the gold calls. Results of those
  calls are not in the files, as they come from the API classes of the benchmark. A turn for which a function is held
  back waits for change_tools, one for which a value is held back for talk_to_user. Several calls of a turn are ordered.
  A turn in which nothing is to be called, of which multi_turn_base has three, has an empty reference.

Java and JavaScript documents: a parameter of type T also takes a string, as the benchmark takes every value in the
source of its language, where a variable may stand for it. Spelled scalars ("true", "5L") are accepted beside values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from envs.actions import CHANGE_TOOLS, TALK_TO_USER
from envs.benchmarks.bfcl_faults import GOLD_FAULTS, mended
from envs.benchmarks.dialects import parameters
from envs.benchmarks.records import field, find_file, proved, read_records
from envs.benchmarks.source_calls import source_call
from envs.benchmarks.types import Benchmark
from envs.types import Json, Message, Task, TaskKind, ToolCall, ToolSpec

AST_SUBSETS = (
    "simple_python",
    "simple_java",
    "simple_javascript",
    "multiple",
    "parallel",
    "parallel_multiple",
    "live_simple",
    "live_multiple",
    "live_parallel",
    "live_parallel_multiple",
)
"""Single-turn subsets with accepted values, which the published checker compares."""
NO_CALL_SUBSETS = ("irrelevance", "live_irrelevance")
RELEVANCE_SUBSETS = ("live_relevance",)
EXECUTED_SUBSETS = ("exec_simple", "exec_multiple", "exec_parallel", "exec_parallel_multiple")
MULTI_TURN_SUBSETS = ("multi_turn_base", "multi_turn_miss_func", "multi_turn_miss_param")

_CLASS_FILES: Mapping[str, str] = {
    "GorillaFileSystem": "gorilla_file_system",
    "MathAPI": "math_api",
    "MessageAPI": "message_api",
    "TwitterAPI": "posting_api",
    "TicketAPI": "ticket_api",
    "TradingBot": "trading_bot",
    "TravelAPI": "travel_booking",
    "VehicleControlAPI": "vehicle_control",
}
_MORE_FUNCTIONS = "I have updated some more functions you can choose from. What about now?"
"""What the benchmark says in the user's place when functions held back are offered."""


def read(folder: Path, subset: str) -> Iterator[Task]:
    """Tasks of one subset, from the folder that holds `BFCL_v4_SUBSET` files and `possible_answer/`.

    Raises:
        ValueError: no such subset or file, or a record that is wrong: `FILE:LINE: what, expected`.
    """
    if subset not in BENCHMARK.subsets:
        raise ValueError(f"subset {subset!r}: expected one of {', '.join(BENCHMARK.subsets)}")
    path = find_file(folder, f"BFCL_v4_{subset}")
    gold: Mapping[str, Mapping[str, Json]] = {}
    if subset not in NO_CALL_SUBSETS + RELEVANCE_SUBSETS:
        answers = read_records(find_file(folder / "possible_answer", f"BFCL_v4_{subset}"))
        gold = {field(where, answer, "id", str): answer for where, answer in answers}
    for where, record in read_records(path):
        identifier = field(where, record, "id", str)
        if gold and identifier not in gold:
            raise ValueError(f"{where}: no answer for {identifier}; expected one in possible_answer")
        if subset in MULTI_TURN_SUBSETS:
            yield from _multi_turn(folder, where, subset, record, gold[identifier])
        else:
            yield _single_turn(where, subset, record, gold.get(identifier))


def _single_turn(where: str, subset: str, record: Mapping[str, Json], gold: Mapping[str, Json] | None) -> Task:
    documents = field(where, record, "function", list)
    language = {"simple_java": "java", "simple_javascript": "javascript"}.get(subset, "python")
    tools = proved(where, (_tool(document, language) for document in documents))
    identifier = record["id"]
    facts: dict[str, Json] = {
        "benchmark": {
            "id": identifier,
            "category": subset,
            "language": language,
            "function": documents,
            "ground_truth": None if gold is None else gold["ground_truth"],
        }
    }
    reference: tuple[ToolCall, ...] | None = None
    kind = TaskKind.SINGLE
    if subset in NO_CALL_SUBSETS:
        reference, kind = (), TaskKind.UNMATCHED_TOOLS
    elif gold is not None:
        truth = field(where, gold, "ground_truth", list)
        if subset in EXECUTED_SUBSETS:
            order = {tool.name: tuple(tool.properties) for tool in tools}
            reference = tuple(_source_call(where, text, order) for text in truth)
        else:
            types = {tool.name: _types(document) for tool, document in zip(tools, documents, strict=True)}
            reference = tuple(_accepted_call(where, call, types, language) for call in truth)
        kind = TaskKind.PARALLEL if len(reference) > 1 else TaskKind.SINGLE
    task = Task(
        task_id=f"bfcl/{subset}/{identifier}",
        prompt=_messages(where, field(where, record, "question", list)[0]),
        tools=tools,
        reference=reference,
        kind=kind,
        facts=facts,
    )
    return mended(task, identifier, {})


def _tool(document: Mapping[str, Json], language: str) -> ToolSpec:
    schema = parameters(document.get("parameters"))
    if language != "python":
        schema["properties"] = {name: _or_source(value) for name, value in schema["properties"].items()}
    return ToolSpec(name=document["name"], description=document.get("description") or "", parameters=schema)


def _or_source(schema: Mapping[str, Json]) -> dict[str, Json]:
    """The schema taking a string too, at every depth."""
    found = dict(schema)
    if "properties" in schema:
        found["properties"] = {name: _or_source(value) for name, value in schema["properties"].items()}
    if isinstance(schema.get("items"), Mapping):
        found["items"] = _or_source(schema["items"])
    kinds = schema.get("type")
    if kinds is not None and "enum" not in schema:
        found["type"] = list(dict.fromkeys([*(kinds if isinstance(kinds, list) else [kinds]), "string"]))
    return found


def _types(document: Mapping[str, Json]) -> dict[str, str]:
    """The type of each parameter as the document writes it."""
    return {name: str(value.get("type")) for name, value in document["parameters"].get("properties", {}).items()}


def _accepted_call(where: str, call: Json, types: Mapping[str, Mapping[str, str]], language: str) -> ToolCall:
    if not isinstance(call, dict) or len(call) != 1:
        raise ValueError(f"{where}: gold {call!r}, expected {{function: {{parameter: [accepted values]}}}}")
    ((name, arguments),) = call.items()
    if name not in types:
        raise ValueError(f"{where}: gold calls {name}, expected one of the record's functions")
    return ToolCall(
        name=name,
        arguments={
            key: {"any_of": _accepted_values(values, types[name].get(key, ""), language)}
            for key, values in arguments.items()
        },
    )


def _accepted_values(values: list[Json], type_name: str, language: str) -> list[Json]:
    """Objects among them hold accepted values in their turn: {"key": [values]}."""
    found = [
        [_accepted_object(item) for item in value] if isinstance(value, list) else _accepted_object(value)
        for value in values
    ]
    if language != "python":
        found += [spelled for value in values for spelled in _spellings(value, type_name)]
    return found


def _accepted_object(value: Json) -> Json:
    if not isinstance(value, dict):
        return value
    return {key: {"any_of": inner} if isinstance(inner, list) else inner for key, inner in value.items()}


def _spellings(value: Json, type_name: str) -> Iterator[str]:
    """How Java or JavaScript writes a scalar. That text spells a number is known to every comparison."""
    if isinstance(value, bool):
        yield "true" if value else "false"
    elif isinstance(value, (int, float)):
        suffix = {"long": "L", "float": "f", "bigint": "n"}.get(type_name.lower(), "")
        if suffix:
            yield f"{value}{suffix}"


def _source_call(where: str, text: Json, order: Mapping[str, Sequence[str]]) -> ToolCall:
    try:
        return source_call(text, order)
    except ValueError as error:
        raise ValueError(f"{where}: gold {error}") from error


def _messages(where: str, turn: Json) -> tuple[Message, ...]:
    if not isinstance(turn, list):
        raise ValueError(f"{where}: a turn is {type(turn).__name__}, expected a list of messages")
    return tuple(Message(role=message["role"], content=message["content"]) for message in turn)


def _multi_turn(
    folder: Path, where: str, subset: str, record: Mapping[str, Json], gold: Mapping[str, Json]
) -> Iterator[Task]:
    turns = field(where, record, "question", list)
    truth = field(where, gold, "ground_truth", list)
    if len(turns) != len(truth):
        raise ValueError(f"{where}: {len(turns)} turns but gold for {len(truth)}")
    tools = [tool for name in field(where, record, "involved_classes", list) for tool in _class_tools(folder, name)]
    excluded = set(record.get("excluded_function", ()))
    held_back = {int(turn): set(names) for turn, names in record.get("missed_function", {}).items()}
    no_value = _turn_without_value(truth) if subset == "multi_turn_miss_param" else None
    order = {tool.name: tuple(tool.properties) for tool in tools}
    history: list[Message] = []
    for number, (turn, texts) in enumerate(zip(turns, truth, strict=True)):
        history += _messages(where, turn) or (Message(role="user", content=_MORE_FUNCTIONS),)
        later = {name for from_turn, names in held_back.items() if from_turn > number for name in names}
        calls = tuple(
            replace(_source_call(where, text, order), call_id=f"{number}-{index}") for index, text in enumerate(texts)
        )
        kind, reference = _turn_reference(calls, lacks_function=number + 1 in held_back, lacks_value=number == no_value)
        identifier = f"{record['id']}-{number}"
        task = Task(
            task_id=f"bfcl/{subset}/{identifier}",
            prompt=tuple(history),
            tools=tuple(tool for tool in tools if tool.name not in excluded | later),
            reference=reference,
            ordered=len(calls) > 1,
            kind=kind,
            facts={
                "benchmark": {
                    "id": record["id"],
                    "category": subset,
                    "turn": number,
                    "num_turns": len(turns),
                    "ground_truth": texts,
                    "initial_config": record.get("initial_config"),
                }
            },
        )
        yield mended(task, identifier, {tool.name: tool for tool in tools})
        if calls:
            history.append(Message(role="assistant", calls=calls))


def _turn_without_value(truth: Sequence[Sequence[Json]]) -> int | None:
    """The turn for which a value is held back: the first one without a call.

    Two records have further ones (167 and 180), which have no call in multi_turn_base either.
    """
    return next((turn for turn, texts in enumerate(truth) if not texts), None)


def _turn_reference(
    calls: tuple[ToolCall, ...], *, lacks_function: bool, lacks_value: bool
) -> tuple[TaskKind, tuple[ToolCall, ...]]:
    if calls:
        return TaskKind.CHAIN if len(calls) > 1 else TaskKind.SINGLE, calls
    if lacks_function:
        return TaskKind.UNMATCHED_TOOLS, (ToolCall(name=CHANGE_TOOLS, arguments={}),)
    if lacks_value:
        return TaskKind.MISSING_ARGUMENT, (ToolCall(name=TALK_TO_USER, arguments={}),)
    return TaskKind.SINGLE, ()


@lru_cache(maxsize=64)
def _class_tools(folder: Path, name: str) -> tuple[ToolSpec, ...]:
    if name not in _CLASS_FILES:
        raise ValueError(f"{folder}: class {name}, expected one of {', '.join(_CLASS_FILES)}")
    path = find_file(folder / "multi_turn_func_doc", _CLASS_FILES[name])
    return tuple(
        tool for where, document in read_records(path) for tool in proved(where, iter([_tool(document, "python")]))
    )


BENCHMARK = Benchmark(
    name="bfcl",
    subsets=(
        *AST_SUBSETS[:6],
        "irrelevance",
        *AST_SUBSETS[6:],
        "live_irrelevance",
        "live_relevance",
        *EXECUTED_SUBSETS,
        *MULTI_TURN_SUBSETS,
    ),
    read=read,
    gold_faults=GOLD_FAULTS,
)
