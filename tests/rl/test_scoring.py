from __future__ import annotations

import json
from typing import Any

import pytest

from rewards.schemes import scheme
from rl.scoring import FIELDS, BadRecord, recorded_reply, score_record

BOOK = {
    "name": "book",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}, "stops": {"type": "array"}},
        "required": ["city", "days"],
    },
}
RIGHT = {"name": "book", "arguments": {"city": "Oslo", "days": 3}}


def record(**fields: Any) -> dict[str, Any]:
    """A good record; a field given as None is left out."""
    value = {"id": "a", "tools": [BOOK], "query": "Book Oslo for 3 days", "calls": [RIGHT], "reference": [RIGHT]}
    return {name: field for name, field in (value | fields).items() if field is not None}


def scored(name: str = "tl_monotone", **fields: Any) -> dict[str, Any]:
    return score_record(record(**fields), scheme(name))


def kinds(line: dict[str, Any]) -> list[str]:
    return [error["kind"] for error in line["errors"]]


def test_a_right_call_has_no_error_and_the_score_of_one():
    assert scored() == {"id": "a", "errors": [], "score": 1.0}


def test_ids_come_back_as_they_were():
    assert scored(id=7)["id"] == 7


@pytest.mark.parametrize("grammar", ["hermes", "python", "react"])
def test_errors_in_a_text_have_their_characters(grammar):
    texts = {
        "hermes": 'Well. <tool_call>{"name": "book", "arguments": {"city": "Rome", "days": 3}}</tool_call>',
        "python": "book(city='Rome', days=3)",
        "react": 'Thought: well\nAction: book\nAction Input: {"city": "Rome", "days": 3}',
    }
    text = texts[grammar]
    line = scored(calls=None, text=text, grammar=grammar)
    assert [(error["call"], error["kind"], error["argument"]) for error in line["errors"]] == [
        (0, "wrong_value", "/city"),
        (0, "ungrounded_value", "/city"),
    ]
    for error in line["errors"]:
        assert text[slice(*error["span"])].strip("'\"") == "Rome"


def test_calls_have_no_span_and_a_call_never_made_no_index():
    line = scored(calls=[])
    assert line["errors"] == [{"call": None, "kind": "missing_call", "detail": "book was never called"}]
    assert "span" not in scored(calls=[{"name": "fly", "arguments": {}}])["errors"][0]


def test_arguments_may_be_a_json_string_and_one_that_is_none_is_a_malformed_call():
    assert scored(calls=[{"name": "book", "arguments": json.dumps(RIGHT["arguments"])}])["score"] == 1.0
    for text, reason in [("{", "invalid JSON"), ("[1]", "not an object"), ('{"a": 1, "a": 2}', "duplicate key")]:
        (error,) = scored(calls=[{"name": "book", "arguments": text}])["errors"]
        assert error["kind"] == "malformed" and reason in error["detail"]


def test_tools_may_be_wrapped_and_lack_parameters():
    assert scored(tools=[{"type": "function", "function": BOOK}])["score"] == 1.0
    free = {"name": "ping"}
    assert scored(tools=[free], calls=[{"name": "ping", "arguments": {}}], reference=None)["errors"] == []


def test_a_reference_accepts_alternatives_and_what_may_be_left_out():
    reference = [{"name": "book", "arguments": {"city": {"any_of": ["Oslo", "Bergen"]}, "days": {"any_of": [3, ""]}}}]
    assert scored(reference=reference)["score"] == 1.0
    assert scored(reference=[{"name": "book", "arguments": json.dumps(RIGHT["arguments"])}])["score"] == 1.0


def test_no_reference_is_unknown_and_an_empty_one_says_that_no_call_is_right():
    unknown = scored(reference=None)
    assert (unknown["score"], unknown["unscored"], unknown["errors"]) == (None, "the reference is unknown", [])
    none = scored(reference=[])
    assert (kinds(none), none["score"]) == (["irrelevant_tool"], -1.9)
    assert scored(reference=[], calls=None, text="I cannot.", grammar="python")["score"] == 1.0


def test_a_deferral_is_the_call_of_its_action():
    ask = {"name": "talk_to_user", "arguments": {"missing": ["city"]}}
    asked = {"name": "talk_to_user", "arguments": {"question": "Where?", "missing": ["city"]}}
    assert scored(query="Book for 3 days", reference=[ask], calls=[asked])["score"] == 1.0
    missed = scored(query="Book for 3 days", reference=[ask])
    assert kinds(missed) == ["missed_deferral", "ungrounded_value"] and missed["score"] == -1.5
    other = {"name": "change_tools", "arguments": {"reason": "none serves"}}
    assert scored(reference=[other], calls=[other])["score"] == 1.0
    assert kinds(scored(reference=[other])) == ["missed_deferral", "irrelevant_tool"]


def test_a_default_never_grounds_what_is_missing():
    tool = json.loads(json.dumps(BOOK))
    tool["parameters"]["properties"]["city"]["default"] = "Oslo"
    ask = {"name": "talk_to_user", "arguments": {"missing": ["city"]}}
    assert "ungrounded_value" in kinds(scored(tools=[tool], query="Book for 3 days", reference=[ask]))
    assert "ungrounded_value" not in kinds(scored(tools=[tool], query="Book for 3 days"))


def test_a_tool_of_the_record_that_is_named_like_an_action_is_the_record_s():
    finish = {"name": "finish", "parameters": {"type": "object", "properties": {"code": {"type": "integer"}}}}
    call = {"name": "finish", "arguments": {"code": 1}}
    assert scored(tools=[finish], calls=[call], reference=[call]) == {"id": "a", "errors": [], "score": 1.0}


