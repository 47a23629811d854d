"""What is due at a turn, which message makes it, and what a reply to it earns: tables made by hand."""

from __future__ import annotations

from typing import Any

import pytest

from envs.types import MalformedCall, TaskKind, ToolStatus
from rewards.classify import classify
from rewards.due import before, certain, due, due_calls, released_reply_score, reply_terms
from rewards.esm import EsmClass


def names(calls):
    return [call.name for call in calls]


def at(build, task, *turns, turn=None, **options) -> Any:
    """The trajectory and what is due at its last turn, or at `turn`."""
    trajectory = build.play(task, *turns, **options)
    turn = len(turns) - 1 if turn is None else turn
    return trajectory, turn, due(trajectory, turn)


def right_calls(build, task, *turns, **options) -> Any:
    trajectory, turn, wanted = at(build, task, *turns, **options)
    return due_calls(trajectory, turn, wanted)


def terms_of(build, task, *turns, **options):
    trajectory, turn, wanted = at(build, task, *turns, **options)
    errors = [error for error in classify(trajectory) if error.turn == turn and error.call is not None]
    return reply_terms(trajectory, turn, wanted, errors)


def test_calls_that_were_made_are_no_longer_due(build):
    task = build.task(build.call("get_weather", city="Oslo"), build.call("find_hotel", city="Oslo"))
    _, _, first = at(build, task, build.finish(), turn=0)
    assert names(first.targets) == ["get_weather", "find_hotel"]
    _, _, second = at(build, task, build.call("find_hotel", city="Oslo"), build.finish())
    assert names(second.targets) == ["get_weather"]
    _, _, wrong = at(build, task, build.call("find_hotel", city="Rome"), build.finish())
    assert names(wrong.targets) == ["get_weather", "find_hotel"]


def test_nothing_behind_a_deferral_is_due_before_it_is_made(build):
    task = build.task(build.ask("city"), build.call("get_weather", city="Oslo"), kind=TaskKind.MISSING_ARGUMENT)
    _, _, wanted = at(build, task, build.call("get_weather", city="Oslo"))
    assert wanted.calls == () and wanted.deferral.name == "talk_to_user"
    _, _, after = at(build, task, build.ask("city"), build.finish(), answers=['{"city":"Oslo"}'])
    assert names(after.calls) == ["get_weather"] and after.deferral is None


def test_what_is_due_cannot_be_said_without_a_reference_or_behind_a_call_that_got_no_answer(build):
    unknown = build.task(known=False)
    assert at(build, unknown, build.finish())[2] is None
    task = build.task(build.call("get_weather", city="Oslo"))
    failed = at(build, task, build.call("get_weather", city="Oslo"), build.finish(), answers=[(ToolStatus.FAILED, "x")])
    assert failed[2] is None


def test_the_right_message_makes_all_that_need_not_wait(build):
    calls = (build.call("get_weather", city="Oslo"), build.call("find_hotel", city="Oslo"))
    assert names(right_calls(build, build.task(*calls), build.finish())) == ["get_weather", "find_hotel"]
    assert names(right_calls(build, build.task(*calls, ordered=True), build.finish())) == ["get_weather"]


def test_a_deferral_of_the_reference_is_said_in_full(build):
    task = build.task(build.call("talk_to_user", missing=["start_date", "cityName"]), kind=TaskKind.MISSING_ARGUMENT)
    (call,) = right_calls(build, task, build.finish())
    assert call.arguments == {"question": "which start date and city name?", "missing": ["start_date", "cityName"]}
    task = build.task(build.call("change_tools"), kind=TaskKind.UNMATCHED_TOOLS)
    (call,) = right_calls(build, task, build.finish())
    assert call.arguments == {"reason": "no tool can serve the request"}
    told = build.task(build.call("change_tools"), kind=TaskKind.UNMATCHED_TOOLS, facts={"wanted": {"phrase": "sing"}})
    (call,) = right_calls(build, told, build.finish())
    assert call.arguments == {"reason": "no tool can sing"}


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ([("get_weather", {"city": {"any_of": ["Oslo", "Rome"]}})], "several values are right"),
        ([("get_weather", {"city": "Bergen"})], "a right value does not follow from what was read"),
        ([("fly", {"city": "Oslo"})], "the right tool is not offered"),
        ([("talk_to_user", {})], "what is missing is not said"),
        (
            [("get_weather", {"city": "Oslo"}), ("talk_to_user", {"missing": ["a"]})],
            "a call and a deferral are both right",
        ),
        ([], "no call is right"),
    ],
)
def test_no_right_message_is_made_up(build, reference, reason):
    task = build.task(*[build.call(name, **arguments) for name, arguments in reference])
    assert right_calls(build, task, build.finish()) == reason


