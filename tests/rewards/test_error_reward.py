from __future__ import annotations

import math

import numpy as np
import pytest

from envs.types import MalformedCall, TaskKind, ToolCall, ToolStatus
from rewards.error_reward import ErrorReward
from rollout.trajectory import Ending

BROKEN = MalformedCall(text="{", reason="no JSON")
TASK_ARGUMENTS = {"city": "Oslo", "days": 3}


def call(name, /, **arguments):
    return ToolCall(name=name, arguments=arguments)


# (call, tl_released, tl_monotone); the reference is book_flight(city=Oslo, days=3).
TABLE = {
    "format error": (BROKEN, -2.0, -2.0),
    "tool hallucination": (call("fly", **TASK_ARGUMENTS), -2.0, -2.0),
    "wrong tool": (call("find_hotel", city="Oslo"), -1.5, -1.9),
    "wrong tool with faults": (call("find_hotel", town="Oslo"), -1.5, -1.9),
    "hal red mis": (call("book_flight", city="Oslo", note="x", day=3), -1.8, -1.6),
    "hal red": (call("book_flight", **TASK_ARGUMENTS, note="x", day=3), -1.3, -1.3),
    "hal mis": (call("book_flight", city="Oslo", day=3), -1.3, -1.3),
    "red mis": (call("book_flight", city="Oslo", note="x"), -1.0, -1.0),
    "hal": (call("book_flight", **TASK_ARGUMENTS, day=3), -0.8, -0.8),
    "red": (call("book_flight", **TASK_ARGUMENTS, note="x"), -0.5, -0.5),
    "mis": (call("book_flight", city="Oslo"), -0.5, -0.5),
    "mis and a wrong value": (call("book_flight", city="Rome"), -0.5, -0.5),
    "content": (call("book_flight", city="Oslo", days=30), -0.25, -0.25),
    "content of a wrong type": (call("book_flight", city="Oslo", days="3"), -0.25, -0.25),
    "right": (call("book_flight", **TASK_ARGUMENTS), 1.0, 1.0),
    "right in other writing": (call("book_flight", city="OSLO ", days=3.0), 1.0, 1.0),
}


@pytest.mark.parametrize("name", TABLE)
def test_table_of_the_paper(build, name):
    made, released, monotone = TABLE[name]
    trajectory = build.play(build.task(call("book_flight", **TASK_ARGUMENTS)), made, build.finish())
    assert ErrorReward("tl_released")(trajectory).per_turn[0] == pytest.approx(released)
    assert ErrorReward("tl_monotone")(trajectory).per_turn[0] == pytest.approx(monotone)


def test_each_reference_call_earns_its_share_once_on_its_turn(build):
    calls = [call("find_hotel", city="Oslo"), call("get_weather", city="Oslo")]
    task = build.task(*calls, kind=TaskKind.PARALLEL)
    score = ErrorReward()(build.play(task, calls[0], calls[0], calls[1], build.finish()))
    np.testing.assert_allclose(score.per_turn, [0.5, -0.5, 0.5, 0.0])
    assert ErrorReward()(build.play(task, calls, build.finish())).per_turn.tolist() == [1.0, 0.0]


def test_correcting_an_error_earns_the_call_and_keeps_the_cost(build):
    right = call("book_flight", **TASK_ARGUMENTS)
    score = ErrorReward()(build.play(build.task(right), call("book_flight", city="Oslo"), right, build.finish()))
    np.testing.assert_allclose(score.per_turn, [-0.5, 1.0, 0.0])
    assert score.parts == pytest.approx({"mis": -0.5, "right": 1.0})


def missing_task(build):
    return build.task(
        call("talk_to_user", missing=["city"]),
        call("book_flight", **TASK_ARGUMENTS),
        kind=TaskKind.MISSING_ARGUMENT,
        request="Book a flight for 3 days",
        ordered=True,
    )


def test_deferral_earns_one_and_so_does_the_call_behind_it(build):
    right = call("book_flight", **TASK_ARGUMENTS)
    score = ErrorReward()(build.play(missing_task(build), build.ask("city"), right, build.finish()))
    assert score.per_turn.tolist() == [1.0, 1.0, 0.0]


@pytest.mark.parametrize(
    "guess",
    [call("book_flight", **TASK_ARGUMENTS), call("book_flight", days=3), call("fly"), call("find_hotel", city="Rome")],
)
@pytest.mark.parametrize("preset", ["tl_released", "tl_monotone"])
def test_missed_deferral_costs_the_same_whatever_else_is_wrong(build, guess, preset):
    trajectory = build.play(missing_task(build), guess, build.finish())
    assert ErrorReward(preset)(trajectory).per_turn[0] == pytest.approx(-1.5)


def test_needless_and_wrong_questions(build):
    right = call("book_flight", **TASK_ARGUMENTS)
    needless = ErrorReward()(build.play(build.task(right), build.ask("city"), right, build.finish()))
    np.testing.assert_allclose(needless.per_turn, [-0.2, 1.0, 0.0])
    wrong = ErrorReward()(build.play(missing_task(build), build.ask("days"), build.ask("city"), right, build.finish()))
    np.testing.assert_allclose(wrong.per_turn, [-0.25, 1.0, 1.0, 0.0])


@pytest.mark.parametrize("preset", ["tl_released", "tl_monotone"])
def test_doing_nothing_is_worse_than_any_wrong_call(build, preset):
    reward = ErrorReward(preset)
    task = build.task(call("book_flight", **TASK_ARGUMENTS))
    nothing = reward(build.play(task, build.finish())).total
    for made, *_ in TABLE.values():
        assert reward(build.play(task, made, build.finish())).total >= nothing
    assert reward(build.play(task, "I cannot")).total == nothing
    assert reward(build.play(task, ending=Ending.MAX_TOKENS)).unscored


