import json

import pytest

from envs.types import MalformedCall, Message, Task, ToolCall, ToolSpec
from rewards.published.bfcl import METRIC, standardised
from rewards.published.bfcl_source import java_value, javascript_value
from rollout.unrendered import unrendered

PROPERTIES = {
    "city": {"type": "string"},
    "days": {"type": "integer"},
    "price": {"type": "float"},
    "tags": {"type": "array", "items": {"type": "string"}},
    "at": {"type": "tuple", "items": {"type": "float"}},
    "place": {"type": "dict"},
    "rows": {"type": "array", "items": {"type": "dict"}},
    "on": {"type": "boolean"},
}
ACCEPTED = {
    "city": ["New York, NY", "NYC"],
    "days": ["", 3],
    "price": ["", 2.0],
    "tags": ["", ["a b", "c"]],
    "at": ["", [1.5, 2.0]],
    "place": ["", {"land": ["US"], "zip": ["", 10001]}],
    "rows": ["", [{"k": [1]}, {"k": [2]}]],
    "on": ["", True],
}


def facts(category="simple_python", language="python", documents=None, truth=None) -> dict:
    document = {"name": "f", "parameters": {"type": "dict", "properties": PROPERTIES, "required": ["city"]}}
    return {
        "category": category,
        "language": language,
        "function": documents or [document],
        "ground_truth": [{"f": ACCEPTED}] if truth is None else truth,
    }


def task(benchmark: dict, tools=("f",)) -> Task:
    return Task(
        task_id="t",
        prompt=(Message(role="user", content="q"),),
        tools=tuple(ToolSpec(name=name) for name in tools),
        facts={"benchmark": benchmark},
    )


def accuracy(calls, **fields) -> float | None:
    message = Message(role="assistant", calls=tuple(calls))
    return METRIC.record(unrendered(task(facts(**fields)), [(message, ())]))["accuracy"]


def f(**arguments) -> ToolCall:
    return ToolCall(name="f", arguments=arguments)


@pytest.mark.parametrize(
    ("arguments", "right"),
    [
        ({"city": "new york ny"}, True),
        ({"city": "New-York_NY"}, True),
        ({"city": "Boston"}, False),
        ({}, False),
        ({"city": "NYC", "stars": 3}, False),
        ({"city": "NYC", "days": 3}, True),
        ({"city": "NYC", "days": 3.0}, False),
        ({"city": "NYC", "days": "3"}, False),
        ({"city": "NYC", "days": 4}, False),
        ({"city": "NYC", "price": 2}, True),
        ({"city": "NYC", "price": 2.5}, False),
        ({"city": "NYC", "tags": ["AB", "C"]}, True),
        ({"city": "NYC", "tags": ["c", "a b"]}, False),
        ({"city": "NYC", "tags": [1, 2]}, False),
        ({"city": "NYC", "at": [1.5, 2.0]}, True),
        # The types of elements are not checked where "" is among the accepted values.
        ({"city": "NYC", "at": [1.5, 2]}, True),
        ({"city": "NYC", "place": {"land": "us"}}, True),
        ({"city": "NYC", "place": {"land": "us", "zip": 10001}}, True),
        ({"city": "NYC", "place": {"zip": 10001}}, False),
        ({"city": "NYC", "place": {"land": "us", "state": "NY"}}, False),
        ({"city": "NYC", "rows": [{"k": 1}, {"k": 2}]}, True),
        ({"city": "NYC", "rows": [{"k": 2}, {"k": 1}]}, False),
        ({"city": "NYC", "rows": [{"k": 1}]}, False),
        # What is no object where the document has one is wrong, whatever it is.
        ({"city": "NYC", "rows": ["k", "k"]}, False),
        ({"city": "NYC", "rows": [1, None]}, False),
        # No float is so great.
        ({"city": "NYC", "price": 10**400}, False),
        ({"city": "NYC", "days": 10**400}, False),
        ({"city": "NYC", "on": True}, True),
        ({"city": "NYC", "on": 1}, False),
        ({"city": None}, False),
    ],
)
def test_one_call_is_checked_as_published(arguments, right):
    assert accuracy([f(**arguments)]) == float(right)


