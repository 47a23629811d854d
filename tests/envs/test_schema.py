import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from envs.schema import PatternTooSlow, ProblemKind, check, check_schema, signature
from envs.types import ToolSpec

BOOKING = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "days": {"type": "integer", "minimum": 1},
        "price": {"type": "number"},
        "express": {"type": "boolean"},
        "class": {"type": "string", "enum": ["economy", "business"]},
        "date": {"type": "string", "format": "date"},
        "code": {"type": "string", "pattern": "^[A-Z][0-9]+$", "maxLength": 5},
        "tags": {"type": "array", "items": {"type": "string"}},
        "address": {"type": "object", "properties": {"street": {"type": "string"}}, "required": ["street"]},
        "either": {"anyOf": [{"type": "integer"}, {"type": "string", "enum": ["all"]}]},
    },
    "required": ["city"],
}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"city": "Rome"}, []),
        ({"city": "Rome", "days": 3.0}, []),
        ({"city": "Rome", "price": 3}, []),
        ({"city": "Rome", "date": "2026-02-28", "code": "K12", "tags": [], "either": 3}, []),
        ({}, [("missing_argument", "/city")]),
        ({"city": "Rome", "color": "red"}, [("unknown_argument", "/color")]),
        ({"city": "Rome", "a/b~c": 1}, [("unknown_argument", "/a~1b~0c")]),
        ({"city": 5}, [("bad_type", "/city")]),
        ({"city": None}, [("bad_type", "/city")]),
        ({"city": "Rome", "days": True}, [("bad_type", "/days")]),
        ({"city": "Rome", "days": "3"}, [("bad_type", "/days")]),
        ({"city": "Rome", "days": 3.5}, [("bad_type", "/days")]),
        ({"city": "Rome", "price": True}, [("bad_type", "/price")]),
        ({"city": "Rome", "express": 1}, [("bad_type", "/express")]),
        ({"city": "Rome", "class": "first"}, [("bad_enum", "/class")]),
        ({"city": "Rome", "days": 0}, [("bad_format", "/days")]),
        ({"city": "Rome", "date": "2026-02-30"}, [("bad_format", "/date")]),
        ({"city": "Rome", "date": "tomorrow"}, [("bad_format", "/date")]),
        ({"city": "Rome", "code": "k1"}, [("bad_format", "/code")]),
        ({"city": "Rome", "code": "K12345"}, [("bad_format", "/code")]),
        ({"city": "Rome", "tags": ["a", 2]}, [("bad_type", "/tags/1")]),
        ({"city": "Rome", "address": {}}, [("missing_argument", "/address/street")]),
        ({"city": "Rome", "either": "none"}, [("bad_enum", "/either")]),
        ({"city": "Rome", "either": []}, [("bad_enum", "/either")]),
        ({"days": "x", "z": 1}, [("unknown_argument", "/z"), ("bad_type", "/days"), ("missing_argument", "/city")]),
        ([], [("bad_type", "")]),
        ("Rome", [("bad_type", "")]),
    ],
)
def test_check_names_kind_and_pointer(arguments, expected):
    assert sorted((str(p.kind), p.pointer) for p in check(arguments, BOOKING)) == sorted(expected)


def test_several_missing_arguments_are_reported_once_each():
    parameters = {"type": "object", "properties": {"a": {}, "b": {}, "c": {}}, "required": ["a", "b", "c"]}
    assert [p.pointer for p in check({"c": 1}, parameters)] == ["/a", "/b"]


def test_additional_properties_allow_unknown_arguments_only_if_the_schema_says_so():
    closed = {"type": "object", "properties": {"a": {}}, "additionalProperties": False}
    open_ = {"type": "object", "properties": {"a": {}}, "additionalProperties": True}
    assert [p.kind for p in check({"b": 1}, closed)] == [ProblemKind.UNKNOWN_ARGUMENT]
    assert check({"b": 1}, open_) == []


def test_details_are_short_and_name_the_argument():
    problems = check({"days": "x", "class": "first"}, BOOKING)
    assert {p.detail for p in problems} == {
        "missing city",
        "days must be integer",
        "class must be one of economy|business",
    }


@pytest.mark.parametrize("schema", [{"type": "object", "properties": {"a": {"type": "dict"}}}, {"type": "string"}, 3])
def test_an_invalid_schema_is_refused(schema):
    with pytest.raises(ValueError, match="not a JSON schema"):
        check_schema(schema)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from([*BOOKING["properties"], "other"]), JSON_VALUES))
