"""The judge against BFCL: gold calls are accepted, and each kind of mutation is named by its kind."""

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from envs.benchmarks.bfcl import AST_SUBSETS, BENCHMARK, EXECUTED_SUBSETS, MULTI_TURN_SUBSETS, NO_CALL_SUBSETS
from envs.types import Json, Message, Task, ToolCall
from rewards.classify import Verdict, judge
from rewards.gold import gold_calls
from rewards.types import ErrorKind
from rollout.unrendered import unrendered

SINGLE_TURN = AST_SUBSETS + EXECUTED_SUBSETS + NO_CALL_SUBSETS
PYTHON_TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}
STRANGERS: list[Json] = [{"strange": "value"}, ["strange", "values"], "a strange value", 7391, True]
SKIPPED_KEYS = {"format", "pattern", "minimum", "maximum", "maxItems", "minItems"}


@pytest.fixture(scope="module")
def tasks(benchmark_data: Path) -> list[Task]:
    return [task for subset in SINGLE_TURN for task in BENCHMARK.read(benchmark_data / "bfcl", subset)]


def verdict(task: Task, calls: tuple[ToolCall, ...]) -> Verdict:
    return judge(unrendered(task, [(Message(role="assistant", calls=calls), ())]))


def accepted(task: Task, name: str, argument: str) -> list[Json]:
    values = []
    for call in task.reference or ():
        if call.name == name and argument in call.arguments:
            value = call.arguments[argument]
            values += value["any_of"] if isinstance(value, dict) and "any_of" in value else [value]
    return values


def fits(value: Json, kinds: list[str]) -> bool:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return "number" in kinds or ("integer" in kinds and float(value).is_integer())
    return any(isinstance(value, PYTHON_TYPES[kind]) for kind in kinds if kind in PYTHON_TYPES)


def kinds_of(schema: Json) -> list[str]:
    kinds = schema.get("type", [])
    return kinds if isinstance(kinds, list) else [kinds]


def renamed_tool(task: Task, call: ToolCall, chance: random.Random) -> tuple[ToolCall, str | None] | None:
    return replace(call, name=f"{call.name}_{chance.choice(['now', 'v2', 'by_name'])}"), None


def added_parameter(task: Task, call: ToolCall, chance: random.Random) -> tuple[ToolCall, str | None] | None:
    name = f"{chance.choice(['extra', 'verbose', 'mode'])}_zq"
    return replace(call, arguments={**call.arguments, name: chance.choice(STRANGERS)}), name


def dropped_required(task: Task, call: ToolCall, chance: random.Random) -> tuple[ToolCall, str | None] | None:
    tool = next(tool for tool in task.tools if tool.name == call.name)
    names = [name for name in tool.required if name in call.arguments]
    if not names:
        return None
    dropped = chance.choice(names)
    return replace(call, arguments={key: item for key, item in call.arguments.items() if key != dropped}), dropped


def wrong_type(task: Task, call: ToolCall, chance: random.Random) -> tuple[ToolCall, str | None] | None:
    tool = next(tool for tool in task.tools if tool.name == call.name)
    choices = [
        (name, stranger)
        for name in call.arguments
        for stranger in STRANGERS
        if kinds_of(tool.properties[name]) and not fits(stranger, kinds_of(tool.properties[name]))
    ]
    if not choices:
        return None
    name, value = chance.choice(choices)
    return replace(call, arguments={**call.arguments, name: value}), name


def wrong_value(task: Task, call: ToolCall, chance: random.Random) -> tuple[ToolCall, str | None] | None:
    tool = next(tool for tool in task.tools if tool.name == call.name)
    choices = []
    for name, value in call.arguments.items():
        schema = tool.properties[name]
        if SKIPPED_KEYS & set(schema):
            continue
        right = {str(item).lower() for item in accepted(task, call.name, name)}
        for other in other_values(value, schema):
            if str(other).lower() not in right and (not kinds_of(schema) or fits(other, kinds_of(schema))):
                choices.append((name, other))
    if not choices:
        return None
    name, value = chance.choice(choices)
    return replace(call, arguments={**call.arguments, name: value}), name


def other_values(value: Json, schema: Json) -> Iterator[Json]:
    if "enum" in schema:
        yield from schema["enum"]
    elif isinstance(value, bool):
        yield not value
    elif isinstance(value, str):
        yield f"{value} qzx"
    elif isinstance(value, (int, float)):
        yield value + 1013
    elif isinstance(value, list) and value:
        yield value[:-1]
        yield [*value, value[0]]


MUTATIONS: list[tuple[Callable, ErrorKind]] = [
    (renamed_tool, ErrorKind.UNKNOWN_TOOL),
    (added_parameter, ErrorKind.UNKNOWN_ARGUMENT),
    (dropped_required, ErrorKind.MISSING_ARGUMENT),
    (wrong_type, ErrorKind.BAD_TYPE),
    (wrong_value, ErrorKind.WRONG_VALUE),
]


def test_gold_calls_are_accepted_without_any_error(tasks):
    refused = [
        (task.task_id, [(error.kind, error.argument) for error in verdict(task, gold_calls(task)).errors])
        for task in tasks
        if verdict(task, gold_calls(task)).errors or not verdict(task, gold_calls(task)).success
    ]
    assert len(refused) <= 0.003 * len(tasks), refused
    assert refused == []


def test_at_most_a_few_records_are_mended_and_all_by_name(tasks):
    mended = {task.task_id.split("/")[-1]: task.facts["gold_fault"] for task in tasks if "gold_fault" in task.facts}
    assert len(mended) == 17
    assert set(mended.values()) <= set(BENCHMARK.gold_faults)


COMPANIONS = {ErrorKind.BAD_TYPE: {ErrorKind.BAD_ENUM}, ErrorKind.WRONG_VALUE: {ErrorKind.UNGROUNDED_VALUE}}
"""What may be said besides: a value of another type is outside the enum too, and a wrong value is often made up."""


@pytest.mark.parametrize(("mutate", "kind"), MUTATIONS, ids=[mutate.__name__ for mutate, _ in MUTATIONS])
def test_every_mutation_is_rejected_and_named(tasks, mutate, kind):
    chance = random.Random(20)
    made, wrong = 0, []
    for task in tasks:
        calls = gold_calls(task)
        for index, call in enumerate(calls):
            mutated = mutate(task, call, chance)
            if mutated is None or (mutated[0].name, mutated[0].arguments) in [(c.name, c.arguments) for c in calls]:
                continue
            made += 1
            found = verdict(task, (*calls[:index], mutated[0], *calls[index + 1 :]))
            where = mutated[1] and [mutated[1]]
            named = [error for error in found.errors if error.call == index and error.kind == kind]
            others = {error.kind for error in found.errors} - {kind} - COMPANIONS.get(kind, set())
            right_place = any(where is None or (error.argument or "").split("/")[1:2] == where for error in named)
            if found.success or not right_place or others:
                wrong.append((task.task_id, index, mutated, [(e.call, e.kind, e.argument) for e in found.errors]))
    assert wrong == []
    assert made > 1200
    print(f"{mutate.__name__}: {made} mutations")  # noqa: T201


def test_gold_calls_of_several_turns_fit_their_documents(benchmark_data):
    refused = []
    for subset in MULTI_TURN_SUBSETS:
        for task in BENCHMARK.read(benchmark_data / "bfcl", subset):
            calls = tuple(call for call in gold_calls(task) if call.name not in ("change_tools", "talk_to_user"))
            if calls and verdict(task, calls).errors:
                refused.append(task.task_id)
    assert refused == []
