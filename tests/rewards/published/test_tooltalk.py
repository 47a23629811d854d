from __future__ import annotations

import json

import pytest

from envs.benchmarks.tooltalk import dialogues, read
from envs.types import Message, Task, ToolCall, ToolResult, ToolSpec, ToolStatus
from rewards.published.tooltalk import METRIC
from rollout.dialogues import from_dialogue
from rollout.unrendered import unrendered

TOOLS = tuple(
    ToolSpec(name=name, parameters={"type": "object", "properties": {key: {} for key in keys}, "required": keys})
    for name, keys in {
        "SendEmail": ["to", "subject", "body"],
        "SendMessage": ["receiver", "message"],
        "AddReminder": ["task", "due_date"],
        "QueryCalendar": ["start_time"],
        "DeleteAlarm": ["alarm_id"],
    }.items()
)
MAIL = ("SendEmail", {"to": ["a@b", "c@d"], "subject": "hi", "body": "text"})


def gold(name: str, arguments: dict, response=None, exception=None) -> dict:
    return {"name": name, "arguments": arguments, "response": response, "exception": exception}


def turn(*calls: dict, conversation: str = "c") -> Task:
    facts = {
        "conversation": conversation,
        "gold": list(calls),
        "actions": ["SendEmail", "SendMessage", "AddReminder", "DeleteAlarm"],
    }
    return Task(task_id="t", prompt=(), tools=TOOLS, facts={"benchmark": facts})


def scored(task: Task, *calls: tuple):
    """Calls as (name, arguments) or (name, arguments, answer of the service)."""
    made = [ToolCall(name=call[0], arguments=call[1], call_id=str(index)) for index, call in enumerate(calls)]
    results = [
        ToolResult(
            call_id=str(index), status=ToolStatus.OK, content=json.dumps(call[2]) if len(call) > 2 else "not told"
        )
        for index, call in enumerate(calls)
    ]
    return task, METRIC.record(unrendered(task, [(Message(role="assistant", calls=tuple(made)), results)]))


def events(*ids: str) -> dict:
    return {"response": {"events": [{"event_id": name} for name in ids]}, "exception": None}


FOUND = gold("QueryCalendar", {"start_time": "1"}, events("e")["response"])
OK = {"response": {}, "exception": None}


def test_gold_calls_give_the_published_figures():
    figures = METRIC.total([scored(turn(gold(*MAIL)), MAIL)])
    assert figures["precision"] == figures["recall"] == figures["success_rate"] == 1.0
    assert figures["bad_action_rate"] == 0.0 == figures["num_undecided_calls"]


@pytest.mark.parametrize(
    ("right", "made", "equal"),
    [
        # The order of addressees does not matter, a text that differs is for the embedding model.
        (gold(*MAIL), ("SendEmail", MAIL[1] | {"to": ["c@d", "a@b"]}, OK), 1.0),
        (gold(*MAIL), ("SendEmail", MAIL[1] | {"body": "other"}, OK), None),
        (gold(*MAIL), ("SendEmail", MAIL[1] | {"to": ["a@b"]}, OK), 0.0),
        (gold(*MAIL), ("SendEmail", MAIL[1] | {"to": ["c@d", "a@b"]}), None),
        (gold(*MAIL), ("SendEmail", MAIL[1], {"response": None, "exception": "no"}), 0.0),
        # The released program does not compare the receiver.
        (
            gold("SendMessage", {"receiver": "a", "message": "m"}),
            ("SendMessage", {"receiver": "b", "message": "m"}, OK),
            1.0,
        ),
        # Of a reminder only the day matters.
        (
            gold("AddReminder", {"task": "t", "due_date": "2023-09-11 09:00:00"}),
            ("AddReminder", {"task": "t", "due_date": "2023-09-11 10:00:00"}, OK),
            1.0,
        ),
        (
            gold("AddReminder", {"task": "t", "due_date": "2023-09-11 09:00:00"}),
            ("AddReminder", {"task": "t", "due_date": "2023-09-12 09:00:00"}, OK),
            0.0,
        ),
        # A search is right if it finds what gold found.
        (
            FOUND,
            ("QueryCalendar", {"start_time": "0"}, events("e", "f")),
            1.0,
        ),
        (
            FOUND,
            ("QueryCalendar", {"start_time": "0"}, events()),
            0.0,
        ),
        (
            FOUND,
            ("QueryCalendar", {"start_time": "0"}),
            None,
        ),
        (gold("DeleteAlarm", {"alarm_id": "1"}, {}), ("DeleteAlarm", {"alarm_id": "2"}, OK), 0.0),
        (gold("DeleteAlarm", {"alarm_id": "1"}, {}), ("FindAlarms", {"alarm_id": "1"}, OK), 0.0),
    ],
)
def test_each_tool_has_its_own_rule_of_equality(right, made, equal):
    _, record = scored(turn(right), made)
    assert record.get("0/equals/0", 0.0) == equal


