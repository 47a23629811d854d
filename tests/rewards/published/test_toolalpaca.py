from __future__ import annotations

import json

import pytest

from envs.benchmarks.toolalpaca import read
from envs.types import Message, Task, ToolCall
from rewards.gold import gold_calls
from rewards.published.toolalpaca import METRIC
from rollout.unrendered import unrendered


def task(*gold: tuple[str, dict] | None) -> Task:
    calls = [None if call is None else {"name": call[0], "arguments": call[1]} for call in gold]
    return Task(task_id="t", prompt=(), tools=(), facts={"benchmark": {"gold": calls}})


def scored(of: Task, *calls: tuple[str, dict]):
    made = tuple(ToolCall(name=name, arguments=arguments) for name, arguments in calls)
    return METRIC.record(unrendered(of, [(Message(role="assistant", calls=made), ())]))


def test_each_gold_call_is_an_accepted_first_call_and_all_of_them_are_the_gold_calls():
    of = task(("a", {"x": 1}), ("b", {"y": 2}))
    assert scored(of, ("b", {"y": 2})) == {"ts": 1.0, "pi": 1.0, "cf": 1.0, "calls_equal_gold": 0.0}
    assert scored(of, ("b", {"y": 2}), ("a", {"x": 1}))["calls_equal_gold"] == 1.0
    assert scored(of, ("a", {"x": 1}), ("b", {"y": 2}), ("b", {"y": 2}))["calls_equal_gold"] == 0.0
    assert scored(of, ("b", {"y": 3})) == {"ts": 1.0, "pi": 1.0, "cf": 0.0, "calls_equal_gold": 0.0}


def test_a_call_that_is_optional_may_be_made_or_not():
    of = task(("a", {"x": 1}), ("b", {"y": 2}))
    of.facts["benchmark"]["gold"][1]["optional"] = True
    assert scored(of, ("a", {"x": 1}))["calls_equal_gold"] == 1.0
    assert scored(of, ("b", {"y": 2}), ("a", {"x": 1}))["calls_equal_gold"] == 1.0
    assert scored(of, ("b", {"y": 2}))["calls_equal_gold"] == 0.0


def test_gold_that_cannot_be_read_says_nothing():
    assert set(scored(task(None), ("a", {})).values()) == {None}
    partly = scored(task(None, ("a", {"x": 1})), ("a", {"x": 1}))
    assert (partly["cf"], partly["calls_equal_gold"]) == (1.0, None)
    assert METRIC.total([(task(None), scored(task(None)))])["ts"] is None


@pytest.mark.parametrize("subset", ["real", "simulated"])
def test_gold_has_every_figure_at_one_but_for_calls_without_arguments(benchmark_data, subset):
    for of in read(benchmark_data / "toolalpaca", subset):
        gold = of.facts["benchmark"]["gold"]
        calls = [(call["name"], call["arguments"]) for call in gold if call is not None]
        record = scored(of, *calls)
        if len(calls) == len(gold):
            assert record["calls_equal_gold"] == 1.0
        if calls:
            assert record["cf"] == record["ts"] == float(bool(calls[0][1])), of.task_id


@pytest.mark.parametrize(("subset", "num"), [("real", 51), ("simulated", 42)])
def test_a_reply_that_meets_the_reference_makes_the_gold_calls(benchmark_data, subset, num):
    known = [of for of in read(benchmark_data / "toolalpaca", subset) if of.reference is not None]
    assert len(known) == num
    for of in known:
        calls = [(call.name, dict(call.arguments)) for call in gold_calls(of)]
        assert scored(of, *calls)["calls_equal_gold"] == 1.0, of.task_id


def test_figures_are_none_where_gold_asks_the_user_or_has_a_placeholder(benchmark_data):
    tasks = {of.task_id: of for of in read(benchmark_data / "toolalpaca", "simulated")}
    asks = tasks["toolalpaca/simulated/Apache Superset:7"]
    assert set(scored(asks, ("deleteDataSource", {"sourceId": 12345})).values()) == {None}
    placeholder = tasks["toolalpaca/simulated/Auth0:5"]
    assert set(scored(placeholder, ("createRole", {"accessToken": "abcd1234"})).values()) == {None}


def test_no_key_to_an_api_is_in_a_task(benchmark_data):
    for of in read(benchmark_data / "toolalpaca", "real"):
        text = json.dumps(of.to_json())
        assert not any(f'\\"{key}\\"' in text or f'"{key}"' in text for key in ("access_key", "appid", "api_key"))
