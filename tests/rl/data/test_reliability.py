from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from envs.actions import CHANGE_TOOLS, TALK_TO_USER
from envs.checks import check_env
from envs.component import Component
from envs.tasks import read_tasks, write_tasks
from envs.toolworld import Demonstrator, ToolWorldEnv, ToolWorldTasks
from envs.toolworld.demonstrator import NO_ERRORS
from envs.types import Message, Task, TaskKind, ToolCall, ToolSpec
from rewards.classify import judge
from rewards.grounding import Context
from rl.__main__ import main
from rl.algorithms.sft import SFT
from rl.data.conversations import play
from rl.data.reliability import MISSING, UNMATCHED, VARIANTS, Dropped, make_variant, may_serve
from rl.sample import ScoredGroup
from rl.task_sets import task_set
from rollout.demonstrations import read_demonstrations


def tool(name: str, description: str = "", required: tuple[str, ...] = ("city",), **properties: Any) -> ToolSpec:
    schemas = {**{parameter: {"type": "string"} for parameter in required}, **properties}
    parameters = {"type": "object", "properties": schemas, "required": list(required)}
    return ToolSpec(name=name, description=description, parameters=parameters)


WEATHER = tool("get_weather", "The weather of a city.")
STOCK = tool("get_stock_price", "The price of a share.", ("ticker",))


def task(
    request: str = "Weather in Oslo, please",
    arguments: dict[str, Any] | None = None,
    tools: tuple[ToolSpec, ...] = (WEATHER,),
    **more: Any,
) -> Task:
    call = ToolCall(name=tools[0].name, arguments={"city": "Oslo"} if arguments is None else arguments)
    values = {"reference": (call,), "task_id": "t", "tools": tools, "prompt": (Message(role="user", content=request),)}
    return Task(**{**values, **more})


OTHER = task(
    "Price of ACME", {"ticker": "ACME"}, (STOCK, tool("sell_share", "Sell a share.", ("ticker",))), task_id="o"
)


def variant(name: str, of: Task, *pool: Task) -> Task:
    return make_variant(name, of, (of, *pool), random.Random(0))


def why(name: str, of: Task, *pool: Task) -> str:
    with pytest.raises(Dropped) as caught:
        variant(name, of, *pool)
    return str(caught.value)


def test_a_missing_argument_is_asked_for_first():
    made = variant(MISSING, task())
    assert made.prompt[-1].content == "Weather, please"
    assert made.kind == TaskKind.MISSING_ARGUMENT
    assert made.reference == (
        ToolCall(name=TALK_TO_USER, arguments={"missing": ["city"]}),
        ToolCall(name="get_weather", arguments={"city": "Oslo"}),
    )
    assert made.facts["user"] == {"city": "Oslo"}


def described(**schema: Any) -> tuple[ToolSpec, ...]:
    return (tool("get_weather", city={"type": "string", **schema}),)


def of_user(other: str, description: str) -> Task:
    tools = (tool("list_orders", required=("user_id",)), tool(other, description, required=()))
    return task("List the orders of user U77.", {"user_id": "U77"}, tools)


