"""Golden values of the release, each worked out by hand from its formula."""

from __future__ import annotations

import pytest

from envs.types import MalformedCall, ToolCall, ToolSpec
from rewards.classify import judge
from rewards.esm_released import EsmReleased, released_score


def call(name, /, **arguments):
    return ToolCall(name=name, arguments=arguments)


def tool(name, /, required=None, **types):
    schemas = {key: {"type": kind} for key, kind in types.items()}
    needed = list(types) if required is None else required
    return ToolSpec(name=name, parameters={"type": "object", "properties": schemas, "required": needed})


ONE = tool("f", a="string")
TWO = tool("f", a="string", b="integer")
THREE = tool("f", a="string", b="integer", c="string")
OTHER = tool("g", x="string")
TWIN = tool("g", a="string", b="integer")

# Prediction, reference, tool of the prediction, score. The first eleven are those of the specification (A5.3).
GOLDEN = {
    "exact": (call("f", a="x", b=1), call("f", a="x", b=1), TWO, 1.0),
    "1 of 3 values wrong": (call("f", a="x", b=1, c="no"), call("f", a="x", b=1, c="y"), THREE, 0.939),
    "1 of 2 values wrong": (call("f", a="x", b=2), call("f", a="x", b=1), TWO, 0.909),
    "single value in another case": (call("f", a="OSLO"), call("f", a="Oslo"), ONE, 0.909),
    "single value a part": (call("f", a="Oslo"), call("f", a="Oslo, Norway"), ONE, 0.909),
    "1 extra hallucinated key": (call("f", a="x", b=1, z=1), call("f", a="x", b=1), TWO, 0.848),
    "all values wrong": (call("f", a="no", b=2), call("f", a="x", b=1), TWO, 0.818),
    "1 of 2 with wrong type and value": (call("f", a="x", b="two"), call("f", a="x", b=1), TWO, 0.818),
    "1 of 2 required missing": (call("f", a="x"), call("f", a="x", b=1), TWO, 0.773),
    "wrong tool, same schema and arguments": (call("g", a="x", b=1), call("f", a="x", b=1), TWIN, 0.727),
    "single argument wrong in type and value": (call("f", a=1), call("f", a="x"), ONE, 0.636),
    "all keys hallucinated": (call("f", y="x", z=1), call("f", a="x", b=1), TWO, 0.545),
    "wrong tool, no shared schema": (call("g", x="y"), call("f", a="x"), OTHER, 0.273),
    # The shortcuts, before anything is looked up.
    "no call": (None, call("f", a="x"), None, 0.0),
    "no arguments, none needed": (call("f"), call("f"), None, 1.0),
    "no arguments where some are needed": (call("f"), call("f", a="x"), ONE, 0.0),
    "no arguments, another tool": (call("g"), call("f"), OTHER, 0.0),
    # Its faults, kept.
    "a boolean is an integer": (call("f", a="x", b=True), call("f", a="x", b=1), TWO, 1.0),
    "the empty string is a part of anything": (call("f", a=""), call("f", a="x"), ONE, 0.909),
    "a part in another case is nothing": (call("f", a="oslo"), call("f", a="Oslo, Norway"), ONE, 0.818),
    "numbers are not canonical": (call("f", a="x", b="1"), call("f", a="x", b=1), TWO, 0.818),
    # What it crashes on, as documented.
    "unknown tool": (call("h", a="x"), call("f", a="x"), None, 0.0),
    "schema without required": (
        call("f", a="x"), call("f", a="x"), ToolSpec(name="f", parameters={"properties": {"a": {"type": "string"}}}),
        1.0
    ),
    "parameter without type": (
        call("f", a=1), call("f", a=1), ToolSpec(name="f", parameters={"properties": {"a": {"anyOf": []}}}), 1.0
    ),
    "unknown type": (
        call("f", a=1), call("f", a=1), ToolSpec(name="f", parameters={"properties": {"a": {"type": "any"}}}), 1.0
    ),
    # Ours: the release knows one value for each argument.
    "alternatives": (call("f", a="y"), call("f", a={"any_of": ["x", "y"]}), ONE, 1.0),
    "an argument that may be left out": (call("f", a="x"), call("f", a="x", b={"any_of": [1, ""]}), ONE, 1.0),
}  # fmt: skip


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_values(name):
    made, reference, spec, score = GOLDEN[name]
    assert round(released_score(made, reference, spec), 3) == score


def test_the_score_is_the_formula_to_the_last_bit():
    made, reference = call("f", a="x", b=1, c="no"), call("f", a="x", b=1, c="y")
    assert released_score(made, reference, THREE) == (3 * 1 + 3 * 1.0 + 1 * 1.0 + 2 * 1.0 + 2 * (2 / 3)) / 11


def test_calls_are_compared_in_their_order_and_divided_by_the_larger_number(build):
    right, other = call("find_hotel", city="Oslo"), call("get_weather", city="Oslo")
    reward = EsmReleased()
    both = build.play(build.task(right, other), [right, other], build.finish())
    assert reward(both).total == 1.0
    assert reward(build.play(build.task(right, other), [right], build.finish())).total == 0.5
    assert reward(build.play(build.task(right), [right, other], build.finish())).total == 0.5
    swapped = build.play(build.task(right, other), [other, right], build.finish())
    assert reward(swapped).total == pytest.approx(8 / 11)


def test_each_call_earns_on_its_turn_and_errors_are_told(build):
    right, other = call("find_hotel", city="Oslo"), call("get_weather", city="Oslo")
    trajectory = build.play(build.task(right, other), MalformedCall(text="{", reason="no JSON"), other, build.finish())
    score = EsmReleased()(trajectory)
    assert score.per_turn.tolist() == pytest.approx([0.0, 0.5, 0.0])
    assert score.errors == judge(trajectory).errors != ()
    assert score.parts["esm"] == pytest.approx(score.total)


def test_nothing_is_scored_without_a_reference(build):
    trajectory = build.play(build.task(known=False), build.finish())
    assert EsmReleased()(trajectory).unscored == "the reference is unknown"
    assert EsmReleased().reply(trajectory, judge(trajectory)).value is None
