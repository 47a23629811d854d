from __future__ import annotations

import gzip
import json
import random

import pytest

from envs.benchmarks.rotbench import BENCHMARK, LEVELS
from envs.types import MalformedCall, Message, Task, ToolCall
from rewards.published.rotbench import CORRECTED, METRIC, PUBLISHED, Accepted, stages
from rollout.trajectory import Trajectory
from rollout.unrendered import unrendered

ACCEPTED = Accepted(
    calls=(
        ToolCall(name="translate", arguments={"text": "hi", "length": "None"}),
        ToolCall(name="translate", arguments={"text": "hi", "to": "jp"}),
        ToolCall(name="done", arguments={"answer": "yes"}),
        ToolCall(name="drivers", arguments={}),
    ),
    finish="done",
    ask="who",
)


@pytest.mark.parametrize(
    ("call", "reached"),
    [
        (ToolCall(name="translate", arguments={"text": "hi", "length": "7"}), 3),
        (ToolCall(name="translate", arguments={"text": "hi", "to": "jp"}), 3),
        (ToolCall(name="translate", arguments={"text": "hi", "to": "da"}), 2),
        (ToolCall(name="translate", arguments={"text": "hi"}), 1),
        (ToolCall(name="translator", arguments={"text": "hi", "to": "jp"}), 0),
        (ToolCall(name="finish", arguments={"answer": "something else"}), 3),
        (ToolCall(name="done", arguments={"reply": "yes"}), 1),
        (None, 0),
    ],
)
def test_stages_are_passed_in_order(call, reached):
    assert stages(call, ACCEPTED) == stages(call, ACCEPTED, as_published=False) == reached


def test_a_call_without_arguments_fails_as_published_and_passes_when_corrected():
    call = ToolCall(name="drivers", arguments={})
    assert stages(call, ACCEPTED) == 0
    assert stages(call, ACCEPTED, as_published=False) == 3


def test_what_the_published_evaluator_deletes_is_missed_by_a_later_answer_of_the_same_tool():
    both = Accepted(
        calls=(
            ToolCall(name="f", arguments={"a": "1", "b": "None"}),
            ToolCall(name="f", arguments={"a": "2", "b": "3"}),
        ),
        finish="done",
        ask="who",
    )
    call = ToolCall(name="f", arguments={"a": "2", "b": "3"})
    assert stages(call, both) == 2
    assert stages(call, both, as_published=False) == 3


def made(task: Task, call: ToolCall | MalformedCall | None) -> Trajectory:
    calls = () if call is None else (call,)
    return unrendered(task, [(Message(role="assistant", calls=calls), ())])


def records(benchmark_data, subset: str) -> list[dict]:
    """The records of a file as they are, without the reader."""
    turn = "Third_Turn" if subset.endswith("_third") else "First_Turn"
    path = benchmark_data / "rotbench" / turn / f"{subset.removesuffix('_third')}.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def restated(record: dict, name: str, arguments: dict, *, as_published: bool) -> tuple[float, float, float]:
    """TS, PI and CF from spec B.8 and the README of the data, on a record of the file.

    As published, no arguments are wrong, and what one accepted call does not compare is gone for the next.
    """
    system = record["conversations"][0]["value"]
    tools = json.JSONDecoder().raw_decode(system[system.index("[") :])[0]
    last, ask = tools[-1]["name"], tools[-2]["name"]
    accepted = []
    for answer in record["conversations"][-1]["value"]:
        head, _, text = answer.partition("\nAction Input: ")
        accepted.append((head.partition("Action: ")[2], json.loads(text)))
    if as_published and not arguments:
        return 0.0, 0.0, 0.0
    if name == "finish" and last in [right for right, _ in accepted]:
        name = last
    of_tool = [wanted for right, wanted in accepted if right == name]
    of_keys = [wanted for wanted in of_tool if wanted.keys() == arguments.keys()]
    filled, gone = False, set()
    for wanted in of_tool:
        if wanted.keys() == arguments.keys() - gone:
            free = {key for key, value in wanted.items() if value == "None"} | (
                {*wanted} if name in (last, ask) else set()
            )
            filled = filled or all(arguments[key] == wanted[key] for key in wanted.keys() - free)
            gone |= {key for key, value in wanted.items() if value == "None"} if as_published else set()
    return float(bool(of_tool)), float(bool(of_keys)), float(filled)


def mutated(call: ToolCall, dice: random.Random) -> dict[str, ToolCall]:
    """Calls that differ from `call` in one way each."""
    arguments = dict(call.arguments)
    key = dice.choice(sorted(arguments)) if arguments else ""
    changes = {
        "renamed tool": ToolCall(name=call.name + dice.choice("xyz_"), arguments=arguments),
        "finish": ToolCall(name="finish", arguments=arguments),
        "added key": ToolCall(name=call.name, arguments={**arguments, f"extra_{dice.randrange(9)}": "1"}),
        "empty arguments": ToolCall(name=call.name, arguments={}),
    }
    if key:
        changes["dropped key"] = ToolCall(
            name=call.name, arguments={name: value for name, value in arguments.items() if name != key}
        )
        changes["changed value"] = ToolCall(name=call.name, arguments={**arguments, key: f"other {dice.random()}"})
    return changes