def test_finishing_is_due_when_all_is_done_and_its_answer_must_be_in_the_results(build):
    task = build.task(build.call("get_weather", city="Oslo"), answer="rain 7")
    made = build.call("get_weather", city="Oslo")
    assert right_calls(build, task, made, build.finish(), answers=['{"rain":7}'])[0].arguments == {"answer": "rain 7"}
    unread = right_calls(build, task, made, build.finish(), answers=['{"rain":8}'])
    assert unread == "a right value does not follow from what was read"
    unknown = build.task(build.call("get_weather", city="Oslo"))
    assert right_calls(build, unknown, made, build.finish()) == "the right answer is unknown"


def test_a_value_that_a_result_gave_may_be_used(build):
    task = build.task(build.call("get_weather", city="Oslo"), build.call("pay_bill", bill_id="B-77"), ordered=True)
    made = build.call("get_weather", city="Oslo")
    assert names(right_calls(build, task, made, build.finish(), answers=['{"bill":"B-77"}'])) == ["pay_bill"]
    trajectory = build.play(task, build.finish())
    assert certain(trajectory, 0, task.reference[1]) == "a right value does not follow from what was read"


def test_the_episode_before_a_turn_ends_where_the_turn_before_it_did(build):
    task = build.task(build.call("get_weather", city="Oslo"))
    trajectory = build.play(task, build.call("get_weather", city="Oslo"), build.finish())
    assert len(before(trajectory, 0).token_ids) == 0 and before(trajectory, 0).turns == ()
    assert len(before(trajectory, 1).token_ids) == trajectory.turns[0].end


def test_terms_of_replies(build):
    task = build.task(build.call("book_flight", city="Oslo", days=3))
    rows = [
        (build.call("book_flight", city="Oslo", days=3), 1.0, EsmClass.RIGHT),
        (build.call("book_flight", city="Oslo", days=4), 10 / 11, EsmClass.WRONG_VALUE),
        (build.call("book_flight", city="Oslo"), 7 / 11, EsmClass.MISSING_REQUIRED),
        (build.call("fly", city="Oslo"), 0.0, EsmClass.NONEXISTENT_TOOL),
        (MalformedCall(text="{", reason="no JSON"), 0.0, EsmClass.NO_CALL),
        ("It will be fine.", 0.0, EsmClass.NO_CALL),
    ]
    for reply, score, error in rows:
        terms = terms_of(build, task, reply)
        assert (round(terms.total(), 6), terms.error) == (round(score, 6), error), reply


def test_terms_are_means_over_the_calls_made(build):
    weather, hotel = build.call("get_weather", city="Oslo"), build.call("find_hotel", city="Oslo")
    task = build.task(weather, hotel)
    assert terms_of(build, task, (hotel, weather)).total() == 1.0
    assert terms_of(build, task, hotel).total() == 1.0
    assert terms_of(build, task, (weather, hotel, build.call("get_weather", city="Rome"))).total() == pytest.approx(
        2 / 3
    )
    ordered = build.task(weather, hotel, ordered=True)
    assert terms_of(build, ordered, hotel).total() < 1.0
    assert terms_of(build, ordered, (weather, hotel)).total() == 1.0


def test_finishing_too_early_is_a_wrong_call_and_finishing_in_time_is_right(build):
    task = build.task(build.call("get_weather", city="Oslo"))
    assert terms_of(build, task, build.finish()).error is EsmClass.WRONG_TOOL
    made = build.call("get_weather", city="Oslo")
    assert terms_of(build, task, made, build.finish("fine")).total() == 1.0
    assert terms_of(build, task, made, build.finish("7 mm")).error is EsmClass.WRONG_VALUE
    assert terms_of(build, task, made, build.call("find_hotel", city="Oslo")).total() == 0.0
    assert terms_of(build, task, made, "fine").total() == 0.0


def test_where_no_call_is_right_to_make_none_is(build):
    task = build.task(kind=TaskKind.UNMATCHED_TOOLS)
    assert terms_of(build, task, "I cannot.").total() == 1.0
    assert terms_of(build, task, build.other_tools()).total() == 1.0
    assert terms_of(build, task, build.call("get_weather", city="Oslo")).total() == 0.0


def test_the_released_score_looks_at_the_first_call_alone(build):
    wanted = build.call("get_weather", city="Oslo")
    task = build.task(wanted)
    trajectory = build.play(task, (wanted, build.call("fly")))
    assert released_reply_score(trajectory, 0, wanted) == 1.0
    assert released_reply_score(build.play(task, "no"), 0, wanted) == 0.0
    assert released_reply_score(build.play(task, build.call("get_weather", city="Rome")), 0, wanted) == pytest.approx(
        9 / 11
    )