@pytest.mark.parametrize(
    ("of", "expected"),
    [
        (task("Weather in Oslo? I live in Oslo"), "does not stand in the request once"),
        (task("The weather in OSL?", {"city": {"any_of": ["Oslo", "OSL"]}}), ""),
        (task("Weather in OSL or Oslo?", {"city": {"any_of": ["Oslo", "OSL"]}}), "the value can still be told"),
        (
            task(
                prompt=(Message(role="user", content="I am in Oslo"), Message(role="user", content="Rain in Oslo now?"))
            ),
            "the value can still be told",
        ),
        (task("Weather in the city of Oslo, my city?"), "still speaks of it"),
        (task(tools=described(default="Oslo")), "its document gives the value"),
        (task(tools=described(description="Default: Oslo")), "its document gives the value"),
        (task(tools=described(enum=["Oslo"])), "its document gives the value"),
        (task("Weather in Oslo, not Rome", tools=described(enum=["Oslo", "Rome"])), "another allowed value"),
        (task(tools=described(enum=["Oslo", "Rome"])), ""),
        (task(tools=described(examples=["Oslo"])), "its document shows the value"),
        (task(tools=(WEATHER, tool("find_city", required=("country",)))), "another tool may tell the value"),
        (of_user("get_user_id", "Returns the id of the caller."), "another tool may tell the value"),
        (of_user("get_current_user", "Returns the caller with the user_id."), "another tool may tell the value"),
        (of_user("block_user_id", "Blocks an account."), ""),
        (
            task(facts={"results": {"whereami": {"city": {}}}}, tools=(WEATHER, tool("whereami", required=()))),
            "may tell",
        ),
        (task(tools=(WEATHER, tool("get_weather_here", required=()))), "another tool may serve"),
        (
            task("Rain on page 3?", {"page": 3}, (tool("get_rain", required=("page",), page={"type": "integer"}),)),
            "nobody",
        ),
        (task("Is it on", {"flag": True}, (tool("f", required=("flag",), flag={"type": "boolean"}),)), "looked for"),
        (
            task("Rain on 2026-03-01 or tomorrow", {"date": "2026-03-01"}, (tool("get_rain", required=("date",)),)),
            "the value can still be told",
        ),
        (
            task("Wake me at 10:30 this week", {"wake_time": "10:30"}, (tool("wake", required=("wake_time",)),)),
            "still speaks of a time",
        ),
        (task(reference=None), "unknown"),
        (task(reference=()), "no call is right"),
        (task(reference=(ToolCall(name=CHANGE_TOOLS, arguments={}),)), "a deferral already"),
        (task(reference=(ToolCall(name="get_weather", arguments={}),)), "contradict"),
        (task(reference=(ToolCall(name="get_rain", arguments={}),)), "contradict"),
        (task(tools=(tool("get_weather", required=()),), arguments={}), "requires no argument"),
        (task(reference=(ToolCall(name="get_weather", arguments={"city": "Oslo"}),) * 2), "in any order"),
        (task(prompt=(Message(role="user", content="Oslo"), Message(role="tool", content="Oslo"))), "not the user's"),
        (task(tools=(tool("finish"),)), "called like an action"),
    ],
)
def test_an_argument_is_missing_only_where_nothing_gives_it(of, expected):
    if not expected:
        assert variant(MISSING, of).kind == TaskKind.MISSING_ARGUMENT
    else:
        assert expected in why(MISSING, of)


def test_a_value_that_takes_another_with_it_is_not_cut_out():
    both = tool("get_route", "", ("start", "end"))
    of = task("From Oslo to Bergen Oslo Street", {"start": "Bergen Oslo Street", "end": "Bergen"}, (both,))
    assert why(MISSING, of) in ("another value would be lost with it", "the value can still be told")


def test_unmatched_tools_are_those_of_another_task_and_change_tools_is_right():
    made = variant(UNMATCHED, task(answer="rain"), OTHER)
    assert made.tools == OTHER.tools[:1] or made.tools == OTHER.tools
    assert made.reference is not None
    assert made.reference[0] == ToolCall(name=CHANGE_TOOLS, arguments={})
    assert made.kind == TaskKind.UNMATCHED_TOOLS
    recovers = len(made.reference) == 2
    assert made.facts["new_tools"] == ([WEATHER.to_json()] if recovers else [])
    assert made.answer == ("rain" if recovers else "no tool can get weather")


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (STOCK, False),
        (replace(WEATHER, description=""), True),
        (tool("getWeather", "", ("place",)), True),
        (tool("forecast", "Tells the weather of any city.", ("place",)), True),
        (tool("web_search", "", ("text",)), True),
        (tool("run_python", "", ("source",)), True),
        (tool("sell_share", "Sell a share in a city.", ("ticker",)), False),
    ],
)
def test_a_tool_may_serve_by_its_name_its_words_or_because_it_serves_anything(other, expected):
    assert may_serve(other, task().prompt, [WEATHER]) is expected


