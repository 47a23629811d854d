import json
import pickle
import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.actions import CHANGE_TOOLS, TALK_TO_USER
from envs.schema import check
from envs.toolworld import ToolWorldTasks, wording
from envs.toolworld.catalogue import split_of, spoken
from envs.toolworld.real import RealCatalogue
from envs.toolworld.tasks import KIND_WEIGHTS
from envs.types import Task, TaskKind

KINDS = [str(kind) for kind in KIND_WEIGHTS]
SPLITS = ("train", "heldout")


def tasks_of(kind, num=300, **options):
    return list(ToolWorldTasks(kinds={kind: 1.0}, num=num, **options))


def request(task):
    return task.prompt[-1].content


def reference(task):
    assert task.reference is not None
    return task.reference


def tool_names(task):
    return {tool.name for tool in task.tools} | {tool["name"] for tool in task.facts.get("new_tools", ())}


@pytest.mark.parametrize("catalogue", ["procedural", "real", "mixed"])
def test_tasks_follow_from_the_seed_and_the_index(catalogue):
    first, second = (ToolWorldTasks(seed=3, catalogue=catalogue) for _ in range(2))
    assert [first.task(i) for i in range(50)] == [second.task(i) for i in reversed(range(50))][::-1]
    assert first.task(7) != ToolWorldTasks(seed=4, catalogue=catalogue).task(7)
    assert len({first.task(i).task_id for i in range(50)}) == 50


def test_tasks_survive_json_and_pickle():
    for task in ToolWorldTasks(num=200, catalogue="mixed"):
        assert Task.from_json(json.loads(json.dumps(task.to_json()))) == task
        assert pickle.loads(pickle.dumps(task)) == task


def test_kinds_come_in_their_shares():
    counts = Counter(task.kind for task in ToolWorldTasks(num=3000))
    total = sum(KIND_WEIGHTS.values())
    for kind, weight in KIND_WEIGHTS.items():
        assert abs(counts[kind] / 3000 - weight / total) < 0.04
    assert {task.kind for task in ToolWorldTasks(num=50, kinds={"chain": 1.0})} == {"chain"}


@pytest.mark.parametrize(
    "options", [{"split": "test"}, {"catalogue": "fake"}, {"kinds": {"nothing": 1.0}}, {"kinds": {"chain": 0.0}}]
)
def test_bad_options_are_refused(options):
    with pytest.raises(ValueError, match="expected"):
        ToolWorldTasks(**options)


def test_length_and_range():
    assert len(ToolWorldTasks(num=5)) == 5 and len(list(ToolWorldTasks(num=5))) == 5
    with pytest.raises(TypeError):
        len(ToolWorldTasks())
    for index in (-1, 5):
        with pytest.raises(IndexError):
            ToolWorldTasks(num=5).task(index)


def test_nothing_held_out_occurs_in_training():
    for task in ToolWorldTasks(num=2000):
        for name in tool_names(task):
            assert split_of(*name.split("_")[1:3]) == "train"
    for task in ToolWorldTasks(num=2000, split="heldout"):
        for name in tool_names(task):
            assert split_of(*name.split("_")[1:3]) == "heldout"
    heldout = {tool.name for tool in RealCatalogue("heldout").tools}
    real = list(ToolWorldTasks(num=1000, catalogue="real"))
    assert all(tool_names(task).isdisjoint(heldout) for task in real)


def test_mixed_tasks_hold_the_asked_share_of_real_documents():
    real = {tool.name for tool in RealCatalogue("train").tools}
    tasks = list(ToolWorldTasks(num=1000, catalogue="mixed", real_share=0.4))
    share = sum(tool_names(task) <= real for task in tasks) / 1000
    assert 0.35 < share < 0.45


