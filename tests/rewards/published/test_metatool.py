from __future__ import annotations

import pytest

from envs.benchmarks.metatool import read
from envs.types import Message, Task, ToolCall, ToolSpec
from rewards.published.metatool import METRIC
from rollout.unrendered import unrendered

TOOLS = tuple(ToolSpec(name=name) for name in ("NewsTool", "FinanceTool", "dart"))


def selection(*right: str) -> Task:
    return Task(task_id="t", prompt=(), tools=TOOLS, facts={"benchmark": {"right": list(right)}})


def awareness(needs_tool: bool) -> Task:
    return Task(task_id="t", prompt=(), tools=(), facts={"benchmark": {"needs_tool": needs_tool}})


def answer_of(task: Task, content: str = "", *names: str):
    calls = tuple(ToolCall(name=name, arguments={}) for name in names)
    return METRIC.record(unrendered(task, [(Message(role="assistant", content=content, calls=calls), ())]))


@pytest.mark.parametrize(
    ("right", "content", "names", "csr"),
    [
        ((), "None. No tool fits.", (), 1.0),
        ((), "newstool may help", (), 0.0),
        ((), "", ("dart",), 0.0),
        ((), "", ("made_up",), 0.0),
        (("NewsTool", "FinanceTool"), "", ("FinanceTool", "NewsTool"), 1.0),
        (("NewsTool", "FinanceTool"), "1. NewsTool, 2. FinanceTool.", (), 1.0),
        (("NewsTool", "FinanceTool"), "NewsToolbox and FinanceTool", (), 0.0),
        (("NewsTool", "FinanceTool"), "", ("NewsTool", "FinanceTool", "dart"), 0.0),
    ],
)
def test_csr_asks_for_exactly_the_right_tools(right, content, names, csr):
    assert answer_of(selection(*right), content, *names)["csr"] == csr


def test_totals_of_awareness_and_of_selection():
    replies = [(True, "Yes, it is."), (True, "no"), (False, '"No."'), (False, "Yes"), (False, "maybe")]
    records = [(awareness(due), answer_of(awareness(due), content)) for due, content in replies]
    figures = METRIC.total(records)
    assert figures["awareness_accuracy"] == 2 / 5
    assert figures["awareness_precision"] == figures["awareness_recall"] == figures["awareness_f1"] == 1 / 2
    two = selection("NewsTool", "FinanceTool")
    figures = METRIC.total([(two, answer_of(two, "", "NewsTool")), (two, answer_of(two, "NewsTool, FinanceTool"))])
    assert (figures["csr"], figures["csr_1_of_2"]) == (0.5, 0.5)


def test_gold_has_every_figure_at_one(benchmark_data):
    for subset in ("awareness", "reliability", "multi_tool"):
        scored = []
        for task in read(benchmark_data / "metatool", subset):
            facts = task.facts["benchmark"]
            if subset == "awareness":
                scored.append((task, answer_of(task, "Yes" if facts["needs_tool"] else "No")))
            else:
                scored.append((task, answer_of(task, "", *facts["right"])))
        figures = dict(METRIC.total(scored))
        assert figures.pop("csr_1_of_2", 0.0) == 0.0
        assert set(figures.values()) == {1.0}, subset
