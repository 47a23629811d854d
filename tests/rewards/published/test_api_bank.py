from __future__ import annotations

import pytest

from envs.benchmarks.api_bank import read
from envs.types import Message, Task, ToolCall
from rewards.published.api_bank import METRIC, rouge_l
from rollout.unrendered import unrendered


def said(task: Task, content: str = "", *calls: ToolCall):
    return METRIC.record(unrendered(task, [(Message(role="assistant", content=content, calls=calls), ())]))


def call_task(weight: int = 1) -> Task:
    facts = {"call": {"name": "AddAlarm", "arguments": {"time": "7"}}, "weight": weight}
    return Task(task_id="t", prompt=(), tools=(), facts={"benchmark": facts})


@pytest.mark.parametrize(
    ("reference", "made", "score"),
    [
        ("the cat sat", "the cat sat", 1.0),
        ("the cat sat on a mat", "the mat sat", 4 / 9),
        ("a b c d", "d c b a", 2 / 8),
        ("a", "b", 0.0),
        ("a", "", 0.0),
    ],
)
def test_rouge_l_is_the_f_measure_of_the_longest_common_subsequence(reference, made, score):
    assert rouge_l(reference, made) == pytest.approx(score)


def test_only_the_first_call_counts_and_its_arguments_are_compared_exactly():
    right = ToolCall(name="AddAlarm", arguments={"time": "7"})
    other = ToolCall(name="AddAlarm", arguments={"time": 7})
    assert said(call_task(), "", right, other) == {"equal_call": 1.0, "right_tool": 1.0}
    assert said(call_task(), "", other, right) == {"equal_call": 0.0, "right_tool": 1.0}
    assert said(call_task(), "none") == {"equal_call": 0.0, "right_tool": 0.0}


def test_a_call_at_once_after_another_counts_twice():
    right = ToolCall(name="AddAlarm", arguments={"time": "7"})
    figures = METRIC.total([(call_task(2), said(call_task(2), "", right)), (call_task(), said(call_task()))])
    assert figures == {"call_accuracy_equal_arguments": 2 / 3, "tool_accuracy": 2 / 3}
    assert "call_accuracy" in METRIC.missing and "call_accuracy" not in figures


def test_gold_has_every_figure_at_one(benchmark_data):
    weights = {}
    for level in ("level_1", "level_2"):
        tasks = list(read(benchmark_data / "apibank", level))
        scored = [(task, said(task, "", ToolCall(**task.facts["benchmark"]["call"]))) for task in tasks]
        assert set(METRIC.total(scored).values()) == {1.0}
        weights[level] = sum(task.facts["benchmark"]["weight"] == 2 for task in tasks)
        replies = list(read(benchmark_data / "apibank", f"{level}_replies"))
        scored = [(task, said(task, task.facts["benchmark"]["reply"])) for task in replies]
        assert METRIC.total(scored) == {"rouge_l": 1.0}
    # Counted in the files: an API turn right after another one.
    assert weights == {"level_1": 7, "level_2": 10}