def test_what_may_not_be_left_out_is_asked_for():
    truth = [{"f": {"city": ["NYC"], "days": [3]}}]
    assert accuracy([f(city="NYC")], truth=truth) == 0.0
    assert accuracy([f(city="NYC", days=3)], truth=truth) == 1.0


def test_the_types_of_elements_are_checked_where_the_argument_may_not_be_left_out():
    truth = [{"f": {"city": ["NYC"], "at": [[1.5, 2.0]]}}]
    assert accuracy([f(city="NYC", at=[1.5, 2.0])], truth=truth) == 1.0
    assert accuracy([f(city="NYC", at=[1.5, 2])], truth=truth) == 0.0


def test_a_text_answer_to_another_type_is_a_variable_and_compared_to_the_letter():
    truth = [{"f": {"city": ["NYC"], "tags": ["myTags"]}}]
    assert accuracy([f(city="NYC", tags="myTags")], truth=truth) == 1.0
    assert accuracy([f(city="NYC", tags="mytags")], truth=truth) == 0.0


def test_the_number_and_name_of_calls_count():
    assert accuracy([]) == 0.0
    assert accuracy([f(city="NYC"), f(city="NYC")]) == 0.0
    assert accuracy([ToolCall(name="g", arguments={"city": "NYC"})]) == 0.0
    assert accuracy([f(city="NYC"), MalformedCall(text="{", reason="no JSON")]) == 0.0


def test_parallel_calls_need_no_order_and_each_answer_its_own_call():
    truth = [{"f": {"city": ["A"]}}, {"f": {"city": ["B"]}}]
    assert accuracy([f(city="B"), f(city="A")], category="parallel", truth=truth) == 1.0
    assert accuracy([f(city="B"), f(city="B")], category="parallel", truth=truth) == 0.0


def test_the_document_of_the_answer_is_used_among_several():
    documents = [
        {"name": "g", "parameters": {"properties": {}, "required": []}},
        {"name": "f", "parameters": {"properties": {"city": {"type": "string"}}, "required": ["city"]}},
    ]
    assert accuracy([f(city="NYC")], category="multiple", documents=documents, truth=[{"f": {"city": ["NYC"]}}]) == 1.0


def test_irrelevance_is_no_call_and_relevance_is_one():
    for calls, irrelevance in (([], 1.0), ([f(city="NYC")], 0.0), ([MalformedCall(text="{", reason="no JSON")], 1.0)):
        assert accuracy(calls, category="irrelevance") == irrelevance
        assert accuracy(calls, category="live_relevance") == 1.0 - irrelevance
    deferral = ToolCall(name="change_tools", arguments={"reason": "none serves"})
    assert accuracy([deferral], category="live_irrelevance") == 1.0


def test_a_tool_that_bears_the_name_of_an_action_is_a_tool():
    message = Message(role="assistant", calls=(ToolCall(name="finish", arguments={}),))
    for tools, value in ((("finish",), 0.0), (("f",), 1.0)):
        record = METRIC.record(unrendered(task(facts(category="irrelevance"), tools), [(message, ())]))
        assert record["accuracy"] == value


def test_subsets_that_have_to_be_run_are_named_missing():
    assert accuracy([f(city="NYC")], category="exec_simple") is None
    assert accuracy([f(city="NYC")], category="multi_turn_base") is None
    assert {"overall", "exec_simple", "multi_turn_base"} <= set(METRIC.missing)


