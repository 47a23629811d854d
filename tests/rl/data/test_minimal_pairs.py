"""Minimal pairs against tables made by hand: what is corrected, into what, and what is left alone."""

from __future__ import annotations

import pytest

from envs.types import MalformedCall, TaskKind
from rl.data.minimal_pairs import minimal
from rl.data.pairs import Settings

ANY = Settings()


@pytest.fixture
def pairs_of(build, table):
    """The pairs of one episode without their scores, and why its other turns gave none."""

    def make(task, *turns, **options):
        found = minimal([build.play(task, *turns, **options)], ANY)
        reasons = {name.removeprefix("no pair/") for name in found.counts if name.startswith("no pair/")}
        return [row[:3] for row in table(found)], reasons

    return make


@pytest.fixture
def task(build):
    return build.task(build.call("book_flight", city="Oslo", days=3))


@pytest.mark.parametrize(
    ("name", "arguments", "chosen", "kind"),
    [
        ("book_flight", {"days": 4, "city": "Oslo"}, "book_flight(3, Oslo)", "wrong_value"),
        ("book_flight", {"days": 4, "city": "OSLO"}, "book_flight(3, OSLO)", "wrong_value"),
        ("book_flight", {"city": "Oslo"}, "book_flight(Oslo, 3)", "missing_argument"),
        ("book_flight", {"city": "Oslo", "seat": 1, "days": 3}, "book_flight(Oslo, 3)", "unknown_argument"),
        ("book_flight", {"city": "Oslo", "note": "x", "days": 3}, "book_flight(Oslo, 3)", "redundant_argument"),
        ("book_flight", {"city": "Oslo", "days": "3"}, "book_flight(Oslo, 3)", "bad_type"),
        ("book_flight", {"class": "royal", "city": "Oslo", "days": 3}, "book_flight(Oslo, 3)", "bad_enum"),
        ("find_hotel", {"city": "Oslo"}, "book_flight(Oslo, 3)", "wrong_tool"),
        ("fly", {"city": "Oslo"}, "book_flight(Oslo, 3)", "unknown_tool"),
        ("talk_to_user", {"question": "?", "missing": ["days"]}, "book_flight(Oslo, 3)", "needless_deferral"),
        ("finish", {"answer": "done"}, "book_flight(Oslo, 3)", "missing_call"),
    ],
)
def test_of_a_wrong_call_only_what_is_wrong_changes(build, pairs_of, task, name, arguments, chosen, kind):
    call = build.call(name, **arguments)
    rejected = f"{name}({', '.join(map(str, arguments.values()))})"
    assert pairs_of(task, call) == ([(chosen, rejected, kind)], set())


def test_a_default_that_was_said_stays(build, pairs_of, task):
    call = build.call("book_flight", **{"class": "economy", "city": "Oslo", "days": 4})
    assert pairs_of(task, call)[0] == [
        ("book_flight(economy, Oslo, 3)", "book_flight(economy, Oslo, 4)", "wrong_value")
    ]


def test_a_call_that_cannot_be_read_is_replaced(build, pairs_of, task):
    assert pairs_of(task, MalformedCall(text="{", reason="no JSON"))[0] == [
        ("book_flight(Oslo, 3)", "<{>", "malformed")
    ]


def test_a_missed_deferral_becomes_the_deferral_that_is_due(build, pairs_of):
    asking = build.task(build.call("talk_to_user", missing=["days"]), build.call("book_flight", city="Oslo", days=3),
                        kind=TaskKind.MISSING_ARGUMENT, request="Book a flight to Oslo")  # fmt: skip
    assert pairs_of(asking, build.call("book_flight", city="Oslo", days=1))[0] == [
        ("talk_to_user(which days?, ['days'])", "book_flight(Oslo, 1)", "missed_deferral")
    ]
    changing = build.task(build.call("change_tools"), kind=TaskKind.UNMATCHED_TOOLS, request="Sing a song")
    assert pairs_of(changing, build.call("get_weather", city="Oslo"))[0] == [
        ("change_tools(no tool can serve the request)", "get_weather(Oslo)", "missed_deferral")
    ]