def test_an_undecided_call_takes_the_published_names_away():
    figures = METRIC.total([scored(turn(gold(*MAIL)), ("SendEmail", MAIL[1] | {"body": "other"}, OK))])
    assert figures["num_undecided_calls"] == 1.0
    assert figures["precision"] is None and figures["success_rate"] is None
    assert (figures["precision_decided"], figures["bad_action_rate_decided"]) == (0.0, 1.0)


def test_a_wrong_action_is_bad_only_if_it_was_carried_out():
    right = gold("QueryCalendar", {"start_time": "1"}, {"events": []})
    query = ("QueryCalendar", {"start_time": "1"}, {"response": {"events": []}, "exception": None})
    done = METRIC.total([scored(turn(right), query, ("DeleteAlarm", {"alarm_id": "9"}, OK))])
    refused = ("DeleteAlarm", {"alarm_id": "9"}, {"response": None, "exception": "no such alarm"})
    failed = METRIC.total([scored(turn(right), query, refused)])
    assert (done["recall"], done["bad_action_rate"], done["success_rate"]) == (1.0, 1.0, 0.0)
    assert (failed["recall"], failed["bad_action_rate"], failed["success_rate"]) == (1.0, 0.0, 1.0)


def test_calls_are_matched_over_the_whole_conversation_each_gold_call_once():
    calls = (gold("DeleteAlarm", {"alarm_id": "1"}, {}), gold("DeleteAlarm", {"alarm_id": "2"}, {}))
    early = scored(turn(*calls), ("DeleteAlarm", {"alarm_id": "2"}, OK))
    late = scored(turn(*calls), ("DeleteAlarm", {"alarm_id": "1"}, OK), ("DeleteAlarm", {"alarm_id": "2"}, OK))
    figures = METRIC.total([early, late, scored(turn(gold(*MAIL), conversation="d"))])
    assert (figures["precision"], figures["recall"]) == (2 / 3, 2 / 3)
    assert figures["bad_action_rate"] == 1 / 3
    assert figures["success_rate"] == 0.0


@pytest.mark.parametrize("subset", ["easy", "tooltalk"])
def test_recorded_conversations_have_every_figure_at_one(benchmark_data, subset):
    folder = benchmark_data / "tooltalk"
    recorded = {}
    for dialogue in dialogues(folder):
        for turn_ in from_dialogue(dialogue).turns:
            for call in turn_.message.calls:
                number = call.call_id.split("_")[1]
                recorded.setdefault(f"{dialogue.task.task_id}:{number}", []).append((turn_.message, turn_.results))
    for with_answers in (True, False):
        records = [
            (
                task,
                METRIC.record(
                    unrendered(
                        task,
                        [
                            (message, results if with_answers else ())
                            for message, results in recorded.get(task.task_id, ())
                        ],
                    )
                ),
            )
            for task in read(folder, subset)
        ]
        figures = METRIC.total(records)
        assert figures["num_undecided_calls"] == figures["bad_action_rate"] == 0.0
        assert figures["precision"] == figures["recall"] == figures["success_rate"] == 1.0


@pytest.mark.parametrize("response", ["none", {}, {"events": "e"}, {"events": ["e", {}, {"event_id": ["e"]}]}, [1]])
def test_an_answer_in_another_form_finds_nothing(response):
    answer = {"response": response, "exception": None}
    figures = METRIC.total([scored(turn(FOUND), ("QueryCalendar", {"start_time": "2"}, answer))])
    assert figures["recall"] == 0.0
