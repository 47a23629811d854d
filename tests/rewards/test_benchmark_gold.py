"""Published gold calls of the benchmarks against tether's judge, with every exception by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from envs.benchmarks import benchmark
from envs.benchmarks.alternatives import accepted_references
from envs.schema import check_schema
from envs.types import Message, Task, ToolCall
from rewards.classify import judge
from rewards.types import CallError
from rollout.unrendered import unrendered

FOLDERS = {"api_bank": "apibank"}
SIZES = {
    "rotbench/clean": 63,
    "rotbench/slight": 126,
    "rotbench/medium": 126,
    "rotbench/heavy": 126,
    "rotbench/union": 63,
    "rotbench/clean_third": 42,
    "rotbench/slight_third": 84,
    "rotbench/medium_third": 84,
    "rotbench/heavy_third": 84,
    "rotbench/union_third": 42,
    "toolalpaca/real": 55,
    "toolalpaca/simulated": 59,
    "seal_tools/dev": 420,
    "seal_tools/test_in_domain": 420,
    "seal_tools/test_out_domain": 392,
    "nestful/executable": 51,
    "nestful/glaive": 101,
    "nestful/sgd": 27,
    "metatool/awareness": 624,
    "metatool/reliability": 597,
    "metatool/multi_tool": 298,
    "api_bank/level_1": 251,
    "api_bank/level_2": 69,
    "api_bank/level_1_replies": 241,
    "api_bank/level_2_replies": 59,
    "tooltalk/easy": 26,
    "tooltalk/tooltalk": 107,
}
FAULTS: dict[str, dict[str, int]] = {
    "rotbench/clean": {"duplicate_tool": 1, "missing_argument": 1},
    "rotbench/slight": {"duplicate_tool": 2, "missing_argument": 2},
    "rotbench/medium": {"duplicate_tool": 1, "missing_argument": 2},
    "rotbench/heavy": {"duplicate_tool": 2, "missing_argument": 2},
    "rotbench/union": {"missing_argument": 1},
    "rotbench/clean_third": {"duplicate_tool": 1, "missing_argument": 2, "unknown_argument": 1},
    "rotbench/slight_third": {"duplicate_tool": 1, "missing_argument": 3, "unknown_argument": 2},
    "rotbench/medium_third": {"duplicate_tool": 2, "missing_argument": 4, "unknown_argument": 2},
    "rotbench/heavy_third": {"duplicate_tool": 2, "missing_argument": 4, "unknown_argument": 2},
    "rotbench/union_third": {"missing_argument": 2, "unknown_argument": 1},
    "toolalpaca/real": {"bad_type": 3, "secret_key": 27, "unreadable_gold": 4},
    "toolalpaca/simulated": {"asks_user": 5, "optional_call": 1, "placeholder": 12},
    "seal_tools/dev": {"bad_type": 2, "number_as_text": 28, "unlisted_tool": 2},
    "seal_tools/test_in_domain": {"bad_type": 5, "number_as_text": 31},
    "seal_tools/test_out_domain": {"bad_type": 1, "number_as_text": 7, "unlisted_tool": 2},
    "nestful/executable": {"bad_type": 3, "unknown_argument": 12},
    "nestful/glaive": {"bad_type": 18, "missing_argument": 6, "repeated_label": 1, "unlisted_tool": 3},
    "nestful/sgd": {"bad_enum": 2, "missing_argument": 5, "repeated_label": 2},
    "api_bank/level_2": {"unfound_tool": 7},
    "api_bank/level_2_replies": {"unfound_tool": 2},
}
"""How many records of a subset have each fault."""
NUMBERS_AS_TEXT = {
    "seal_tools/dev": (
        "easy-14 easy-15 easy-17 easy-20 easy-26 easy-40 easy-41 easy-42 easy-57 easy-59 easy-75 easy-77 "
        "easy-78 easy-81 easy-86 easy-88 easy-105 easy-108 easy-112 easy-115 easy-125 easy-142 easy-143 "
        "easy-168 easy-184 easy-192 easy-197 difficult-486"
    ),
    "seal_tools/test_in_domain": (
        "easy-6 easy-15 easy-20 easy-22 easy-32 easy-33 easy-39 easy-46 easy-47 easy-50 easy-57 easy-64 "
        "easy-70 easy-73 easy-76 easy-95 easy-100 easy-116 easy-124 easy-138 easy-145 easy-172 easy-182 "
        "easy-183 easy-185 easy-190 easy-195 difficult-236 difficult-468 difficult-577 difficult-584"
    ),
    "seal_tools/test_out_domain": ("easy-9 easy-19 easy-25 easy-61 easy-68 easy-76 difficult-418"),
}
"""Records of Seal-Tools whose gold writes a number as a text, so that its type is wrong by its own document."""
REJECTED: dict[str, str] = {
    **{
        f"{name}/{name.partition('/')[2]}-{record}": "bad_type"
        for name, records in NUMBERS_AS_TEXT.items()
        for record in records.split()
    },
}
"""Task whose published gold the judge does not take as it stands -> kind of its first error."""


def tasks_of(benchmark_data, name: str) -> list[Task]:
    found, _, subset = name.partition("/")
    return list(benchmark(found).read(benchmark_data / FOLDERS.get(found, found), subset))


def published(task: Task) -> Iterator[list[ToolCall]]:
    """Each right answer as the source has it; none where it cannot be read."""
    facts = task.facts["benchmark"]
    if "accepted" in facts:
        answers = [[call] for call in facts["accepted"]]
    elif "call" in facts:
        answers = [[facts["call"]]]
    elif task.task_id.startswith("tooltalk/"):
        answers = [[{"name": call.name, "arguments": call.arguments} for call in task.reference or ()]]
    elif "right" in facts:
        answers = [[{"name": name, "arguments": {}} for name in facts["right"]]]
    else:
        answers = [facts["gold"]] if None not in facts.get("gold", [None]) else []
    for answer in answers:
        yield [ToolCall(name=call["name"], arguments=call["arguments"]) for call in answer]


def errors_of(task: Task, calls: Sequence[ToolCall]) -> tuple[CallError, ...]:
    """What the judge finds in one reply of these calls, against the reference that it fits best."""
    message = Message(
        role="assistant", calls=tuple(replace(call, call_id=f"call_{index}") for index, call in enumerate(calls))
    )
    verdicts = [
        judge(unrendered(replace(task, reference=reference), [(message, ())]))
        for reference in accepted_references(task)
    ]
    return min((verdict.errors for verdict in verdicts), key=len)


@pytest.mark.parametrize("name", SIZES)
def test_every_record_becomes_a_task_with_valid_tools(benchmark_data, name):
    tasks = tasks_of(benchmark_data, name)
    assert len(tasks) == SIZES[name]
    assert len({task.task_id for task in tasks}) == len(tasks)
    assert Counter(task.facts["gold_fault"] for task in tasks if "gold_fault" in task.facts) == FAULTS.get(name, {})
    faults = benchmark(name.partition("/")[0]).gold_faults
    for task in tasks:
        assert task.task_id.startswith(f"{name}/") and task.prompt
        assert task.facts.get("gold_fault") is None or task.facts["gold_fault"] in faults
        for tool in task.tools:
            check_schema(tool.parameters)
        assert Task.from_json(task.to_json()) == task


@pytest.mark.parametrize("name", SIZES)
def test_the_judge_accepts_published_gold_but_for_the_exceptions_by_name(benchmark_data, name):
    rejected = {}
    for task in tasks_of(benchmark_data, name):
        if task.reference is None:
            continue
        for calls in published(task):
            errors = errors_of(task, calls)
            if errors:
                rejected[task.task_id] = str(errors[0].kind)
    assert rejected == {task: kind for task, kind in REJECTED.items() if task.startswith(f"{name}/")}


def test_a_number_that_is_kept_against_its_document_is_met_by_its_text(benchmark_data):
    tasks = {task.task_id: task for task in tasks_of(benchmark_data, "toolalpaca/real")}
    task = tasks["toolalpaca/real/CurrencyBeacon:3"]
    assert task.facts["gold_fault"] == "bad_type" and task.reference is not None
    (gold,) = task.reference
    assert gold.arguments["amount"] == 500
    assert errors_of(task, [replace(gold, arguments={**gold.arguments, "amount": "500"})]) == ()
    assert errors_of(task, [replace(gold, arguments={**gold.arguments, "amount": "501"})]) != ()
