from __future__ import annotations

from dataclasses import replace

import pytest

from envs.types import MalformedCall, Message, Task, TaskKind, ToolCall, ToolStatus
from rewards.classify import RELIGN_CLASSES, TL_CLASSES, classify, first_class, judge
from rewards.types import ErrorKind
from rollout.parsers import CallPlace
from rollout.trajectory import Ending
from rollout.unrendered import unrendered

BROKEN = MalformedCall(text="{", reason="no JSON")


def found(trajectory):
    """Errors as (turn, call, kind, argument)."""
    return [(error.turn, error.call, str(error.kind), error.argument) for error in classify(trajectory)]


def call(name, /, **arguments):
    return ToolCall(name=name, arguments=arguments)


OSLO = {"city": "Oslo", "days": 3}

# name: (turns, expected errors); the reference is book_flight(Oslo, 3), a finish follows.
ROWS = {
    "right": ([call("book_flight", **OSLO)], []),
    "malformed": ([BROKEN], [(0, 0, "malformed", None)]),
    "unknown_tool": ([call("book_fligt", **OSLO)], [(0, 0, "unknown_tool", None)]),
    "wrong_tool": ([call("find_hotel", city="Oslo")], [(0, 0, "wrong_tool", None)]),
    "wrong_tool_keeps_its_schema_errors": (
        [call("find_hotel", town="Oslo")],
        [(0, 0, "wrong_tool", None), (0, 0, "unknown_argument", "/town"), (0, 0, "missing_argument", "/city")],
    ),
    "duplicate_call": ([call("book_flight", **OSLO)] * 2, [(1, 0, "duplicate_call", None)]),
    "duplicate_with_reordered_arguments": (
        [call("book_flight", **OSLO), call("book_flight", days=3, city="Oslo")],
        [(1, 0, "duplicate_call", None)],
    ),
    "missing_argument": ([call("book_flight", city="Oslo")], [(0, 0, "missing_argument", "/days")]),
    "unknown_argument": ([call("book_flight", **OSLO, town="Oslo")], [(0, 0, "unknown_argument", "/town")]),
    "redundant_argument": ([call("book_flight", **OSLO, note="window")], [(0, 0, "redundant_argument", "/note")]),
    "default_written_down": ([call("book_flight", **OSLO, **{"class": "economy"})], []),
    "redundant_enum": (
        [call("book_flight", **OSLO, **{"class": "business"})],
        [(0, 0, "redundant_argument", "/class")],
    ),
    "bad_type": ([call("book_flight", city="Oslo", days="3")], [(0, 0, "bad_type", "/days")]),
    "boolean_is_no_integer": ([call("book_flight", city="Oslo", days=True)], [(0, 0, "bad_type", "/days")]),
    "bad_enum_of_an_argument_too_many": (
        [call("book_flight", **OSLO, **{"class": "first"})],
        [(0, 0, "bad_enum", "/class")],
    ),
    "wrong_value": (
        [call("book_flight", city="oslo ", days=30)],
        [(0, 0, "wrong_value", "/days"), (0, 0, "ungrounded_value", "/days")],
    ),
    "grounded_wrong_value": ([call("book_flight", city="flight", days=3)], [(0, 0, "wrong_value", "/city")]),
    "normalised_value": ([call("book_flight", city=" OSLO", days=3.0)], []),
    "extra_call": (
        [call("book_flight", **OSLO), call("book_flight", city="Rome", days=3)],
        [(1, 0, "extra_call", None)],
    ),
    "missing_call": ([], [(0, None, "missing_call", None)]),
    "needless_talk": (
        [call("talk_to_user", question="where to?", missing=["city"]), call("book_flight", **OSLO)],
        [(0, 0, "needless_deferral", None)],
    ),
    "needless_change": (
        [call("change_tools", reason="none"), call("book_flight", **OSLO)],
        [(0, 0, "needless_deferral", None)],
    ),
    "retry_after_an_error": (
        [call("book_flight", city="Oslo"), call("book_flight", **OSLO)],
        [(0, 0, "missing_argument", "/days")],
    ),
    "the_same_error_twice": (
        [call("book_flight", city="Oslo")] * 2,
        [(0, 0, "missing_argument", "/days"), (1, 0, "duplicate_call", None), (1, 0, "missing_argument", "/days")],
    ),
    "duplicate_in_one_message": (
        [[call("book_flight", **OSLO), call("book_flight", **OSLO)]],
        [(0, 1, "duplicate_call", None)],
    ),
    "two_errors_in_one_message": (
        [[call("find_hotel", city="Oslo"), BROKEN]],
        [(0, 0, "wrong_tool", None), (0, 1, "malformed", None)],
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_single_call_table(build, name):
    turns, expected = ROWS[name]
    trajectory = build.play(build.task(call("book_flight", **OSLO)), *turns, build.finish())
    assert sorted(found(trajectory), key=str) == sorted(expected, key=str)


def test_bad_format_of_the_right_argument(build):
    dated = build.spec("book_room", {"date": {"type": "string", "format": "date"}})
    task = build.task(call("book_room", date="2026-03-04"), tools=[dated], request="A room on 2026-03-04")
    assert found(build.play(task, call("book_room", date="4 March"), build.finish())) == [(0, 0, "bad_format", "/date")]


def test_bad_enum_of_the_right_argument(build):
    task = build.task(call("book_flight", **OSLO, **{"class": "business"}))
    made = call("book_flight", **OSLO, **{"class": "posh"})
    assert found(build.play(task, made, build.finish())) == [(0, 0, "bad_enum", "/class")]


def test_optional_argument_counts_only_where_the_reference_demands_it(build):
    plain = call("book_flight", **OSLO)
    demanded = build.task(call("book_flight", **OSLO, note="window"))
    assert found(build.play(demanded, plain, build.finish())) == [(0, 0, "missing_argument", "/note")]
    accepted = build.task(call("book_flight", **OSLO, note={"any_of": ["window", ""]}))
    assert found(build.play(accepted, plain, build.finish())) == []
    default = build.task(call("book_flight", **OSLO, **{"class": "economy"}))
    assert found(build.play(default, plain, build.finish())) == []


def test_every_alternative_is_right(build):
    task = build.task(call("book_flight", city={"any_of": ["Oslo", "OSL"]}, days=3))
    for city in ("Oslo", "OSL"):
        assert found(build.play(task, call("book_flight", city=city, days=3), build.finish())) == []


def test_no_call_is_right_where_the_reference_is_empty(build):
    assert found(build.play(build.task(), call("find_hotel", city="Oslo"), build.finish())) == [
        (0, 0, "irrelevant_tool", None)
    ]
    assert found(build.play(build.task(), build.finish())) == []


def test_missing_call_names_each_reference_call_that_was_never_attempted(build):
    task = build.task(call("find_hotel", city="Oslo"), call("get_weather", city="Oslo"), kind=TaskKind.PARALLEL)
    verdict = judge(build.play(task, call("find_hotel", city="Rome"), build.finish()))
    assert [error.kind for error in verdict.errors if error.call is None] == [ErrorKind.MISSING_CALL]
    assert "get_weather" in verdict.errors[-1].detail
    assert verdict.open == (0, 1)


def test_parallel_calls_match_in_any_order_and_message(build):
    references = [call("find_hotel", city="Oslo"), call("find_hotel", city="Rome")]
    task = build.task(*references, kind=TaskKind.PARALLEL)
    for turns in ([references[::-1]], references[::-1], [[references[1]], [references[0]]]):
        verdict = judge(build.play(task, *turns, build.finish()))
        assert not verdict.errors and verdict.success


def test_alternatives_are_matched_so_that_most_calls_are_right(build):
    task = build.task(call("find_hotel", city={"any_of": ["Oslo", "Rome"]}), call("find_hotel", city="Oslo"))
    verdict = judge(build.play(task, call("find_hotel", city="Oslo"), call("find_hotel", city="Rome"), build.finish()))
    assert not verdict.errors and verdict.success


def test_wrong_calls_of_one_message_are_compared_with_the_calls_they_fit_best(build):
    task = build.task(
        call("book_flight", city="Oslo", days=3),
        call("find_hotel", city="Rome"),
        kind=TaskKind.PARALLEL,
        request="Oslo for 3 days, Rome, Bonn",
    )
    made = [call("find_hotel", city="Bonn"), call("book_flight", city="Bonn", days=3)]
    assert found(build.play(task, made, build.finish())) == [
        (0, 0, "wrong_value", "/city"),
        (0, 1, "wrong_value", "/city"),
    ]


def test_a_missing_call_of_a_tool_that_was_called_says_so(build):
    calls = [call("find_hotel", city="Oslo"), call("find_hotel", city="Rome"), call("pay_bill", bill_id="B7")]
    task = build.task(*calls, kind=TaskKind.PARALLEL, request="hotels in Oslo and Rome, pay B7")
    errors = classify(build.play(task, calls[0], build.finish()))
    assert [error.detail for error in errors] == ["find_hotel was called too few times", "pay_bill was never called"]


def test_order_counts_only_where_the_task_says_so(build):
    calls = [call("find_hotel", city="Oslo"), call("pay_bill", bill_id="B7")]
    free = build.task(*calls, request="hotel in Oslo, pay B7")
    fixed = build.task(*calls, request="hotel in Oslo, pay B7", ordered=True)
    assert judge(build.play(free, *calls[::-1], build.finish())).success
    verdict = judge(build.play(fixed, *calls[::-1], build.finish()))
    assert [(error.turn, error.kind) for error in verdict.errors] == [(0, ErrorKind.WRONG_TOOL)]
    assert not verdict.success
    assert judge(build.play(fixed, *calls[::-1], calls[1], build.finish())).success


def test_calls_of_one_message_in_the_wrong_order_are_an_error(build):
    calls = [call("find_hotel", city="Oslo"), call("pay_bill", bill_id="B7")]
    task = build.task(*calls, request="hotel in Oslo, pay B7", ordered=True)
    verdict = judge(build.play(task, calls[::-1], build.finish()))
    assert [(error.call, error.kind, error.detail) for error in verdict.errors] == [
        (0, ErrorKind.WRONG_TOOL, "pay_bill was called before its turn")
    ]
    assert not verdict.success
    assert not judge(build.play(task, calls, build.finish())).errors


def test_a_later_right_call_of_an_ordered_message_is_right_beside_a_wrong_one(build):
    task = build.task(
        call("find_hotel", city="Oslo"), call("pay_bill", bill_id="B7"), request="Oslo, B7, Rome", ordered=True
    )
    trajectory = build.play(task, [call("find_hotel", city="Rome"), call("pay_bill", bill_id="B7")], build.finish())
    assert found(trajectory) == [(0, 0, "wrong_value", "/city")]


def test_chain_value_guessed_before_it_was_read_is_ungrounded(build):
    task = build.task(
        call("find_hotel", city="Oslo"),
        call("pay_bill", bill_id="B77"),
        kind=TaskKind.CHAIN,
        request="Find a hotel in Oslo and pay its bill",
        ordered=True,
    )
    right = build.play(
        task,
        call("find_hotel", city="Oslo"),
        call("pay_bill", bill_id="B77"),
        build.finish(),
        answers=['{"bill_id":"B77"}'],
    )
    assert judge(right).success and not classify(right)
    guess = build.play(task, [call("find_hotel", city="Oslo"), call("pay_bill", bill_id="X1")], build.finish())
    assert found(guess) == [(0, 1, "wrong_value", "/bill_id"), (0, 1, "ungrounded_value", "/bill_id")]
    too_early = build.play(task, call("pay_bill", bill_id="X1"), call("find_hotel", city="Oslo"), build.finish())
    assert found(too_early)[:2] == [(0, 0, "wrong_tool", None), (0, 0, "ungrounded_value", "/bill_id")]


@pytest.mark.parametrize("status", [ToolStatus.FAILED, ToolStatus.TIMED_OUT])
def test_repeating_a_call_that_got_no_answer_is_right(build, status):
    task = build.task(call("book_flight", **OSLO))
    once = call("book_flight", **OSLO)
    verdict = judge(build.play(task, once, once, build.finish(), answers=[(status, "try again")]))
    assert not verdict.errors and verdict.success and len(verdict.matches) == 1
    again = build.play(task, once, once, once, build.finish(), answers=[(status, "try again")])
    assert found(again) == [(2, 0, "duplicate_call", None)]


def test_a_tool_that_answers_differently_may_be_asked_again(build):
    task = build.task(known=False)
    twice = [call("get_weather", city="Oslo")] * 2
    assert found(build.play(task, *twice, answers=["rain", "sun"])) == []
    assert found(build.play(task, *twice, answers=["rain", "rain"])) == [(1, 0, "duplicate_call", None)]


@pytest.mark.parametrize("ending", [Ending.ENV_FAILED, Ending.ENGINE_FAILED])
def test_a_failure_of_the_infrastructure_is_no_missing_call(build, ending):
    trajectory = build.play(build.task(call("book_flight", **OSLO)), ending=ending)
    assert classify(trajectory) == [] and judge(trajectory).success is None


# Deferrals.


def missing_task(build, **fields):
    return build.task(
        build.call("talk_to_user", missing=["city"]),
        call("book_flight", **OSLO),
        kind=TaskKind.MISSING_ARGUMENT,
        request=fields.pop("request", "Book a flight for 3 days"),
        ordered=True,
        **fields,
    )


def test_right_question_then_call(build):
    verdict = judge(
        build.play(
            missing_task(build),
            build.ask("city"),
            call("book_flight", **OSLO),
            build.finish(),
            answers=['{"city":"Oslo"}'],
        )
    )
    assert not verdict.errors and verdict.success and verdict.deferred_first and verdict.deferral_due
    assert [match.reference for match in verdict.matches] == [0, 1]


def test_guess_where_a_question_was_due(build):
    trajectory = build.play(missing_task(build), call("book_flight", city="Rome", days=3), build.finish())
    assert found(trajectory) == [
        (0, 0, "missed_deferral", None),
        (0, 0, "wrong_value", "/city"),
        (0, 0, "ungrounded_value", "/city"),
    ]


def test_lucky_guess_is_a_guess_and_the_call_is_due_again_after_the_question(build):
    guess = call("book_flight", **OSLO)
    trajectory = build.play(missing_task(build), guess, build.finish())
    assert found(trajectory) == [(0, 0, "missed_deferral", None), (0, 0, "ungrounded_value", "/city")]
    verdict = judge(build.play(missing_task(build), guess, build.ask("city"), guess, build.finish()))
    assert [error.turn for error in verdict.errors] == [0, 0]
    assert verdict.success and not verdict.deferred_first


def test_question_and_guess_in_one_message_is_a_guess(build):
    trajectory = build.play(missing_task(build), [build.ask("city"), call("book_flight", **OSLO)], build.finish())
    assert found(trajectory) == [(0, 1, "missed_deferral", None), (0, 1, "ungrounded_value", "/city")]


def test_a_reference_may_accept_several_questions(build):
    question = build.call("talk_to_user", missing={"any_of": [["city"], ["days", "city"]]})
    task = build.task(question, kind=TaskKind.MISSING_ARGUMENT, request="Book a flight")
    for asked in (["city"], ["city", "days"]):
        assert found(build.play(task, build.ask(*asked))) == []
    (error,) = classify(build.play(task, build.ask("days")))
    assert (error.kind, error.argument, error.detail) == ("wrong_value", "/missing", "what is missing: city, days")
    guess = build.play(task, call("book_flight", city="Rome", days=3))
    assert (0, 0, "ungrounded_value", "/city") in found(guess)


def test_call_without_the_missing_argument_is_missed_deferral_and_missing_argument(build):
    trajectory = build.play(missing_task(build), call("book_flight", days=3), build.finish())
    assert found(trajectory) == [(0, 0, "missed_deferral", None), (0, 0, "missing_argument", "/city")]


def test_unknown_tool_where_a_question_was_due_is_both(build):
    trajectory = build.play(missing_task(build), call("fly", city="Oslo"), build.finish())
    assert found(trajectory) == [(0, 0, "missed_deferral", None), (0, 0, "unknown_tool", None)]


@pytest.mark.parametrize("missing", [[], ["days"], ["city", "days"]])
def test_question_for_other_parameters_is_a_wrong_value_and_leaves_the_deferral_due(build, missing):
    task = missing_task(build)
    trajectory = build.play(task, build.ask(*missing), call("book_flight", **OSLO), build.finish())
    assert found(trajectory)[:2] == [(0, 0, "wrong_value", "/missing"), (1, 0, "missed_deferral", None)]
    corrected = judge(build.play(task, build.ask(*missing), build.ask("City "), build.finish()))
    assert [match.reference for match in corrected.matches] == [0]
    assert not corrected.deferred_first


def test_other_deferral_than_the_due_one_is_needless(build):
    trajectory = build.play(missing_task(build), build.other_tools(), build.finish())
    assert found(trajectory)[0] == (0, 0, "needless_deferral", None)


def test_question_without_its_required_argument_is_not_right(build):
    trajectory = build.play(missing_task(build), call("talk_to_user", missing=["city"]), build.finish())
    assert (0, 0, "missing_argument", "/question") in found(trajectory)
    assert judge(trajectory).matches == ()


def test_second_question_is_needless_unless_the_first_got_no_answer(build):
    task = missing_task(build)
    turns = [build.ask("city"), build.ask("city"), call("book_flight", **OSLO), build.finish()]
    assert found(build.play(task, *turns)) == [(1, 0, "needless_deferral", None)]
    assert found(build.play(task, *turns, answers=[(ToolStatus.TIMED_OUT, "")])) == []


def test_finishing_where_a_question_was_due_is_a_missing_call_for_each_reference_call(build):
    assert [row[2] for row in found(build.play(missing_task(build), build.finish()))] == ["missing_call"] * 2


def test_example_default_or_enum_never_grounds_a_value_that_only_the_user_knows(build):
    schema = {"type": "string", "enum": ["Oslo", "Rome"], "default": "Rome", "examples": ["Rome"]}
    tool = build.spec("fly", {"city": schema})
    task = build.task(
        build.call("talk_to_user", missing=["city"]),
        call("fly", city="Oslo"),
        kind=TaskKind.MISSING_ARGUMENT,
        tools=[tool],
        request="Fly somewhere",
    )
    assert (0, 0, "ungrounded_value", "/city") in found(build.play(task, call("fly", city="Rome"), build.finish()))


def test_default_and_example_ground_a_value_elsewhere_but_not_in_a_missing_argument_task(build):
    tool = build.spec("fly", {"city": {"type": "string", "default": "Rome", "examples": ["Paris"]}})
    for kind, expected in ((TaskKind.SINGLE, False), (TaskKind.MISSING_ARGUMENT, True)):
        for city in ("Rome", "Paris"):
            task = build.task(known=False, kind=kind, tools=[tool], request="Fly somewhere")
            kinds = [row[2] for row in found(build.play(task, call("fly", city=city)))]
            assert ("ungrounded_value" in kinds) == expected


def unmatched_task(build, served=True):
    reference = [build.call("change_tools")]
    if served:
        reference.append(call("pay_bill", bill_id="B7"))
    return build.task(
        *reference, kind=TaskKind.UNMATCHED_TOOLS, tools=[build.BOOK, build.FIND], request="Pay B7 from Oslo"
    )


def test_call_where_no_offered_tool_serves_is_irrelevant_and_a_missed_deferral(build):
    trajectory = build.play(unmatched_task(build), call("find_hotel", city="Oslo"), build.finish())
    assert found(trajectory) == [
        (0, 0, "missed_deferral", None),
        (0, 0, "irrelevant_tool", None),
    ]


def test_other_tools_then_the_call(build):
    new = {0: [build.PAY, build.WEATHER]}
    right = judge(
        build.play(
            unmatched_task(build), build.other_tools(), call("pay_bill", bill_id="B7"), build.finish(), new_tools=new
        )
    )
    assert not right.errors and right.success and right.deferred_first
    wrong = build.play(
        unmatched_task(build), build.other_tools(), call("get_weather", city="Oslo"), build.finish(), new_tools=new
    )
    assert found(wrong) == [(1, 0, "wrong_tool", None)]
    old = build.play(
        unmatched_task(build), build.other_tools(), call("find_hotel", city="Oslo"), build.finish(), new_tools=new
    )
    assert found(old) == [(1, 0, "unknown_tool", None)]


def test_call_after_no_other_tool_came_is_irrelevant(build):
    trajectory = build.play(
        unmatched_task(build, served=False), build.other_tools(), call("find_hotel", city="Oslo"), build.finish()
    )
    assert found(trajectory) == [(1, 0, "irrelevant_tool", None)]


# Unknown reference: only what needs no reference.


def test_unknown_reference_leaves_what_the_schema_and_the_texts_say(build):
    task = build.task(known=False)
    assert found(build.play(task, call("find_hotel", city="Oslo"), build.ask("x"), build.finish())) == []
    assert found(build.play(task, call("find_hotel", city="Rome"))) == [(0, 0, "ungrounded_value", "/city")]
    assert found(build.play(task, call("fly"))) == [(0, 0, "unknown_tool", None)]
    assert judge(build.play(task, build.finish())).success is None


def test_unknown_reference_of_an_unmatched_task_makes_offered_tools_irrelevant(build):
    task = build.task(known=False, kind=TaskKind.UNMATCHED_TOOLS)
    assert [row[2] for row in found(build.play(task, call("find_hotel", city="Oslo")))] == [
        "missed_deferral",
        "irrelevant_tool",
    ]
    assert found(build.play(task, build.other_tools())) == []


# Grounding.


@pytest.mark.parametrize(
    ("request_text", "schema", "value", "grounded"),
    [
        ("to New York, please", {"type": "string"}, "new  york", True),
        ("to New York", {"type": "string"}, "York", True),
        ("to Newark", {"type": "string"}, "New", False),
        ("for 1,200 euros", {"type": "number"}, 1200, True),
        ("three nights", {"type": "integer"}, 3, True),
        ("room 13", {"type": "integer"}, 3, False),
        ("nothing", {"type": "integer"}, 10**400, False),
        ("a 20% tip", {"type": "number"}, 0.2, True),
        ("on May 3, 2026", {"type": "string", "format": "date"}, "2026-05-03", True),
        ("on the 3rd of May", {"type": "string", "format": "date"}, "2026-05-03", True),
        ("on May 3, 2025", {"type": "string", "format": "date"}, "2026-05-03", False),
        ("on 03.05.2026", {"type": "string", "format": "date"}, "2026-05-03", True),
        ("on May 4", {"type": "string", "format": "date"}, "2026-05-03", False),
        ("see you tomorrow", {"type": "string", "format": "date"}, "2026-05-03", True),
        ("nothing", {"type": "string", "enum": ["red", "blue"]}, "red", True),
        ("Oslo and Rome", {"type": "array", "items": {"type": "string"}}, ["Rome", "Oslo"], True),
        ("Oslo and Rome", {"type": "array", "items": {"type": "string"}}, ["Rome", "Bonn"], False),
    ],
)
def test_grounding_of_required_values(build, request_text, schema, value, grounded):
    tool = build.spec("go", {"x": schema})
    task = build.task(known=False, tools=[tool], request=request_text)
    assert (found(build.play(task, call("go", x=value))) == []) == grounded


def test_optional_values_are_not_checked_for_grounding(build):
    assert found(build.play(build.task(known=False), call("find_hotel", city="Oslo", stars=9))) == []


def test_results_ground_later_values_but_refusals_do_not(build):
    task = build.task(known=False, request="Pay my bill")
    pay = call("pay_bill", bill_id="B77")
    assert found(build.play(task, call("find_hotel", city="bill"), pay, answers=["bill B77"])) == []
    refused = build.play(task, pay, pay, answers=[(ToolStatus.FAILED, "unknown bill B77")])
    assert [row[2] for row in found(refused)] == ["ungrounded_value"] * 2


def test_number_in_the_answer_that_was_never_read_is_ungrounded(build):
    task = build.task(call("find_hotel", city="Oslo"), answer="Grand, 120")
    right = call("find_hotel", city="Oslo")
    answers = ['{"price":120,"name":"Grand"}']
    assert found(build.play(task, right, build.finish("It costs 120."), answers=answers)) == []
    assert found(build.play(task, right, build.finish("It costs 99."), answers=answers)) == [
        (1, 0, "ungrounded_answer", "/answer")
    ]


def with_places(trajectory, *places):
    """The same trajectory, its turns knowing where their calls stand."""
    turns = [replace(turn, places=tuple(own)) for turn, own in zip(trajectory.turns, places, strict=True)]
    return replace(trajectory, turns=tuple(turns))


def spans(trajectory):
    return {
        (error.turn, str(error.kind), error.argument): None if error.start is None else (error.start, error.end)
        for error in classify(trajectory)
    }


def test_errors_carry_the_token_span_of_what_is_wrong(build):
    task = build.task(call("book_flight", **OSLO), call("pay_bill", bill_id="7"))
    made = call("book_flight", city=5, days=4, colour="red")
    trajectory = build.play(task, BROKEN, call("fly"), made, build.finish())
    first, second, third, last = (turn.start for turn in trajectory.turns)
    trajectory = with_places(
        trajectory,
        [CallPlace(span=(first, first + 2))],
        [CallPlace(span=(second, second + 3), name=(second + 1, second + 2))],
        [
            CallPlace(
                span=(third, third + 3),
                name=(third, third + 1),
                keys={"/city": (third, third + 1), "/days": (third, third + 1), "/colour": (third + 1, third + 3)},
                values={
                    "/city": (third + 2, third + 3),
                    "/days": (third + 1, third + 2),
                    "/colour": (third, third + 3),
                },
            )
        ],
        [CallPlace(span=(last, last + 3))],
    )
    assert spans(trajectory) == {
        (0, "malformed", None): (first, first + 2),
        (1, "unknown_tool", None): (second + 1, second + 2),
        (2, "bad_type", "/city"): (third + 2, third + 3),
        (2, "wrong_value", "/days"): (third + 1, third + 2),
        (2, "ungrounded_value", "/days"): (third + 1, third + 2),
        (2, "unknown_argument", "/colour"): (third + 1, third + 3),
        (3, "missing_call", None): None,
    }


def test_errors_point_into_nested_arguments(build):
    stop = {
        "type": "object",
        "properties": {"via": {"type": "string"}, "nights": {"type": "integer"}},
        "required": ["via"],
    }
    trip = build.spec("plan_trip", {"stops": {"type": "array", "items": stop}}, {"note": {"type": "object"}})
    request = "Rome, 2 nights, then Bonn, 3"
    wanted = [{"via": "Rome", "nights": 2}, {"via": "Bonn", "nights": 3}]
    task = build.task(call("plan_trip", stops=wanted), tools=(trip,), request=request)
    made = [{"via": "Rome", "nights": "2"}, {"nights": 2, "hotel": "x"}]
    assert found(build.play(task, call("plan_trip", stops=made), build.finish())) == [
        (0, 0, "bad_type", "/stops/0/nights"),
        (0, 0, "missing_argument", "/stops/1/via"),
        (0, 0, "wrong_value", "/stops/1/nights"),
        (0, 0, "unknown_argument", "/stops/1/hotel"),
    ]
    assert found(build.play(task, call("plan_trip", stops=wanted), build.finish())) == []


def test_errors_carry_the_span_of_their_turn_where_no_more_is_known(build):
    trajectory = build.play(build.task(call("book_flight", **OSLO)), BROKEN, call("fly"), build.finish())
    for error in classify(trajectory):
        turn = trajectory.turns[error.turn]
        assert (error.start, error.end) == (turn.start, turn.end)


def test_errors_of_recorded_outputs_have_no_token_span():
    task = Task(task_id="t", prompt=(Message(role="user", content="?"),), tools=())
    message = Message(role="assistant", calls=(call("fly"),))
    (error,) = classify(unrendered(task, [(message, ())]))
    assert error.kind == "unknown_tool"
    assert (error.start, error.end) == (None, None)


def test_every_kind_of_the_papers_is_mapped():
    assert set(RELIGN_CLASSES.values()) == {"type", "timing", "format", "content"}
    assert len(TL_CLASSES) == 7
    kinds = [ErrorKind.UNGROUNDED_VALUE, ErrorKind.UNKNOWN_ARGUMENT, ErrorKind.DUPLICATE_CALL]
    assert first_class(kinds, RELIGN_CLASSES) == "timing"
    assert first_class(kinds, TL_CLASSES) == "parameter hallucination"
    assert first_class([ErrorKind.EXTRA_CALL], TL_CLASSES) is None


def test_finish_is_required_for_success(build):
    task = build.task(call("book_flight", **OSLO))
    assert judge(build.play(task, call("book_flight", **OSLO), "done")).success is False
    assert judge(build.play(task, call("book_flight", **OSLO), build.finish())).success is True
