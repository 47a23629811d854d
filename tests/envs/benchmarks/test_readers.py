"""What every reader of this file's benchmarks gives, from the real data."""

import json
from collections import Counter

import pytest

from envs.actions import ACTION_NAMES
from envs.benchmarks import benchmark
from envs.schema import check, check_schema
from envs.types import Task, TaskKind
from rewards.gold import gold_calls

FOLDERS = {"bfcl": "bfcl", "when2call": "when2call", "acebench": "acebench", "functionchat": "functionchat_bench"}
NUM_TASKS = {
    # Records of the data's README; a multi-turn record gives one task for each turn, a single call of FunctionChat
    # one for each question (4 a record) and set of candidates (5).
    "bfcl": 2685 - 360 + 1560,
    "when2call": 177,
    "acebench": 1222,
    "functionchat": 363 + 15 * 4 * 5 + 118,
}


@pytest.fixture(scope="module", params=sorted(FOLDERS))
def read(request, benchmark_data) -> tuple[str, list[Task]]:
    reader = benchmark(request.param)
    folder = benchmark_data / FOLDERS[request.param]
    return request.param, [task for subset in reader.subsets for task in reader.read(folder, subset)]


def test_every_record_becomes_a_task_with_its_own_id(read):
    name, tasks = read
    assert len(tasks) == NUM_TASKS[name]
    assert max(Counter(task.task_id for task in tasks).values()) == 1
    subsets = set(benchmark(name).subsets)
    assert all(task.task_id.split("/")[0] == name and task.task_id.split("/")[1] in subsets for task in tasks)


def test_every_tool_has_a_valid_schema_of_an_object(read):
    for task in read[1]:
        for tool in task.tools:
            assert tool.name
            check_schema(tool.parameters)
            assert set(tool.required) <= set(tool.properties)


def test_every_task_survives_json(read):
    for task in read[1][::7]:
        assert Task.from_json(json.loads(json.dumps(task.to_json()))) == task


def test_prompts_end_with_what_the_policy_answers(read):
    for task in read[1]:
        assert task.prompt and task.prompt[-1].role in ("user", "tool")
        assert all(message.content or message.calls for message in task.prompt[-1:])


def test_references_call_offered_tools_or_actions(read):
    for task in read[1]:
        offered = {tool.name for tool in task.tools} | ACTION_NAMES
        assert {call.name for call in task.reference or ()} <= offered


def test_what_references_give_fits_the_documents(read):
    refused = []
    for task in read[1]:
        tools = {tool.name: tool for tool in task.tools}
        for call in gold_calls(task) if task.reference else ():
            if call.name in tools and check(call.arguments, tools[call.name].parameters):
                refused.append((task.task_id, check(call.arguments, tools[call.name].parameters)))
    assert refused == []


def test_deferrals_are_due_where_the_kind_says_so(read):
    for task in read[1]:
        due = [call.name for call in task.reference or () if call.name in ACTION_NAMES]
        if task.kind == TaskKind.MISSING_ARGUMENT:
            assert due == ["talk_to_user"]
        elif task.kind == TaskKind.UNMATCHED_TOOLS:
            assert due == ["change_tools"] or task.reference == ()


def test_faults_of_the_gold_are_named(read):
    name, tasks = read
    known = benchmark(name).gold_faults
    assert {task.facts["gold_fault"] for task in tasks if "gold_fault" in task.facts} <= set(known)


def test_an_unknown_subset_is_refused(read, tmp_path):
    reader = benchmark(read[0])
    with pytest.raises(ValueError, match="subset 'nope': expected one of"):
        next(iter(reader.read(tmp_path, "nope")))
    with pytest.raises(ValueError, match="no such file"):
        next(iter(reader.read(tmp_path, reader.subsets[0])))