JAVA = [
    ("5", "integer", None, 5),
    ("5.0", "integer", None, "5.0"),
    ("5L", "long", None, 5),
    ("5", "long", None, "5"),
    ("2.5f", "float", None, 2.5),
    ("2.5", "double", None, 2.5),
    ("true", "boolean", None, True),
    ("True", "boolean", None, "True"),
    ("name", "any", None, "name"),
    ("new ArrayList<>(Arrays.asList(101L, 202L))", "ArrayList", "long", [101, 202]),
    ('new ArrayList<String>() {{ add("a"); add("b"); }}', "ArrayList", "String", ["a", "b"]),
    ("new ArrayList<>()", "ArrayList", "String", []),
    ("items", "ArrayList", "String", "items"),
    ("new int[]{1, 2}", "Array", "integer", [1, 2]),
    ('new String[]{"a", "b"}', "Array", "String", ['"a"', '"b"']),
    ('new HashMap<String, Object>() {{ put("k", 1); put("t", "x"); }}', "HashMap", None, {"k": 1, "t": "x"}),
    ("new HashMap<>()", "HashMap", None, {}),
]
JAVASCRIPT = [
    ('"text"', "String", None, "text"),
    ("text", "String", None, "text"),
    ("3", "integer", None, 3),
    ("3.5", "float", None, 3.5),
    ("7n", "Bigint", None, 7),
    ("false", "Boolean", None, False),
    ("[1, 'a', true]", "array", None, [1, "a", True]),
    ("[1.5, 2]", "array", "float", [1.5, 2.0]),
    ("new Array('a', 'b')", "array", "String", ["a", "b"]),
    ("[[1, 2], [3, 4]]", "array", "float", [[1, 2], [3, 4]]),
    ("{'k': 1, 'f': true, 'l': [1, 2]}", "dict", None, {"k": 1, "f": True, "l": [1, 2]}),
    ("{}", "dict", None, {}),
    ("state", "dict", None, "state"),
]


@pytest.mark.parametrize(("text", "kind", "element", "value"), JAVA)
def test_java_source_is_read_as_published(text, kind, element, value):
    found = java_value(text, kind, element)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(("text", "kind", "element", "value"), JAVASCRIPT)
def test_javascript_source_is_read_as_published(text, kind, element, value):
    found = javascript_value(text, kind, element)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("read", "kind", "suffix"),
    [(java_value, "integer", ""), (java_value, "long", "L"), (javascript_value, "Bigint", "n")],
)
def test_what_has_too_many_digits_for_an_integer_stays_text(read, kind, suffix):
    assert read("7" * 400 + suffix, kind) == int("7" * 400)
    assert read("7" * 5000 + suffix, kind) == "7" * 5000 + suffix


def test_java_values_are_right_in_source_and_as_themselves():
    documents = [{"name": "f", "parameters": {"properties": {"on": {"type": "boolean"}}, "required": ["on"]}}]
    for value, right in (("true", 1.0), (True, 1.0), ("false", 0.0), ("True", 0.0), (False, 0.0)):
        fields = {"category": "simple_java", "language": "java", "documents": documents}
        assert accuracy([f(on=value)], **fields, truth=[{"f": {"on": [True]}}]) == right


def test_texts_are_compared_without_case_spaces_and_some_punctuation():
    assert standardised("April 1, 2024") == standardised("april 1 2024") == standardised("April1,2024")
    assert standardised("it's") == 'it"s'
    assert standardised("a;b") != standardised("ab")


def totals(**accuracies) -> dict:
    records = [
        (task({**facts(category=name)}), {"accuracy": value}) for name, values in accuracies.items() for value in values
    ]
    return dict(METRIC.total(records))


def test_totals_are_published_only_where_no_subset_is_missing():
    whole = totals(
        simple_python=[1.0, 0.0],
        simple_java=[1.0],
        simple_javascript=[0.0],
        multiple=[1.0],
        parallel=[1.0],
        parallel_multiple=[0.0],
        live_simple=[1.0, 1.0, 0.0],
        live_multiple=[0.0],
        live_parallel=[1.0],
        live_parallel_multiple=[0.0],
        irrelevance=[1.0],
        live_irrelevance=[0.0, 0.0],
        live_relevance=[1.0],
    )
    assert whole["non_live_simple"] == pytest.approx((0.5 + 1 + 0) / 3)
    assert whole["non_live_ast"] == pytest.approx((0.5 + 1 + 1 + 0) / 4)
    assert whole["live_ast"] == pytest.approx(3 / 6)
    assert whole["irrelevance_detection"] == pytest.approx(0.5)
    assert whole["relevance_detection"] == 1.0
    part = totals(simple_python=[1.0], simple_java=[0.0])
    assert part["non_live_simple"] is None and part["non_live_ast"] is None and part["live_ast"] is None
    assert part["non_live_simple of simple_python, simple_java only"] == 0.5
    json.dumps(whole)
