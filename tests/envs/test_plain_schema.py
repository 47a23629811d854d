"""Arguments that fit at a glance fit."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from envs import schema
from envs.schema import check, check_schema

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([1.0, 1.5, "", "a", "2026-03-01"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=2),
    max_leaves=5,
)
SCHEMAS = st.recursive(
    st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(["string", "integer", "number", "boolean", "null", "array", "object", ["string"]]),
            "enum": st.sampled_from([["a", "b"], [1, "a"], ["a", True]]),
            "format": st.just("date"),
            "minimum": st.just(0),
            "description": st.just("x"),
            "default": st.just("a"),
        },
    ),
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(["object", "array"]),
            "properties": st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
            "required": st.lists(st.sampled_from("abc"), max_size=2, unique=True),
            "items": inner,
            "additionalProperties": st.booleans(),
            "anyOf": st.lists(inner, min_size=1, max_size=2),
        },
    ),
    max_leaves=6,
)


@settings(max_examples=500, deadline=None, database=None)
@given(VALUES, SCHEMAS)
def test_what_surely_fits_has_no_problem(value, parameters):
    if schema._surely_fits(value, parameters):
        assert list(schema._validator(json.dumps(parameters)).iter_errors(value)) == []


@settings(max_examples=500, deadline=None, database=None)
@given(st.dictionaries(st.sampled_from("abc"), VALUES, max_size=3), SCHEMAS)
def test_the_glance_changes_nothing(arguments, parameters):
    try:
        check_schema(parameters)
    except ValueError:
        return
    quick = check(arguments, parameters)
    glance = schema._surely_fits
    schema._surely_fits = lambda *_: False
    try:
        assert check(arguments, parameters) == quick
    finally:
        schema._surely_fits = glance


def test_usual_arguments_fit_at_a_glance():
    parameters = {"type": "object", "properties": {"a": {"type": "string", "enum": ["x"]}}, "required": ["a"]}
    assert schema._surely_fits({"a": "x"}, parameters)