@pytest.mark.parametrize("templates", [wording.SINGLE, wording.CHAIN, wording.PARALLEL, wording.STYLES])
def test_templates_are_disjoint_and_held_out_ones_use_known_words(templates):
    assert set(templates["train"]).isdisjoint(templates["heldout"])
    minimum = (10, 6) if templates is wording.STYLES else (12, 6)
    assert len(set(templates["train"])) >= minimum[0] and len(set(templates["heldout"])) >= minimum[1]
    train, heldout = (set(re.findall(r"[a-z]+", repr(templates[split]).lower())) for split in SPLITS)
    every_train_word = {
        word
        for table in (wording.SINGLE, wording.CHAIN, wording.PARALLEL, wording.STYLES)
        for word in re.findall(r"[a-z]+", repr(table["train"]).lower())
    }
    assert heldout <= every_train_word and train <= every_train_word


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("catalogue", ["procedural", "real"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_task_is_sound(kind, catalogue, split):
    for task in tasks_of(kind, 100, split=split, catalogue=catalogue):
        # A chain falls back to a single call where no result can feed a second tool.
        assert task.kind == kind or (kind == "chain" and task.kind == "single")
        assert 3 <= len(task.tools) <= 5 and len({tool.name for tool in task.tools}) == len(task.tools)
        schemas = {tool.name: tool.parameters for tool in task.tools}
        schemas |= {tool["name"]: tool["parameters"] for tool in task.facts.get("new_tools", ())}
        for call in reference(task):
            if call.name not in (TALK_TO_USER, CHANGE_TOOLS):
                assert check(call.arguments, schemas[call.name]) == []


def given_values(task):
    """The calls of the reference with the values that the request must hold, by what the kind says."""
    calls = [call for call in reference(task) if call.name not in (TALK_TO_USER, CHANGE_TOOLS)]
    missing = set()
    if task.kind == TaskKind.MISSING_ARGUMENT:
        missing = set(reference(task)[0].arguments["missing"])
    for position, call in enumerate(calls):
        for name, value in call.arguments.items():
            linked = task.kind == TaskKind.CHAIN and position == 1 and name not in task.facts["user"]
            if name not in missing and not linked:
                yield name, value


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("catalogue", ["procedural", "real"])
@pytest.mark.parametrize("kind", KINDS)
def test_requests_hold_every_value_as_the_call_needs_it(kind, catalogue, split):
    for task in tasks_of(kind, 100, split=split, catalogue=catalogue):
        for name, value in given_values(task):
            if isinstance(value, bool):
                assert spoken(name) in request(task) or name in request(task)
            else:
                assert (value if isinstance(value, str) else json.dumps(value)) in request(task)


def test_missing_values_are_required_left_out_and_known_to_the_user():
    for task in tasks_of("missing_argument"):
        ask, call = reference(task)
        required = next(tool.required for tool in task.tools if tool.name == call.name)
        assert ask.name == TALK_TO_USER and ask.arguments["missing"]
        assert set(ask.arguments["missing"]) <= set(required)
        for name in ask.arguments["missing"]:
            assert task.facts["user"][name] == call.arguments[name]
            label = rf"\b({re.escape(name)}|{re.escape(spoken(name))})\b"
            given = [other for other in call.arguments if other not in ask.arguments["missing"]]
            if not any(re.search(label, f"{spoken(other)} {other}") for other in given):
                assert not re.search(rf"{label} ?(=|:|is)", request(task))


def test_no_offered_tool_serves_an_unmatched_request_and_a_third_of_the_time_one_begins_alike():
    tasks = tasks_of("unmatched_tools")
    num_foreign = 0
    for task in tasks:
        wanted = task.facts["wanted"]["name"]
        assert wanted not in {tool.name for tool in task.tools}
        shared = [len(set(tool.name.split("_")) & set(wanted.split("_"))) for tool in task.tools]
        if max(shared) < 2:
            num_foreign += 1
        else:
            assert any(tool.name.split("_")[0] == wanted.split("_")[0] for tool in task.tools)
        new = [tool["name"] for tool in task.facts["new_tools"]]
        assert [call.name for call in reference(task)] == [CHANGE_TOOLS, *([wanted] if new else [])]
        assert not new or wanted in new
    assert 0.25 < sum(not task.facts["new_tools"] for task in tasks) / len(tasks) < 0.42
    assert 0.6 < num_foreign / len(tasks) < 0.75


def test_the_linking_value_of_a_chain_is_not_in_the_request():
    num_chains = 0
    for task in tasks_of("chain"):
        if task.kind != TaskKind.CHAIN:
            continue
        num_chains += 1
        first, second = reference(task)
        (link,) = task.facts["results"][first.name]
        assert link in second.arguments and link not in first.arguments
        assert spoken(link) in request(task) or link in request(task)
    assert num_chains > 290


def test_parallel_tasks_have_several_distinct_calls_in_any_order():
    for task in tasks_of("parallel"):
        calls = [json.dumps([call.name, dict(call.arguments)]) for call in reference(task)]
        assert not task.ordered and len(calls) >= 1 and len(set(calls)) == len(calls)
    assert sum(len(reference(task)) > 1 for task in tasks_of("parallel")) > 290


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_any_seed_and_index_give_a_task(seed, index):
    task = ToolWorldTasks(seed=seed, catalogue="mixed").task(index)
    assert reference(task) and task.answer and request(task)