@pytest.mark.parametrize("subset", BENCHMARK.subsets)
def test_stages_equal_the_definition_on_every_record_for_gold_and_for_mutated_calls(benchmark_data, subset):
    dice = random.Random(subset)
    compared = 0
    tasks = list(BENCHMARK.read(benchmark_data / "rotbench", subset))
    for task, record in zip(tasks, records(benchmark_data, subset), strict=True):
        for gold in task.facts["benchmark"]["accepted"]:
            call = ToolCall(name=gold["name"], arguments=gold["arguments"])
            for change, other in {"gold": call, **mutated(call, dice)}.items():
                for metric in (PUBLISHED, CORRECTED):
                    found = metric.record(made(task, other))
                    expected = restated(record, other.name, dict(other.arguments), as_published=metric.as_published)
                    assert tuple(found.values()) == expected, (task.task_id, change, other)
                    compared += 1
        assert set(PUBLISHED.record(made(task, MalformedCall(text="{", reason="no JSON"))).values()) == {0.0}
        assert set(PUBLISHED.record(made(task, None)).values()) == {0.0}
    assert compared >= 10 * len(tasks)


EMPTY = {
    "clean": [39, 41, 50],
    "slight": [39, 41, 50, 102, 104, 113],
    "medium": [39, 41, 50, 102, 104, 113],
    "heavy": [39, 41, 50, 102],
    "union": [39, 41, 50],
    "clean_third": [32, 40],
    "slight_third": [32, 40, 74, 82],
    "medium_third": [32, 40, 74, 82],
    "heavy_third": [32, 40],
    "union_third": [40],
}
"""Records whose accepted calls all have no arguments: the published evaluator counts each as wrong."""
SHADOWED = {"clean": [1], "slight": [1, 64], "medium": [1, 64], "heavy": [1, 64], "union": [1]}
"""Records with a second accepted call of one tool that the published evaluator counts as wrong in content: the first
one deletes what it does not compare."""
PASSED = {"ts": 1.0, "pi": 1.0, "cf": 1.0}


@pytest.mark.parametrize("subset", BENCHMARK.subsets)
def test_gold_passes_all_stages_but_for_the_known_faults_of_the_evaluator(benchmark_data, subset):
    empty, shadowed = [], []
    for number, task in enumerate(BENCHMARK.read(benchmark_data / "rotbench", subset)):
        golds = [ToolCall(**gold) for gold in task.facts["benchmark"]["accepted"]]
        assert all(CORRECTED.record(made(task, gold)) == PASSED for gold in golds), task.task_id
        found = [PUBLISHED.record(made(task, gold)) for gold in golds]
        if PASSED not in found:
            empty.append(number)
            assert not any(gold.arguments for gold in golds)
        elif any(record != PASSED and gold.arguments for gold, record in zip(golds, found, strict=True)):
            shadowed.append(number)
            assert all(record == PASSED | {"cf": 0.0} for record in found if record != PASSED)
    assert empty == EMPTY[subset]
    assert shadowed == SHADOWED.get(subset, [])


def test_totals_are_rates_over_all_records_and_by_scenario(benchmark_data):
    tasks = list(BENCHMARK.read(benchmark_data / "rotbench", "clean"))
    scored = [
        (task, PUBLISHED.record(made(task, ToolCall(**task.facts["benchmark"]["accepted"][0])))) for task in tasks
    ]
    figures = PUBLISHED.total(scored)
    right = sum(bool(task.facts["benchmark"]["accepted"][0]["arguments"]) for task in tasks)
    assert figures["ts"] == figures["pi"] == figures["cf"] == right / len(tasks)
    assert {name.partition("/")[2] for name in figures} == {"", "TG", "DU", "RS", "AM", "PL", "IR", "FT"}
    assert PUBLISHED.total([])["ts"] is None


def test_the_levels_are_those_of_the_folder():
    assert BENCHMARK.subsets[:5] == LEVELS


def test_the_figures_of_the_benchmark_hold_both_ways(benchmark_data):
    tasks = list(BENCHMARK.read(benchmark_data / "rotbench", "clean"))
    episodes = [(task, METRIC.record(made(task, ToolCall(**task.facts["benchmark"]["accepted"][0])))) for task in tasks]
    found = METRIC.total(episodes)
    num = len(tasks)
    assert found["ts"] == pytest.approx(1 - len(EMPTY["clean"]) / num)
    assert found["ts/corrected"] == found["cf/corrected"] == 1.0
    assert not any(name.endswith("/corrected") for name in PUBLISHED.total(episodes))