def test_a_deferral_that_asks_for_the_wrong_thing_is_put_right(build, pairs_of):
    task = build.task(build.call("talk_to_user", missing=["days"]), build.call("book_flight", city="Oslo", days=3),
                      kind=TaskKind.MISSING_ARGUMENT, request="Book a flight to Oslo")  # fmt: skip
    assert pairs_of(task, build.ask("city"))[0] == [
        ("talk_to_user(which days?, ['days'])", "talk_to_user(which?, ['city'])", "wrong_value")
    ]


def test_a_call_too_many_becomes_the_answer(build, pairs_of, task):
    task = build.task(build.call("book_flight", city="Oslo", days=3), answer="booked 7")
    right, extra = build.call("book_flight", city="Oslo", days=3), build.call("find_hotel", city="Oslo")
    rows, _ = pairs_of(task, right, extra, answers=['{"booked":7}'])
    assert rows == [("finish(booked 7)", "find_hotel(Oslo)", "extra_call")]
    rows, reasons = pairs_of(task, right, extra, answers=['{"booked":8}'])
    assert rows == [] and "a right value does not follow from what was read" in reasons


def test_the_other_calls_of_a_message_stay_as_they_are(build, pairs_of):
    weather, hotel = build.call("get_weather", city="Oslo"), build.call("find_hotel", city="Oslo")
    task = build.task(weather, hotel, build.call("book_flight", city="Oslo", days=3))
    wrong = build.call("find_hotel", city="Rome")
    assert pairs_of(task, (weather, wrong))[0] == [
        ("get_weather(Oslo) find_hotel(Oslo)", "get_weather(Oslo) find_hotel(Rome)", "wrong_value")
    ]


def test_what_is_not_certain_is_left_alone(build, pairs_of):
    weather, hotel = build.call("get_weather", city="Oslo"), build.call("find_hotel", city="Oslo")
    two = build.task(weather, hotel)
    assert pairs_of(two, build.call("fly")) == ([], {"several calls are due"})
    both_wrong = (build.call("fly"), build.call("find_hotel", city="Rome"))
    assert pairs_of(two, both_wrong) == ([], {"several calls of one message are wrong"})
    assert pairs_of(two, (weather, hotel)) == ([], {"no error"})
    assert pairs_of(two, "Gladly.") == ([], {"no call was made"})
    assert pairs_of(build.task(known=False), build.call("fly")) == ([], {"what is right is not known"})
    several = build.task(build.call("get_weather", city={"any_of": ["Oslo", "Rome"]}))
    assert pairs_of(several, build.call("get_weather", city="Bonn")) == ([], {"several values are right"})


def test_a_value_that_was_not_read_yet_is_never_the_correction(build, pairs_of):
    task = build.task(build.call("get_weather", city="Oslo"), build.call("pay_bill", bill_id="B-77"), ordered=True)
    weather, pay = build.call("get_weather", city="Oslo"), build.call("pay_bill", bill_id="B-1")
    rows, _ = pairs_of(task, weather, pay, answers=['{"bill":"B-77"}'])
    assert rows == [("pay_bill(B-77)", "pay_bill(B-1)", "wrong_value")]
    rows, reasons = pairs_of(task, weather, pay, answers=['{"sun":1}'])
    assert rows == [] and reasons == {"no error", "a right value does not follow from what was read"}


def test_each_pair_leads_back_to_its_trajectory_turn_and_call(build, task):
    weather = build.call("get_weather", city="Oslo")
    task = build.task(weather, build.call("find_hotel", city="Oslo"))
    made = build.play(task, weather, (build.call("find_hotel", city="Rome"),), trajectory_id="t9")
    (pair,) = minimal([made], ANY).pairs
    source = pair.source()
    assert source["rejected_trajectory"] == "t9" and source["chosen_trajectory"] is None
    assert (source["turn"], source["call"]) == (1, 0)
    assert source["errors"][0] == {"kind": "wrong_value", "argument": "/city"}
    assert pair.prompt == made.messages_before(1)
    assert [message.role for message in pair.prompt] == ["user", "assistant", "tool"]
