from __future__ import annotations

import numpy as np
import pytest

from envs.types import MalformedCall, TaskKind, ToolCall, ToolSpec
from rewards.classify import judge
from rewards.esm import WEIGHTS, Esm, EsmClass, esm_terms
from rewards.esm_released import released_score


def call(name, /, **arguments):
    return ToolCall(name=name, arguments=arguments)


def tool(name="f", required=(), **schemas):
    return ToolSpec(name=name, parameters={"type": "object", "properties": schemas, "required": list(required)})


STRING, INTEGER = {"type": "string"}, {"type": "integer"}
TWO = tool(required=("a", "b"), a=STRING, b=INTEGER)
RIGHT = call("f", a="Oslo", b=1)


def total(made, reference, spec):
    return esm_terms(made, reference, spec).total()


def test_required_parameters_are_looked_for_in_the_call():
    made = call("f", a="Oslo")
    assert total(made, RIGHT, TWO) == pytest.approx(0.636, abs=5e-4)
    assert released_score(made, RIGHT, TWO) == pytest.approx(0.773, abs=5e-4)
    assert total(call("f", y="Oslo", z=1), RIGHT, TWO) == pytest.approx(0.273, abs=5e-4)


def test_a_tool_that_is_not_offered_is_worth_nothing_and_has_a_class():
    terms = esm_terms(call("g", a="Oslo", b=1), RIGHT, None)
    assert (terms.total(), terms.error) == (0.0, EsmClass.NONEXISTENT_TOOL)


@pytest.mark.parametrize(
    ("schema", "wrong"),
    [
        (INTEGER, True),
        ({"type": "number"}, "3"),
        ({"type": "string", "enum": ["x", "y"]}, "z"),
        ({"type": "string", "pattern": "^[a-z]$"}, "A1"),
        ({"type": "integer", "maximum": 5}, 6),
        ({"type": "array", "items": INTEGER}, [1, "2"]),
        ({"type": "object", "properties": {"x": INTEGER}, "required": ["x"]}, {"y": 1}),
    ],
)
def test_types_are_strict_and_so_is_all_else_that_the_schema_says(schema, wrong):
    spec = tool(required=("a",), a=schema)
    terms = esm_terms(call("f", a=wrong), call("f", a="no such value"), spec)
    assert (terms.type, terms.error) == (0.0, EsmClass.WRONG_TYPE)


@pytest.mark.parametrize(
    ("made", "wanted", "worth"),
    [
        ("", "Oslo", 0.0),
        ("Osl", "Oslo", 0.5),
        ("OSLO, n", "Oslo", 0.5),
        ("o", "Oslo", 0.0),
        ("\uff2f\uff33\uff2c\uff2f ", "oslo", 1.0),
        ("Rome", "Oslo", 0.0),
    ],
)
def test_only_a_substantial_part_of_a_string_is_nearly_right(made, wanted, worth):
    assert esm_terms(call("f", a=made), call("f", a=wanted), tool(a=STRING)).value == worth


@pytest.mark.parametrize(
    ("schema", "made", "wanted"),
    [
        ({"type": "number"}, 1, 1.0),
        ({}, "5", 5),
        ({"type": "array", "uniqueItems": True}, ["b", "a"], ["a", "b"]),
        ({"type": "string", "format": "date"}, "March 1, 2026", "2026-03-01"),
        (STRING, "y", {"any_of": ["x", "Y"]}),
    ],
)
def test_values_are_compared_by_what_they_mean(schema, made, wanted):
    assert esm_terms(call("f", a=made), call("f", a=wanted), tool(a=schema)).value == 1.0


@pytest.mark.parametrize("name", ["a/b", "a~b"])
def test_a_wrong_type_is_seen_under_any_name(name):
    one = ToolSpec(name="f", parameters={"type": "object", "properties": {name: INTEGER}})
    terms = esm_terms(call("f", **{name: "x"}), call("f", **{name: 1}), one)
    assert (terms.type, terms.error) == (0.0, EsmClass.WRONG_TYPE)


def test_a_date_that_may_be_two_days_is_not_taken_for_one_and_arrays_keep_their_order():
    date, array = {"type": "string", "format": "date"}, {"type": "array"}
    assert esm_terms(call("f", a="01/03/2026"), call("f", a="2026-03-01"), tool(a=date)).value == 0.0
    assert esm_terms(call("f", a=["b", "a"]), call("f", a=["a", "b"]), tool(a=array)).value == 0.0
    unique = {"type": "array", "uniqueItems": True}
    assert esm_terms(call("f", a=["b", "b"]), call("f", a=["a", "b"]), tool(a=unique)).value == 0.0


def test_a_schema_may_lack_required_and_type():
    spec = ToolSpec(name="f", parameters={"properties": {"a": {"anyOf": [STRING, INTEGER]}, "b": {}}})
    assert total(call("f", a="OSLO", b=1.0), RIGHT, spec) == 1.0


def test_an_optional_argument_equal_to_its_default_is_neither_demanded_nor_counted():
    spec = tool(required=("a",), a=STRING, b={"type": "integer", "default": 1})
    assert total(call("f", a="Oslo"), RIGHT, spec) == 1.0
    assert total(call("f", a="Oslo", b=1), call("f", a="Oslo"), spec) == 1.0
    terms = esm_terms(call("f", a="Oslo", b=2), call("f", a="Oslo"), spec)
    assert (terms.error, terms.value, terms.key) == (EsmClass.REDUNDANT_KEY, 0.5, 1.0)


