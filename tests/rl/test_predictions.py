import json
from pathlib import Path

import pytest

from envs.actions import ACTIONS
from envs.types import MalformedCall, Message, Task, ToolCall, ToolSpec, ToolStatus
from rewards.classify import judge
from rewards.types import ErrorKind
from rl.predictions import gold_trajectory, read_predictions

WEATHER = ToolSpec(
    name="get_weather",
    parameters={"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
RIGHT = ToolCall(name="get_weather", arguments={"city": "Oslo"})


def task(name="oslo", **fields) -> Task:
    return Task(
        task_id=f"weather/one/{name}",
        prompt=(Message(role="user", content="Weather in Oslo?"),),
        tools=(WEATHER,),
        **{"reference": (RIGHT,), **fields},
    )


def read(tmp_path: Path, *records, tasks=None, offer_actions=False):
    path = tmp_path / "outputs.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return read_predictions(path, tasks or [task()], offer_actions=offer_actions)


ID = "weather/one/oslo"
CALL = {"name": "get_weather", "arguments": {"city": "Oslo"}}
OPENAI = {
    "role": "assistant",
    "content": "Let me see.",
    "tool_calls": [{"id": "a", "type": "function", "function": {**CALL, "arguments": '{"city": "Oslo"}'}}],
}


@pytest.mark.parametrize(
    "record",
    [
        {"id": ID, "calls": [CALL]},
        {"id": ID, "calls": [{**CALL, "arguments": '{"city": "Oslo"}'}]},
        {"id": ID, "messages": [OPENAI]},
        {"id": ID, "messages": [OPENAI, {"role": "tool", "tool_call_id": "a", "content": "sun"}]},
        {
            "id": ID,
            "text": '<tool_call>{"name": "get_weather", "arguments": {"city": "Oslo"}}</tool_call>',
            "grammar": "hermes",
        },
        {"id": ID, "text": 'get_weather(city="Oslo")', "grammar": "python"},
        {"id": ID, "text": 'Action: get_weather\nAction Input: {"city": "Oslo"}', "grammar": "react"},
    ],
)
def test_every_form_is_read(tmp_path, record):
    (trajectory,) = read(tmp_path, record)
    assert judge(trajectory).success is True and judge(trajectory).errors == ()
    (turn,) = trajectory.turns
    assert [result.status for result in turn.results] == [ToolStatus.OK]
    assert trajectory.tools == (WEATHER,)


def test_recorded_results_are_kept(tmp_path):
    (trajectory,) = read(
        tmp_path, {"id": ID, "messages": [OPENAI, {"role": "tool", "tool_call_id": "a", "content": "sun"}]}
    )
    assert trajectory.turns[0].results[0].content == "sun"


def test_words_in_parts_are_kept(tmp_path):
    parts = [{"type": "text", "text": "I "}, {"type": "refusal", "refusal": "no"}, {"type": "text", "text": "cannot."}]
    (trajectory,) = read(tmp_path, {"id": ID, "messages": [{"role": "assistant", "content": parts}]})
    assert trajectory.turns[0].message.content == trajectory.outcome.answer == "I cannot."


def test_the_actions_count_as_offered_only_when_told(tmp_path):
    record = {"id": ID, "calls": [{"name": "talk_to_user", "arguments": {"question": "?", "missing": []}}]}
    (plain,) = read(tmp_path, record)
    assert ErrorKind.UNKNOWN_TOOL in {error.kind for error in judge(plain).errors}
    (offered,) = read(tmp_path, record, offer_actions=True)
    assert ErrorKind.NEEDLESS_DEFERRAL in {error.kind for error in judge(offered).errors}


def test_arguments_that_cannot_be_read_are_a_malformed_call(tmp_path):
    (trajectory,) = read(tmp_path, {"id": ID, "calls": [{**CALL, "arguments": '{"city": '}]})
    assert isinstance(trajectory.turns[0].message.calls[0], MalformedCall)
    assert trajectory.turns[0].results[0].status is ToolStatus.MALFORMED


def test_an_output_without_a_call_is_one(tmp_path):
    (trajectory,) = read(tmp_path, {"id": ID, "calls": []})
    assert [error.kind for error in judge(trajectory).errors] == [ErrorKind.MISSING_CALL]


def test_the_order_is_that_of_the_tasks(tmp_path):
    tasks = [task("a"), task("b")]
    records = [{"id": "weather/one/b", "calls": []}, {"id": "weather/one/a", "calls": [CALL]}]
    found = read(tmp_path, *records, tasks=tasks)
    assert [trajectory.task.task_id for trajectory in found] == ["weather/one/a", "weather/one/b"]


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([{"id": "nobody", "calls": []}], r'outputs.jsonl:1: id "nobody" is of no task .* such as weather/one/oslo'),
        ([{"id": [1], "calls": []}], r"outputs.jsonl:1: id \[1\] is of no task"),
        ([{"calls": []}], r"outputs.jsonl:1: id null is of no task"),
        ([], r"outputs.jsonl: no prediction for 1 of 1 tasks, such as weather/one/oslo"),
        ([{"id": ID, "calls": []}] * 2, r"outputs.jsonl:2: id weather/one/oslo for the second time"),
        ([{"id": ID}], r":1: has no output, expected one of messages, calls, text"),
        ([{"id": ID, "calls": [], "text": ""}], r":1: has calls and text, expected one of"),
        ([{"id": ID, "calls": {}}], r":1: calls is dict, expected a list"),
        ([{"id": ID, "calls": [{"arguments": {}}]}], r":1: calls\[0\] is .*, expected {name, arguments}"),
        ([{"id": ID, "messages": "no"}], r":1: messages is str, expected a list"),
        ([{"id": ID, "messages": [{"role": "user"}]}], r':1: messages\[0\] has the role "user", expected assistant'),
        ([{"id": ID, "messages": [None]}], r":1: messages\[0\] has the role null"),
        ([{"id": ID, "text": 3, "grammar": "react"}], r":1: text is int, expected a string"),
        ([{"id": ID, "text": "", "grammar": "xml"}], r':1: grammar "xml", expected one of hermes, python, react'),
        ([{"id": ID, "text": ""}], r":1: grammar null, expected one of"),
        ([{"id": ID, "text": "", "grammar": ["react"]}], r":1: grammar .*, expected one of"),
    ],
)
def test_a_faulty_line_is_named(tmp_path, records, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, *records)


def test_gold_defers_before_it_calls_and_gets_the_new_tools():
    other = ToolSpec(name="book", parameters={"type": "object", "properties": {}})
    made = gold_trajectory(
        task(
            kind="unmatched_tools",
            reference=(ToolCall(name="change_tools", arguments={}), ToolCall(name="book", arguments={})),
            facts={"new_tools": [other.to_json()]},
        )
    )
    assert judge(made).success is True and judge(made).errors == ()
    assert made.tools == (WEATHER, *ACTIONS) and made.offered_tools(1) == (other, *ACTIONS)


def test_gold_asks_for_what_is_missing():
    ask = ToolCall(name="talk_to_user", arguments={"missing": ["city"]})
    made = gold_trajectory(task(kind="missing_argument", reference=(ask, RIGHT), ordered=True))
    verdict = judge(made)
    assert verdict.deferred_first and verdict.success is True and verdict.errors == ()


def test_gold_of_nothing_says_nothing():
    made = gold_trajectory(task(reference=()))
    assert judge(made).success is True and made.turns[0].message.calls == ()


def test_an_unknown_reference_has_no_gold():
    with pytest.raises(ValueError, match="unknown"):
        gold_trajectory(task(reference=None))
