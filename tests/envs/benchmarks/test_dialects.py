import pytest

from envs.benchmarks.dialects import json_schema, parameters
from envs.schema import check, check_schema


@pytest.mark.parametrize(
    ("dialect", "expected"),
    [
        ({"type": "dict"}, {"type": "object"}),
        ({"type": "HashMap"}, {"type": "object"}),
        ({"type": "float"}, {"type": "number"}),
        ({"type": "tuple", "items": {"type": "float"}}, {"type": "array", "items": {"type": "number"}}),
        ({"type": "ArrayList", "items": {"type": "String"}}, {"type": "array", "items": {"type": "string"}}),
        ({"type": "any", "description": "d"}, {"description": "d"}),
        ({"type": "Bigint"}, {"type": "integer"}),
        ({"type": ["float", "none"]}, {"type": ["number", "null"]}),
        ({"type": ["string", "any"]}, {}),
        ({"type": "boolean", "enum": ["True", "False"]}, {"type": "boolean", "enum": [True, False]}),
        ({"type": "integer", "enum": ["1", "2", 2]}, {"type": "integer", "enum": [1, 2]}),
        (
            {"type": "integer", "enum": ["1", "dontcare"]},
            {"type": ["integer", "string"], "enum": [1, "dontcare"]},
        ),
        ({"type": "string", "enum": ["1", "2"]}, {"type": "string", "enum": ["1", "2"]}),
        ({"type": "array", "enum": ["a", "b"]}, {"type": "array", "items": {"enum": ["a", "b"]}}),
        (
            {"type": "array", "items": {"type": "string"}, "enum": ["a"]},
            {"type": "array", "items": {"type": "string", "enum": ["a"]}},
        ),
        ({"type": "string", "enum": []}, {"type": "string"}),
        ({"type": "string", "default": None}, {"type": ["string", "null"], "default": None}),
        (
            {"type": "string", "enum": ["a"], "default": None},
            {"type": ["string", "null"], "enum": ["a", None], "default": None},
        ),
        ({"type": "boolean", "default": "false"}, {"type": "boolean", "default": False}),
        ({"type": "float", "default": "0.3"}, {"type": "number", "default": 0.3}),
        ({"type": "string", "default": "3"}, {"type": "string", "default": "3"}),
        (
            {"type": "dict", "properties": {"type": {"type": "str"}}, "required": ["type", "ghost", "type"]},
            {"type": "object", "properties": {"type": {"type": "string"}}, "required": ["type"]},
        ),
        ({"type": "string", "required": True}, {"type": "string"}),
        ({"type": "string", "pattern": r"^[\w-\.]+$"}, {"type": "string", "pattern": r"^[\w\-\.]+$"}),
        ({"type": "string", "pattern": "(?<bad"}, {"type": "string"}),
        ({"additionalProperties": {"type": "float"}}, {"additionalProperties": {"type": "number"}}),
        ({"anyOf": [{"type": "dict"}]}, {"anyOf": [{"type": "object"}]}),
    ],
)
def test_dialects_become_json_schema(dialect, expected):
    assert json_schema(dialect) == expected
    check_schema({"type": "object", "properties": {"it": json_schema(dialect)}})


def test_a_document_without_parameters_has_none():
    assert parameters(None) == {"type": "object", "properties": {}}
    assert parameters({}) == {"type": "object", "properties": {}}
    with pytest.raises(ValueError, match="parameters are list"):
        parameters([])


def test_a_mended_pattern_means_what_javascript_reads():
    schema = parameters({"type": "dict", "properties": {"mail": {"type": "string", "pattern": r"^[\w-\.]+@x$"}}})
    assert check({"mail": "a-b.c@x"}, schema) == []
    assert [problem.kind for problem in check({"mail": "a b@x"}, schema)] == ["bad_format"]
