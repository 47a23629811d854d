import gzip
import json

import pytest

from envs.toolworld.build_catalogue import examples, seal_tools, tooleyes


@pytest.mark.parametrize(
    ("kind", "description", "expected"),
    [
        ("string", "The unit (e.g., meters, cubic feet)", ["meters", "cubic feet"]),
        ("string", 'Type of activity ["education", "social"].', ["education", "social"]),
        ("string", "Cost, zero being free [0, 1].", []),
        ("string", "A city (e.g., Paris)", []),
        ("string", "A city", []),
        ("integer", "The size (e.g., 12, 18, 24)", [12, 18, 24]),
        ("number", "The rate (e.g. 0.5, 1)", [0.5, 1.0]),
        ("integer", "The size (e.g., small, large)", []),
        ("boolean", "Whether (e.g., true, false)", []),
    ],
)
def test_examples_are_read_from_descriptions(kind, description, expected):
    assert examples(kind, description) == expected


def write(path, records):
    path.write_bytes(gzip.compress("".join(json.dumps(record) + "\n" for record in records).encode()))


def test_seal_documents_that_are_offered_or_called_or_too_long_are_left_out(tmp_path):
    def document(name, parameters):
        return {
            "api_name": name,
            "api_description": "d",
            "parameters": {key: {"type": kind, "description": "x"} for key, kind in parameters.items()},
            "required": list(parameters)[:1],
            "responses": {"a": {"type": "int"}, "b": {"type": "list"}, "c": {"type": "str"}, "d": {"type": "str"}},
        }

    names = ("offered", "called", "free")
    documents = [document(name, {"a": "str", "b": "float"}) for name in names]
    write(tmp_path / "tool.jsonl.gz", [*documents, document("long", {f"p{n}": "str" for n in range(6)})])
    for split in ("dev", "test_in_domain", "test_out_domain"):
        write(tmp_path / f"candidates_{split}.jsonl.gz", [{"candidates": ["offered"]}])
        write(tmp_path / f"{split}.jsonl.gz", [{"calling": [{"api": "called"}]}])
    (tool,) = seal_tools(tmp_path)
    assert tool["name"] == "free" and tool["parameters"]["required"] == ["a"]
    assert tool["parameters"]["properties"]["b"] == {"type": "number", "description": "x"}
    assert tool["results"] == {"a": {"type": "integer"}, "c": {"type": "string"}}


def test_tooleyes_functions_lose_helpers_duplicates_and_access_keys(tmp_path):
    def function(name, *parameters):
        properties = {key: {"type": "string", "description": ""} for key in parameters}
        return {
            "name": name,
            "description": "d",
            "parameters": {"type": "object", "properties": properties, "required": list(parameters)},
        }

    functions = [function("f", "q", "api_key", "X_RapidAPI_Key"), function("finish", "answer"), function("f", "z")]
    write(tmp_path / "tool_library.jsonl.gz", [{"path": "a", "functions": functions}])
    (tool,) = tooleyes(tmp_path)
    assert list(tool["parameters"]["properties"]) == tool["parameters"]["required"] == ["q"]