def test_a_tool_with_the_parameters_of_a_serving_one_may_serve():
    serving, other = tool("book_room", "", ("city", "nights")), tool("reserve_bed", "", ("nights", "city"))
    assert may_serve(other, (Message(role="user", content="Book"),), [serving])
    assert not may_serve(tool("reserve_bed", "", ("city", "beds")), (Message(role="user", content="Book"),), [serving])


@pytest.mark.parametrize(
    ("of", "pool", "expected"),
    [
        (task(), (), "no other task has tools"),
        (task(), (task(task_id="same"),), "no other task has tools"),
        (task("\u5929\u6c14"), (OTHER,), "in this script"),
        (
            task(
                prompt=(Message(role="assistant", calls=(ToolCall(name="get_weather", arguments={}),)), *task().prompt)
            ),
            (OTHER,),
            "were called before",
        ),
    ],
)
def test_tools_are_unmatched_only_where_none_may_serve(of, pool, expected):
    assert expected in why(UNMATCHED, of, *pool)


def test_without_known_right_calls_every_offered_tool_counts_as_serving():
    made = variant(UNMATCHED, task(reference=None), OTHER)
    assert made.reference == (ToolCall(name=CHANGE_TOOLS, arguments={}),)
    assert "no other task" in why(UNMATCHED, task(reference=None, tools=(WEATHER, STOCK)), OTHER)


def test_a_second_opinion_may_rule_tools_out():
    of, asked = task(), []

    def doubtful(request: str, tools: Sequence[ToolSpec]) -> list[bool]:
        asked.append(request)
        return [False] * len(tools)

    with pytest.raises(Dropped, match="no other task has tools"):
        make_variant(UNMATCHED, of, (of, OTHER), random.Random(0), doubtful)
    assert set(asked) == {"Weather in Oslo, please"}
    sure = make_variant(UNMATCHED, of, (of, OTHER), random.Random(0), lambda request, tools: [True] * len(tools))
    assert sure == variant(UNMATCHED, of, OTHER)