def test_stopping_early_is_worse_than_going_on(build):
    calls = [call("find_hotel", city="Oslo"), call("get_weather", city="Oslo")]
    task = build.task(*calls, kind=TaskKind.CHAIN, ordered=True)
    reward = ErrorReward()
    early = reward(build.play(task, calls[0], build.finish())).total
    tried = reward(build.play(task, calls[0], call("get_weather", city="Rome"), build.finish())).total
    done = reward(build.play(task, *calls, build.finish())).total
    assert early < tried < done


@pytest.mark.parametrize("ending", [Ending.MAX_TURNS, Ending.MAX_TOKENS])
def test_running_out_costs_as_much_as_finishing_early(build, ending):
    reward = ErrorReward()
    task = build.task(call("book_flight", **TASK_ARGUMENTS))
    wrong = call("book_flight", city="Oslo", days=30)
    finished = reward(build.play(task, wrong, build.finish())).total
    assert reward(build.play(task, wrong, ending=ending)).total == pytest.approx(finished)


def test_not_finishing_costs_even_when_every_call_was_right(build):
    right = call("book_flight", **TASK_ARGUMENTS)
    task = build.task(right)
    done = ErrorReward()(build.play(task, right, build.finish())).total
    assert ErrorReward()(build.play(task, right, "done")).total < done
    assert ErrorReward()(build.play(task, right, ending=Ending.MAX_TURNS)).total < done
    ended_by_the_environment = build.play(task, right)
    assert ErrorReward()(ended_by_the_environment).total == done


def test_repetition_never_pays(build):
    right = call("book_flight", **TASK_ARGUMENTS)
    for task, made in (
        (build.task(right), right),
        (build.task(right), build.ask("city")),
        (missing_task(build), build.ask("city")),
        (missing_task(build), build.ask("days")),
        (missing_task(build), right),
    ):
        totals = [ErrorReward()(build.play(task, *[made] * n, build.finish())).total for n in (1, 2, 3)]
        assert totals[0] > totals[1] > totals[2]


def test_repeating_a_call_that_timed_out_costs_and_earns_nothing(build):
    right = call("book_flight", **TASK_ARGUMENTS)
    trajectory = build.play(build.task(right), right, right, build.finish(), answers=[(ToolStatus.TIMED_OUT, "")])
    assert ErrorReward()(trajectory).per_turn.tolist() == [1.0, 0.0, 0.0]


@pytest.mark.parametrize("ending", [Ending.ENV_FAILED, Ending.ENGINE_FAILED])
def test_failures_of_the_infrastructure_are_unscored(build, ending):
    trajectory = build.play(build.task(call("book_flight", **TASK_ARGUMENTS)), BROKEN, ending=ending)
    score = ErrorReward()(trajectory)
    assert score.unscored and math.isnan(score.total) and score.per_turn.shape == (1,)


def test_unknown_reference_is_unscored(build):
    assert ErrorReward()(build.play(build.task(known=False), BROKEN)).unscored


def test_parts_add_up_to_the_total(build):
    trajectory = build.play(missing_task(build), BROKEN, build.ask("city"), call("fly"), "text")
    score = ErrorReward()(trajectory)
    assert sum(score.parts.values()) == pytest.approx(score.total)
    assert score.per_turn.dtype == np.float32


def test_rows_can_be_changed_and_misspelt_ones_are_refused(build):
    trajectory = build.play(build.task(call("book_flight", **TASK_ARGUMENTS)), BROKEN, build.finish())
    assert ErrorReward(severity={"malformed": -3.0})(trajectory).per_turn[0] == -3.0
    with pytest.raises(ValueError, match="malformd"):
        ErrorReward(severity={"malformd": -3.0})
    with pytest.raises(ValueError, match="tl_released"):
        ErrorReward("released")  # type: ignore[arg-type]


def costs_of(score) -> dict[str, float]:
    return {str(error.kind): cost for error, cost in zip(score.errors, score.costs, strict=True)}


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (BROKEN, {"malformed": -2.0}),
        (call("find_hotel", town="Oslo"), {"wrong_tool": -1.9, "unknown_argument": 0.0, "missing_argument": 0.0}),
        (call("book_flight", city="Oslo", day=3), {"unknown_argument": -0.65, "missing_argument": -0.65}),
        (call("book_flight", city="Rome"), {"missing_argument": -0.5, "wrong_value": 0.0}),
        (call("book_flight", city="Oslo", days=30), {"wrong_value": -0.125, "ungrounded_value": -0.125}),
    ],
)
def test_the_errors_that_put_a_call_into_its_row_share_its_cost(build, made, expected):
    task = build.task(call("book_flight", **TASK_ARGUMENTS))
    score = ErrorReward()(build.play(task, made, call("book_flight", **TASK_ARGUMENTS), build.finish()))
    found = {kind: cost for kind, cost in costs_of(score).items() if kind in expected}
    assert found == pytest.approx(expected)
    assert sum(score.costs) == pytest.approx(score.per_turn[0])


def test_a_missed_deferral_costs_on_the_call_that_missed_it_and_the_end_is_no_errors(build):
    score = ErrorReward()(build.play(missing_task(build), call("find_hotel", city="Rome"), build.finish()))
    costs = costs_of(score)
    assert costs["missed_deferral"] == -1.5
    assert sum(score.costs) == pytest.approx(-1.5)
    assert score.per_turn[-1] == pytest.approx(score.parts["unresolved"] + score.parts.get("never_called", 0.0))