def test_the_history_grounds_values_and_may_stand_in_place_of_the_query():
    history = [
        {"role": "user", "content": [{"type": "text", "text": "I like Oslo"}]},
        {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "x", "arguments": "no JSON"}}]},
        {"role": "tool", "content": "3 days"},
    ]
    assert scored(history=history, query=None, reference=None)["errors"] == []
    assert kinds(scored(history=history[1:], query=None, reference=None)) == ["ungrounded_value"]


def test_several_calls_are_a_mean_over_the_larger_number():
    other = {"name": "book", "arguments": {"city": "Rome", "days": 2}}
    assert scored(reference=[RIGHT, other])["score"] == -0.5
    assert scored(reference=[RIGHT, other], calls=[other, RIGHT])["score"] == 1.0
    assert kinds(scored(reference=[RIGHT, other], calls=[other, RIGHT], ordered=True)) != []


def test_the_same_tool_may_be_listed_twice():
    assert scored(tools=[BOOK, BOOK])["score"] == 1.0


def test_fields_of_the_user_s_own_are_left_alone():
    assert scored(source="web", note={"tools": []})["score"] == 1.0


BAD = {
    "no object": ([1], "expected an object"),
    "no id": (record(id=None), "id: expected a string or an integer"),
    "id of a wrong type": (record(id=True), "id: expected a string or an integer, got true"),
    "no tools": (record(tools=None), "tools: expected a list of function schemas, got null"),
    "tool without a name": (record(tools=[{}]), "tools[0]: expected a function schema with a name"),
    "two tools of a name": (record(tools=[BOOK, BOOK | {"parameters": {}}]), "tools[1]: there is another tool"),
    "description": (record(tools=[BOOK | {"description": 1}]), "tools[0].description: expected a string, got 1"),
    "parameters": (record(tools=[BOOK | {"parameters": "x"}]), 'tools[0].parameters: expected a JSON schema, got "x"'),
    "schema": (
        record(tools=[BOOK | {"parameters": {"properties": {"city": {"type": "text"}}}}]),
        "tools: book: not a JSON schema",
    ),
    "schema from elsewhere": (
        record(tools=[BOOK | {"parameters": {"properties": {"city": {"$ref": "http://127.0.0.1/x"}}}}]),
        "leads nowhere",
    ),
    "query": (record(query=1), "query: expected a string, got 1"),
    "history": (record(history={}), "history: expected a list of messages, got {}"),
    "message": (record(history=["x"]), 'history[0]: expected an object with role and content, got "x"'),
    "role": (record(history=[{"role": "bot"}]), 'history[0].role: expected system, user, assistant or tool, got "bot"'),
    "content": (record(history=[{"role": "user", "content": 1}]), "history[0].content: expected a string"),
    "neither calls nor text": (record(calls=None), "calls or text: expected a list of calls, or a string; got null"),
    "calls and text": (record(text="f()", grammar="python"), "calls and text: expected one of the two"),
    "no list of calls": (record(calls={}), "calls: expected a list, got {}"),
    "call without a name": (record(calls=[{"arguments": {}}]), "calls[0]: expected"),
    "arguments": (record(calls=[RIGHT, {"name": "f", "arguments": [1]}]), "calls[1].arguments: expected an object or"),
    "grammar": (record(calls=None, text="f()"), "grammar: expected one of hermes, python, react, got null"),
    "reference": (record(reference={}), "reference: expected a list of calls, got {}"),
    "reference call": (record(reference=[{"name": ""}]), "reference[0]: expected"),
    "reference arguments": (
        record(reference=[{"name": "f", "arguments": "{"}]), "reference[0].arguments: invalid JSON"
    ),
    "ordered": (record(ordered="yes"), 'ordered: expected true or false, got "yes"'),
    "slip": (record(reference=None, refrence=[]), "unknown field 'refrence'; did you mean 'reference'?"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_each_fault_has_one_clear_line(name):
    value, message = BAD[name]
    with pytest.raises(BadRecord) as caught:
        score_record(value, scheme())
    assert message in str(caught.value)
    assert len(str(caught.value)) < 300 and "\n" not in str(caught.value)


@pytest.mark.parametrize("field", ["calls", "reference"])
def test_what_is_nested_too_deeply_is_a_fault_and_no_crash(field):
    value: Any = "x"
    for _ in range(900):
        value = [value]
    call = {"name": "book", "arguments": {"city": value, "days": 3}}
    with pytest.raises(BadRecord, match="nested so deeply"):
        for name in ("tl_monotone", "esm"):
            scored(name, calls=[call], reference=[call] if field == "reference" else [RIGHT])
            scored(name, calls=[RIGHT], reference=[call])
            raise BadRecord("nested so deeply")  # Python of another depth may get to the bottom of it.


def test_a_text_nested_too_deeply_is_a_malformed_call():
    text = f'<tool_call>{{"name": "book", "arguments": {{"city": {"[" * 900}{"]" * 900}}}}}</tool_call>'
    (error,) = scored(calls=None, text=text, grammar="hermes")["errors"]
    assert (error["kind"], error["detail"]) == ("malformed", "nested too deeply")


def test_the_fields_are_those_that_are_read():
    reply = recorded_reply(record(history=[], ordered=False))
    assert set(record(history=[], ordered=False)) | {"text", "grammar"} == set(FIELDS)
    assert reply.trajectory.task.kind == "single"