@pytest.mark.parametrize(
    ("made", "error"),
    [
        (None, EsmClass.NO_CALL),
        (call("g", x="y"), EsmClass.WRONG_TOOL),
        (call("f", a="Oslo"), EsmClass.MISSING_REQUIRED),
        (call("f", a="Oslo", b=1, z=1), EsmClass.UNKNOWN_KEY),
        (call("f", a="Oslo", b="1"), EsmClass.WRONG_TYPE),
        (call("f", a="Rome", b=1), EsmClass.WRONG_VALUE),
        (call("f", a="Osl", b=1), EsmClass.NEAR_VALUE),
        (call("f", a="OSLO", b=1.0), EsmClass.RIGHT),
    ],
)
def test_the_class_is_the_first_term_that_is_missed(made, error):
    spec = tool("g", x=STRING) if made is not None and made.name == "g" else TWO
    terms = esm_terms(made, RIGHT, spec)
    assert terms.error == error
    assert (terms.total() == 1.0) == (error == EsmClass.RIGHT)


def test_a_call_identical_to_its_reference_is_right_whatever_the_schema_says():
    assert total(call("f", b="x"), call("f", b="x"), TWO) == 1.0


def test_an_optional_argument_that_the_reference_demands_has_a_class_of_its_own():
    spec = tool(required=("a",), a=STRING, b=INTEGER)
    assert esm_terms(call("f", a="Oslo"), RIGHT, spec).error == EsmClass.MISSING_OPTIONAL


def test_what_the_judge_takes_for_right_is_right_at_every_depth():
    inner = {"type": "object", "properties": {"x": INTEGER, "y": {"type": "integer", "default": 1}}}
    spec = tool(required=("a",), a=inner)
    assert total(call("f", a={"x": 2, "y": 1}), call("f", a={"x": 2}), spec) == 1.0
    assert esm_terms(call("f", a={"x": 2, "y": 3}), call("f", a={"x": 2}), spec).error == EsmClass.WRONG_VALUE


def test_parallel_calls_are_matched_for_the_largest_sum(build):
    reference = [call("find_hotel", city=city) for city in ("Oslo", "Rome", "Bonn")]
    task = build.task(*reference, request="Hotels in Oslo, Rome, Bonn, Kiel", kind=TaskKind.PARALLEL)
    made = [call("find_hotel", city=city) for city in ("Bonn", "Kiel", "Oslo", "Rome")]
    score = Esm()(build.play(task, made, build.finish()))
    assert score.total == pytest.approx(3 / 4)
    assert score.parts["class/right"] == 3 / 4 and score.parts["class/wrong_tool"] == 1 / 4
    assert Esm()(build.play(task, made[2:3], build.finish())).total == pytest.approx(1 / 3)


def test_each_call_earns_its_share_on_its_turn_and_the_vector_stands_beside_it(build):
    right = call("book_flight", city="Oslo", days=3)
    trajectory = build.play(build.task(right), call("book_flight", city="Oslo", days=30), build.finish())
    score = Esm()(trajectory)
    np.testing.assert_allclose(score.per_turn, [10 / 11, 0.0], rtol=1e-6)
    assert score.parts == {"name": 1, "required": 1, "key": 1, "type": 1, "value": 0.5, "class/wrong_value": 1}
    weighted = sum(WEIGHTS[name] * score.parts[name] for name in WEIGHTS) / sum(WEIGHTS.values())
    assert weighted == pytest.approx(score.total)
    assert score.errors == judge(trajectory).errors


def test_weights_are_configurable_and_checked():
    made = call("f", a="Rome", b=1)
    assert esm_terms(made, RIGHT, TWO).total({**WEIGHTS, "value": 0.0}) == 1.0
    for weights in ({"names": 1.0}, {"name": -1.0}, dict.fromkeys(WEIGHTS, 0.0)):
        with pytest.raises(ValueError, match="weights"):
            Esm(weights=weights)


def test_a_deferral_is_right_whatever_its_question_says(build):
    task = build.task(call("talk_to_user", missing=["city", "days"]), kind=TaskKind.MISSING_ARGUMENT)
    assert Esm()(build.play(task, build.ask("days", "city"), build.finish())).total == 1.0
    asked = Esm()(build.play(task, build.ask("days"), build.finish()))
    assert 0 < asked.total < 1 and asked.parts["class/wrong_value"] == 1.0


def test_where_no_call_is_right_none_is_worth_one_and_any_nothing(build):
    task = build.task()
    assert Esm()(build.play(task, build.finish())).total == 1.0
    assert Esm()(build.play(task, call("find_hotel", city="Oslo"), build.finish())).total == 0.0


def test_a_malformed_call_counts_as_one_made(build):
    right = call("find_hotel", city="Oslo")
    trajectory = build.play(build.task(right), [MalformedCall(text="{", reason="no JSON"), right], build.finish())
    assert Esm()(trajectory).total == pytest.approx(0.5)


@pytest.mark.parametrize("turns", [1, 2])
def test_a_reply_is_worth_what_the_episode_is(build, turns):
    right = call("find_hotel", city="Oslo")
    trajectory = build.play(build.task(right), *[right, call("find_hotel", city="Rome")][:turns])
    assert Esm().reply(trajectory, judge(trajectory)).value == pytest.approx(Esm()(trajectory).total)


def test_nothing_is_scored_without_a_reference(build):
    trajectory = build.play(build.task(known=False), build.finish())
    assert Esm()(trajectory).unscored == "the reference is unknown"
