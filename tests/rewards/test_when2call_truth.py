"""The judge against the fixed replies of When2Call, whose truth is known."""

import pytest

from envs.benchmarks.when2call import BENCHMARK, fixed_call
from envs.types import Message, Task
from rewards.classify import Verdict, judge
from rewards.matching import normalise
from rewards.types import ErrorKind
from rollout.unrendered import unrendered


def verdict_on_call(task: Task) -> Verdict:
    call = fixed_call(task.task_id, task.facts["benchmark"]["answers"])
    return judge(unrendered(task, [(Message(role="assistant", calls=(call,)), ())]))


def read(benchmark_data, behaviour: str) -> list[Task]:
    return list(BENCHMARK.read(benchmark_data / "when2call", behaviour))


def test_right_calls_are_accepted(benchmark_data):
    for task in read(benchmark_data, "tool_call"):
        found = verdict_on_call(task)
        assert found.errors == () and found.success, task.task_id


def test_every_made_up_tool_is_an_unknown_tool(benchmark_data):
    tasks = read(benchmark_data, "cannot_answer")
    assert len(tasks) == 64
    for task in tasks:
        assert [error.kind for error in verdict_on_call(task).errors if error.kind != ErrorKind.MISSED_DEFERRAL] == [
            ErrorKind.UNKNOWN_TOOL
        ], task.task_id


def test_made_up_required_values_are_ungrounded(benchmark_data):
    made_up, missed = 0, []
    for task in read(benchmark_data, "request_for_info"):
        facts = task.facts["benchmark"]
        name = facts["held_out_param"]
        value = fixed_call(task.task_id, facts["answers"]).arguments[name]
        found = verdict_on_call(task)
        if task.facts.get("gold_fault") == "value_left":
            assert found.success is None and normalise(str(value)) in normalise(task.prompt[-1].content)
            continue
        assert ErrorKind.MISSED_DEFERRAL in {error.kind for error in found.errors}
        assert found.success is False
        if normalise(str(value)) in normalise(task.prompt[-1].content):
            continue
        made_up += 1
        if not any(e.kind == ErrorKind.UNGROUNDED_VALUE and e.argument == f"/{name}" for e in found.errors):
            missed.append((task.task_id, name, value))
    assert made_up == 54
    assert len(missed) <= 0.05 * made_up, missed


@pytest.mark.parametrize("behaviour", ["request_for_info", "cannot_answer"])
def test_a_reply_in_words_is_neither_success_nor_failure_where_no_action_is_offered(benchmark_data, behaviour):
    for task in read(benchmark_data, behaviour):
        reply = Message(role="assistant", content=task.facts["benchmark"]["answers"][behaviour])
        found = judge(unrendered(task, [(reply, ())]))
        assert found.errors == () and found.success is None
