from __future__ import annotations

import pytest

from envs.types import MalformedCall, Message, Outcome, TaskKind, ToolCall, ToolStatus
from rewards.classify import judge
from rewards.reliability import Status, is_solvable, reliability, uses_result
from rewards.relign import labels
from rewards.utility import Utility
from rollout.trajectory import Ending
from rollout.unrendered import unrendered

BROKEN = MalformedCall(text="{", reason="no JSON")


def call(name, /, **arguments):
    return ToolCall(name=name, arguments=arguments)


RIGHT = call("book_flight", city="Oslo", days=3)
GUESS = call("book_flight", city="Rome", days=3)


def found(trajectory):
    verdict = judge(trajectory)
    return reliability(trajectory, verdict, labels(trajectory, verdict))


def missing(build):
    return build.task(
        call("talk_to_user", missing=["city"]),
        RIGHT,
        kind=TaskKind.MISSING_ARGUMENT,
        request="Book a flight for 3 days",
        ordered=True,
    )


def test_solving_at_the_first_call_is_worth_twenty_and_each_call_more_costs_one(build):
    task = build.task(RIGHT)
    assert Utility()(build.play(task, RIGHT, build.finish())).total == 20
    score = Utility()(build.play(task, GUESS, BROKEN, RIGHT, build.finish()))
    assert score.per_turn.tolist() == [0, -1, -1, 20]
    assert score.parts == {"benefit": 20.0, "cost": -2.0}


def test_at_most_ten_calls_count(build):
    calls = [call("find_hotel", city=f"city {number}") for number in range(14)]
    assert Utility()(build.play(build.task(RIGHT), *calls, RIGHT, build.finish())).total == 20 - 9
    due = build.task(call("change_tools"), kind=TaskKind.UNMATCHED_TOOLS)
    played = build.play(due, *calls, build.other_tools(), build.finish())
    assert found(played).cost == 10
    assert Utility()(played).parts["cost"] == -10


def test_without_finish_nothing_passes_not_even_what_cannot_be_solved(build):
    solved = found(build.play(build.task(RIGHT), RIGHT))
    assert (solved.status, solved.passed, solved.utility) == (Status.UNSOLVED, 0.0, 0.0)
    assert found(build.play(missing(build), build.ask("city"))).passed == 0.0


def test_a_task_that_cannot_be_solved_as_it_stands_passes_by_giving_up(build):
    asked = found(build.play(missing(build), build.ask("city"), build.finish("")))
    assert (asked.status, asked.passed, asked.utility) == (Status.UNSOLVED, 1.0, 20.0)
    gone_on = found(build.play(missing(build), build.ask("city"), RIGHT, build.finish()))
    assert (gone_on.status, gone_on.utility) == (Status.SOLVED, 19.0)


def test_giving_up_what_can_be_solved_fails(build):
    given_up = found(build.play(build.task(RIGHT), build.other_tools(), build.finish()))
    assert (given_up.status, given_up.passed, given_up.utility) == (Status.UNSOLVED, 0.0, 0.0)


def test_an_answer_from_a_guess_is_hallucinated(build):
    trajectory = build.play(missing(build), GUESS, build.finish("flight XY12"), answers=['{"flight": "XY12"}'])
    guessed = found(trajectory)
    assert (guessed.status, guessed.passed, guessed.reliable) == (Status.UNSURE, 1.0, 0.0)
    assert guessed.answer_hallucinated and guessed.utility == -11
    assert Utility()(trajectory).total == -11


def test_an_answer_without_any_call_is_hallucinated_where_a_deferral_was_due(build):
    assert found(build.play(missing(build), build.finish("XY12"))).utility == -10


def test_one_clean_call_clears_the_answer_unless_it_uses_a_made_up_one(build):
    clean = call("get_weather", city="Oslo")
    for answer, hallucinated in [("sunny", False), ("flight XY12.", True)]:
        trajectory = build.play(
            build.task(RIGHT, known=False),
            clean,
            GUESS,
            build.finish(answer),
            answers=['{"sky": "sunny"}', '{"flight": "XY12", "class": null, "done": true}'],
        )
        one = found(trajectory)
        assert (one.status, one.answer_hallucinated) == (Status.UNSURE, hallucinated)
        assert one.passed == 0.5 and one.reliable == (0.0 if hallucinated else 0.5)
        assert one.utility == (-10 if hallucinated else 10) - 1


def test_results_of_refused_calls_and_words_of_the_request_prove_nothing(build):
    task = build.task(RIGHT)
    for answers in ([(ToolStatus.FAILED, '"XY12"')], ['"Oslo"'], ["true"]):
        trajectory = build.play(task, GUESS, answers=answers)
        assert not uses_result(trajectory, 0, 0, "XY12 Oslo true")
    assert uses_result(build.play(task, GUESS, answers=["[[[" * 2000 + "XY12"]), 0, 0, "[[[" * 2000 + "XY12")


def test_the_environment_says_whether_it_is_solved_where_no_reference_does(build):
    trajectory = build.play(build.task(known=False), RIGHT, build.finish())
    assert Utility()(trajectory).unscored == "the reference is unknown"
    for success, worth in [(True, 20.0), (False, 0.0)]:
        said = trajectory.__class__(
            **{name: getattr(trajectory, name) for name in trajectory.__slots__}
            | {"outcome": Outcome(finished=True, facts={"success": success})}
        )
        assert Utility()(said).total == worth


def test_failures_of_the_infrastructure_are_unscored(build):
    assert Utility()(build.play(build.task(RIGHT), RIGHT, ending=Ending.ENGINE_FAILED)).unscored


def test_what_is_solvable(build):
    for task, solvable in [
        (build.task(RIGHT), True),
        (build.task(known=False), True),
        (build.task(known=False, kind=TaskKind.UNMATCHED_TOOLS), False),
        (build.task(), False),
        (missing(build), False),
    ]:
        trajectory = build.play(task, build.finish())
        assert is_solvable(trajectory, judge(trajectory)) is solvable


@pytest.mark.parametrize(
    ("task", "calls", "value"),
    [
        ("solvable", (RIGHT,), 20.0),
        ("solvable", (GUESS,), 0.0),
        ("solvable", (RIGHT, GUESS), 19.0),
        ("solvable", (), 0.0),
        ("missing", (call("talk_to_user", question="?", missing=["city"]),), 20.0),
        ("missing", (GUESS,), -1.0),
        ("missing", (call("change_tools", reason="?"),), 20.0),
        ("none", (), 20.0),
        ("none", (GUESS,), -11.0),
    ],
)
def test_a_reply_has_one_outcome(build, task, calls, value):
    tasks = {
        "solvable": build.task(RIGHT),
        "missing": build.task(call("talk_to_user", missing=["city"]), kind=TaskKind.MISSING_ARGUMENT),
        "none": build.task(),
    }
    offered = (*tasks[task].tools, *build.play(tasks[task], "text").tools[-3:])
    trajectory = unrendered(tasks[task], [(Message(role="assistant", calls=calls), ())], tools=offered)
    assert Utility().reply(trajectory, judge(trajectory)).value == value
