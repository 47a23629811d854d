from __future__ import annotations

import pytest

from envs.types import MalformedCall, Message, TaskKind, ToolCall
from rewards.classify import judge
from rewards.rubric import Rubric
from rewards.schemes import DEFAULT_SCHEME, SCHEMES, scheme
from rollout.unrendered import unrendered

BROKEN = MalformedCall(text="{", reason="no JSON")


def call(name, /, **arguments):
    return ToolCall(name=name, arguments=arguments)


RIGHT = call("book_flight", city="Oslo", days=3)
OTHER = call("find_hotel", city="Oslo")


def reply(build, name, reference, calls, **fields):
    task = build.task(*reference, **fields)
    offered = build.play(task, "text").tools
    trajectory = unrendered(task, [(Message(role="assistant", calls=tuple(calls)), ())], tools=offered)
    return scheme(name).reply(trajectory, judge(trajectory)).value


def test_the_names_are_those_of_the_contract():
    assert list(SCHEMES) == ["tl_released", "tl_monotone", "esm_released", "esm", "relign", "utility"]
    assert DEFAULT_SCHEME == "tl_monotone"


@pytest.mark.parametrize("name", SCHEMES)
def test_every_scheme_is_a_reward_that_a_recipe_can_name(build, name):
    from envs.component import Component

    component = Component(factory="rewards.schemes:scheme", options={"name": name})
    component.check()
    trajectory = build.play(build.task(RIGHT), BROKEN, RIGHT, build.finish())
    score = component.build()(trajectory)
    assert score.per_turn.shape == (3,)
    assert score.errors == judge(trajectory).errors
    better = component.build()(build.play(build.task(RIGHT), RIGHT, build.finish()))
    assert better.total > score.total


def test_a_scheme_that_is_none_and_options_that_it_lacks_are_refused():
    for name, options in [("tl", {}), ("relign", {"weights": {}}), ("esm", {"weights": {"names": 1}})]:
        with pytest.raises(ValueError):
            scheme(name, **options)
    assert scheme("esm", weights={"name": 1.0})


def test_a_rubric_sums_any_of_them(build):
    trajectory = build.play(build.task(RIGHT), RIGHT, build.finish())
    rewards = [{"factory": "rewards.schemes:scheme", "options": {"name": name}, "name": name} for name in SCHEMES]
    total = sum(scheme(name)(trajectory).total for name in SCHEMES)
    assert Rubric(rewards=rewards)(trajectory).total == pytest.approx(total, rel=1e-6)


# Calls -> tl_released, tl_monotone; the reference is one or both of RIGHT and OTHER.
REPLIES = {
    "right": ([RIGHT], [RIGHT], 1.0, 1.0),
    "wrong value": ([RIGHT], [call("book_flight", city="Oslo", days=30)], -0.25, -0.25),
    "wrong tool": ([RIGHT], [OTHER], -1.5, -1.9),
    "unparsable": ([RIGHT], [BROKEN], -2.0, -2.0),
    "no call": ([RIGHT], [], -2.0, -2.0),
    "both of two": ([RIGHT, OTHER], [OTHER, RIGHT], 1.0, 1.0),
    "one of two": ([RIGHT, OTHER], [RIGHT], -0.5, -0.5),
    "one and one wrong": ([RIGHT, OTHER], [RIGHT, call("find_hotel", city="Rome")], 0.375, 0.375),
    "one too many": ([RIGHT], [RIGHT, OTHER], -0.25, -0.45),
    "the same twice": ([RIGHT], [RIGHT, RIGHT], 0.25, 0.25),
    "rightly nothing": ([], [], 1.0, 1.0),
    "none is right": ([], [OTHER], -1.5, -1.9),
    "needless deferral": ([RIGHT], [call("talk_to_user", question="?", missing=["city"])], -0.2, -0.2),
    "the same twice in place of two": ([RIGHT, OTHER], [RIGHT, RIGHT], 0.25, 0.25),
}


@pytest.mark.parametrize("name", REPLIES)
def test_a_reply_is_the_mean_over_the_larger_number_of_calls(build, name):
    reference, calls, released, monotone = REPLIES[name]
    assert reply(build, "tl_released", reference, calls) == pytest.approx(released)
    assert reply(build, "tl_monotone", reference, calls) == pytest.approx(monotone)


def test_a_missed_deferral_costs_its_row_once(build):
    ask = call("talk_to_user", missing=["city"])
    kind = TaskKind.MISSING_ARGUMENT
    guess = [call("book_flight", city="Rome", days=3)]
    assert reply(build, "tl_monotone", [ask], guess, kind=kind) == -1.5
    assert reply(build, "tl_monotone", [ask, RIGHT], guess, kind=kind, ordered=True) == -1.5
    asked = [call("talk_to_user", question="where?", missing=["city"])]
    assert reply(build, "tl_monotone", [ask], asked, kind=kind) == 1.0


@pytest.mark.parametrize("name", ["tl_released", "tl_monotone", "esm_released", "esm", "utility"])
def test_what_needs_a_reference_says_so(build, name):
    task = build.task(known=False)
    trajectory = build.play(task, RIGHT)
    found = scheme(name).reply(trajectory, judge(trajectory))
    assert (found.value, found.unscored) == (None, "the reference is unknown")


def test_a_finish_that_the_reference_demands_is_an_action_and_no_clean_call(build):
    finish = build.finish()
    assert reply(build, "relign", [finish], [finish]) == 0.5
    assert reply(build, "relign", [RIGHT, finish], [RIGHT, finish]) == 0.75


def test_a_faulty_finish_where_no_call_is_right_costs_its_row(build):
    assert reply(build, "tl_monotone", [], [build.finish()]) == 1.0
    assert reply(build, "tl_monotone", [], [call("finish", answer=5)]) == -0.25
    assert reply(build, "tl_monotone", [], [call("finish")]) == -0.5