# The command.


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every variant of 120 tasks of the tool world."""
    out = tmp_path_factory.mktemp("made") / "tasks.jsonl"
    assert main(["data", "reliability", "train", "--num", "120", "--all", "--out", str(out)]) == 0
    return out


def test_the_output_is_a_task_file_whose_right_calls_pass_in_the_environment(made):
    tasks = task_set(str(made), 1000, 0).tasks
    kinds = [str(one.kind) for one in tasks]
    assert kinds.count("missing_argument") > 40
    assert kinds.count("unmatched_tools") > 40
    assert check_env(Component(factory="envs.toolworld:ToolWorldEnv"), tasks) == []


def test_who_makes_the_right_calls_succeeds_and_defers_first(made):
    for one in read_tasks(made):
        demonstrator = Demonstrator(one, error_rates=NO_ERRORS)
        verdict = judge(asyncio.run(play(one, ToolWorldEnv, demonstrator, max_turns=8)))
        assert verdict.success, one.task_id
        assert not verdict.errors, one.task_id
        assert verdict.deferred_first == verdict.deferral_due


def test_no_missing_value_can_be_told_and_no_unmatched_tool_is_a_right_one(made):
    originals = {one.task_id: one for one in ToolWorldTasks(split="train", seed=0, num=120)}
    for one in read_tasks(made):
        original, _, name = one.task_id.rpartition(":")
        assert name in VARIANTS
        assert one.reference is not None
        if name == MISSING:
            (missing,) = one.reference[0].arguments["missing"]
            assert not Context(message.content for message in one.prompt).holds(one.facts["user"][missing])
            assert one.reference[1:] == originals[original].reference
        if name == UNMATCHED:
            wanted = {call.name for call in originals[original].reference or ()}
            assert not wanted & {offered.name for offered in one.tools}
            assert one.prompt == originals[original].prompt


def test_shares_decide_what_a_task_becomes_and_the_seed_decides_the_rest(tmp_path):
    outs = [tmp_path / f"{name}.jsonl" for name in ("a", "b", "c")]
    for out, seed in zip(outs, ("1", "1", "2"), strict=True):
        words = [
            "data",
            "reliability",
            "heldout",
            "--num",
            "60",
            "--shares",
            "0,1,1",
            "--out",
            str(out),
            "--seed",
            seed,
        ]
        assert main(words) == 0
    first, again, other = (read_tasks(out) for out in outs)
    assert first == again != other
    assert {str(one.kind) for one in first} == {"missing_argument", "unmatched_tools"}
    assert len({one.task_id for one in first}) == len(first)


def test_what_was_dropped_is_counted_with_its_reason(made):
    summary = json.loads(made.with_name(f"{made.name}.summary.json").read_text())
    counts = summary["counts"]
    assert sum(counts["made"].values()) + sum(counts["dropped"].values()) == summary["num_items"] == 360
    assert counts["dropped"]["missing_argument, it needs a deferral already"] > 10


def test_demonstrations_of_the_variants_can_be_learned_from(tmp_path, renderer):
    out = tmp_path / "demonstrations.parquet"
    assert main(["data", "reliability", "train", "--num", "60", "--out", str(out), "--conversations"]) == 0
    trajectories = list(read_demonstrations(out, renderer))
    samples = SFT().samples([ScoredGroup(trajectories=(trajectory,)) for trajectory in trajectories])
    assert len(samples) == len(trajectories) > 30
    first_calls = {getattr(call, "name", "") for one in trajectories for call in one.turns[0].message.calls}
    assert {TALK_TO_USER, CHANGE_TOOLS} < first_calls


def test_where_results_are_unknown_only_the_first_turn_is_demonstrated(tmp_path):
    write_tasks(tmp_path / "in.jsonl", [task(), OTHER])
    out = tmp_path / "out.jsonl"
    assert main(["data", "reliability", str(tmp_path / "in.jsonl"), "--out", str(out), "--all", "--conversations"]) == 0
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert records
    for record in records:
        assert sum(message["role"] == "assistant" for message in record["messages"]) == 1


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["nowhere.jsonl"], "nowhere.jsonl: no such data set; expected a task file"),
        (["bfcl:/nowhere"], "/nowhere: no such folder"),
        (["train", "--shares", "1,2"], "expected three numbers"),
        (["train", "--shares", "0,0,0"], "expected three numbers"),
        (["train", "--shares", "inf,1,1"], "expected three numbers, none negative or infinite"),
        (["train", "--shares", "1e308,1e308,1e308"], "expected three numbers, none negative or infinite"),
        (["train", "--shares", "nan,1,1"], "expected three numbers"),
        (["train", "--num", "0"], "expected at least 1"),
        (["train", "--judge", "http://localhost:1/v1"], "expected both or none"),
    ],
)
def test_bad_input_is_one_line(tmp_path, capsys, words, expected):
    assert main(["data", "reliability", *words, "--out", str(tmp_path / "out.jsonl")]) == 2
    assert expected in capsys.readouterr().err


@pytest.mark.parametrize(
    ("answer", "status", "code", "num"), [("Irrelevant", 200, 0, 1), ("Unsure", 200, 0, 0), ("Irrelevant", 400, 1, 0)]
)
def test_a_judge_must_call_every_unmatched_tool_irrelevant(tmp_path, json_server, answer, status, code, num):
    write_tasks(tmp_path / "in.jsonl", [task(), replace(OTHER, reference=None, tools=OTHER.tools[:1])])
    out = tmp_path / "out.jsonl"
    judge = json_server(lambda request: (status, judge.completion({"role": "assistant", "content": answer})))
    words = ["--shares", "0,0,1", "--judge", judge.url, "--judge-model", "m", "--out", str(out)]
    assert main(["data", "reliability", str(tmp_path / "in.jsonl"), *words]) == code
    assert any("get_stock_price" in request["messages"][-1]["content"] for request in judge.requests)
    if code == 0:
        assert sum(one.kind == TaskKind.UNMATCHED_TOOLS for one in read_tasks(out)) == 2 * num
    else:
        assert not out.exists()