def test_check_never_raises_and_is_stable_under_json(arguments):
    problems = check(arguments, BOOKING)
    assert problems == check(json.loads(json.dumps(arguments)), BOOKING)
    assert ("missing_argument" in {p.kind for p in problems if p.pointer == "/city"}) == ("city" not in arguments)


def test_signature_is_one_line():
    tool = ToolSpec(
        name="book_flight",
        parameters={
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "days": {"type": "integer"},
                "class": {"type": "string", "enum": ["economy", "business"]},
                "date": {"type": "string", "format": "date"},
                "tags": {"type": "array", "items": {"type": "string"}},
            },
            "required": ["city", "days", "date"],
        },
    )
    assert (
        signature(tool)
        == "book_flight(city: string, days: integer, class?: economy|business, date: date, tags?: string[])"
    )
    assert signature(ToolSpec(name="ping")) == "ping()"


PLAIN_SCHEMAS = st.recursive(
    st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(["string", "integer", "number", "boolean", "array", "object", "null"]),
            "enum": st.lists(st.sampled_from(["a", "b", ""]), max_size=2),
            "format": st.sampled_from(["date", "email", "nothing"]),
            "description": st.just("x"),
            "default": st.none(),
        },
    ),
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(["array", "object"]),
            "properties": st.dictionaries(st.sampled_from(["a", "b", "c/d"]), inner, max_size=3),
            "required": st.lists(st.sampled_from(["a", "b", "z"]), max_size=2, unique=True),
            "items": inner,
            "additionalProperties": st.booleans(),
        },
    ),
    max_leaves=6,
)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([1.0, 0.5, "a", "", "2026-01-02", "x@y.z"]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["a", "b", "c/d", "z"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=400, deadline=None)
@given(PLAIN_SCHEMAS, st.dictionaries(st.sampled_from(["a", "b", "c/d", "z"]), JSON_VALUES, max_size=3))
def test_plain_schemas_give_what_jsonschema_gives(schema, arguments):
    schema = {**schema, "type": "object"}
    quick = check(arguments, schema)
    # A keyword that jsonschema has to read, and that changes nothing.
    assert quick == check(arguments, {**schema, "allOf": [{}]})
    check_schema(schema)
    Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("reference", ["http://127.0.0.1:9/schema", "other.json", "#/$defs/nowhere"])
def test_a_schema_refers_to_nothing_outside_itself(reference):
    with pytest.raises(ValueError, match="leads nowhere"):
        check_schema({"type": "object", "properties": {"a": {"$ref": reference}}})


ENDLESS = [
    {"$ref": "#"},
    {"properties": {"a": {"$ref": "#/properties/a"}}},
    {"properties": {"a": {"oneOf": [{"type": "string"}, {"$dynamicRef": "#/properties/a"}]}}},
    {"properties": {"a": {"not": {"$ref": "#/$defs/x"}}}, "$defs": {"x": {"allOf": [{"$ref": "#/properties/a"}]}}},
]


@pytest.mark.parametrize("schema", ENDLESS)
def test_a_schema_that_refers_to_itself_without_end_is_refused(schema):
    with pytest.raises(ValueError, match="without end"):
        check_schema(schema)


def test_references_do_not_mix_with_parts_that_have_an_id_of_their_own():
    with pytest.raises(ValueError, match=r"\$id of its own"):
        check_schema({"type": "object", "properties": {"a": {"$id": "http://x/y", "$dynamicRef": "#"}}})


def test_an_id_that_is_no_uri_is_refused():
    with pytest.raises(ValueError, match="is no URI"):
        check_schema({"type": "object", "properties": {"a": {"not": {"$id": "http://["}}}})
    check_schema({"$id": "http://x/y", "type": "object", "properties": {"$id": {"type": "string"}}})


def test_a_schema_of_a_tree_refers_to_itself_and_ends_with_its_value():
    node = {"type": "object", "properties": {"left": {"$ref": "#/$defs/node"}, "x": {"type": "integer"}}}
    schema = {"type": "object", "properties": {"tree": {"$ref": "#/$defs/node"}}, "$defs": {"node": node}}
    check_schema(schema)
    tree = {"x": "leaf"}
    for _ in range(30):
        tree = {"left": tree}
    (problem,) = check({"tree": tree}, schema)
    assert problem.kind == "bad_type" and problem.pointer.endswith("/left/x")


def test_a_schema_that_refers_to_its_own_parts_is_used():
    schema = {"type": "object", "properties": {"a": {"$ref": "#/$defs/x"}}, "$defs": {"x": {"type": "string"}}}
    check_schema(schema)
    assert [problem.kind for problem in check({"a": 1}, schema)] == ["bad_type"]


def test_a_number_beyond_all_arithmetic_is_a_bad_value_and_no_crash():
    schema = {"type": "object", "properties": {"a": {"multipleOf": 0.1}}}
    assert [problem.kind for problem in check({"a": 10**400}, schema)] == ["bad_format"]


def test_a_pattern_that_takes_for_ever_on_a_value_is_not_the_fault_of_the_value(monkeypatch):
    monkeypatch.setattr("envs.schema.PATTERN_SECONDS", 0.05)
    schema = {"type": "object", "properties": {"code": {"type": "string", "pattern": "^(a|a)*(a|aa)*$"}}}
    assert check({"code": "a"}, schema) == []
    assert [problem.kind for problem in check({"code": "b"}, schema)] == [ProblemKind.BAD_FORMAT]
    with pytest.raises(PatternTooSlow, match=r"within 0\.05 s"):
        check({"code": "a" * 60 + "b"}, schema)


COMPOSED = {
    "a reference": {"$ref": "#/$defs/x", "$defs": {"x": {"properties": {"a": {"type": "string"}}}}},
    "all of": {"properties": {"b": {}}, "allOf": [{"properties": {"a": {"type": "string"}}}]},
    "one of": {"oneOf": [{"properties": {"a": {"type": "string"}}}, {"properties": {"c": {}}, "required": ["c"]}]},
    "a pattern": {"allOf": [{"patternProperties": {"^a$": {"type": "string"}}}]},
    "an open part": {"allOf": [{"additionalProperties": {"type": "string"}}]},
}


@pytest.mark.parametrize("name", COMPOSED)
def test_an_argument_that_a_part_of_the_schema_names_is_known(name):
    schema = {"type": "object", **COMPOSED[name]}
    check_schema(schema)
    assert check({"a": "x"}, schema) == []
    assert "bad_type" in [problem.kind for problem in check({"a": 1}, schema)]
    unknown = [problem.pointer for problem in check({"a": "x", "zz": "y"}, schema)]
    assert unknown == ([] if name == "an open part" else ["/zz"])


def test_a_name_that_a_pattern_allows_is_not_unknown():
    schema = {"type": "object", "patternProperties": {"^x": {}}, "additionalProperties": False}
    assert [(p.kind, p.pointer) for p in check({"x1": 1, "zz": 2}, schema)] == [("unknown_argument", "/zz")]


def test_alternatives_that_ask_for_one_of_two_arguments_lack_one():
    either = {"type": "object", "properties": {"a": {}, "b": {}}, "anyOf": [{"required": ["a"]}, {"required": ["b"]}]}
    assert [(p.kind, p.pointer) for p in check({}, either)] == [("missing_argument", "")]
    address = {"anyOf": [{"type": "string"}, {"type": "object", "required": ["street"]}]}
    within = {"type": "object", "properties": {"to": address}}
    assert [(p.kind, p.pointer) for p in check({"to": {}}, within)] == [("missing_argument", "/to")]
    assert [(p.kind, p.pointer) for p in check({"to": 5}, within)] == [("bad_type", "/to")]


@pytest.mark.parametrize("value", ["a{99999999999999999999}", "(" * 3000, "("])
@pytest.mark.parametrize("more", [{}, {"minLength": 0}])
def test_what_no_regular_expression_can_be_made_of_is_a_bad_one(value, more):
    schema = {"type": "object", "properties": {"r": {"type": "string", "format": "regex", **more}}}
    assert [(p.kind, p.pointer) for p in check({"r": value}, schema)] == [("bad_format", "/r")]


@pytest.mark.parametrize("pattern", ["a{99999999999999999999}", "(" * 3000, "(", "{e}", "((a{1000}){1000}){1000}"])
def test_a_pattern_that_cannot_be_used_is_refused(pattern):
    with pytest.raises(ValueError, match="not a JSON schema"):
        check_schema({"type": "object", "properties": {"a": {"type": "string", "pattern": pattern}}})


def test_a_pattern_may_count():
    schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": "^[a-z]{2}([0-9]{3}){0,4}$"}}}
    check_schema(schema)
    assert check({"a": "ab123456"}, schema) == []
