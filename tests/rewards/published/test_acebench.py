import pytest

from envs.types import Message, Task, ToolCall, ToolSpec
from rewards.published.acebench import METRIC
from rollout.unrendered import unrendered

DOCUMENT = {
    "name": "f",
    "parameters": {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer"},
            "price": {"type": "number"},
            "rate": {"type": "float"},
            "on": {"type": "boolean"},
            "tags": {"type": "array", "items": {"type": "string"}},
            "place": {"type": "object", "properties": {}},
            "rows": {"type": "array", "items": {"type": "object"}},
        },
        "required": ["city"],
    },
}
GOLD = {
    "city": "New York",
    "days": 3,
    "price": 2.5,
    "rate": 2,
    "on": True,
    "tags": ["a b", "c"],
    "place": {"land": "US", "zip": 10},
    "rows": [{"k": "x y"}, {"k": "z"}],
}


def task(category="normal_atom_bool", truth=None, identifier="r_0", subset=None) -> Task:
    return Task(
        task_id=identifier,
        prompt=(Message(role="user", content="q"),),
        tools=(ToolSpec(name="f"),),
        facts={
            "benchmark": {
                "id": identifier,
                "subset": subset or f"en_{category}",
                "category": category,
                "function": [DOCUMENT],
                "ground_truth": {"f": GOLD} if truth is None else truth,
            }
        },
    )


def accuracy(*calls: ToolCall, text: str = "", **fields) -> float | None:
    message = Message(role="assistant", content=text, calls=calls)
    return METRIC.record(unrendered(task(**fields), [(message, ())]))["accuracy"]


def f(**arguments) -> ToolCall:
    return ToolCall(name="f", arguments=arguments)


@pytest.mark.parametrize(
    ("arguments", "right"),
    [
        (GOLD, True),
        ({"city": "new-york"}, True),
        ({"city": "in New York City"}, True),
        ({"city": "York"}, False),
        ({"days": 3}, False),
        ({"city": "New York", "stars": 3}, False),
        ({"city": "New York", "days": 99}, True),
        ({"city": "New York", "days": "3"}, False),
        ({"city": "New York", "price": 99.5}, True),
        ({"city": "New York", "price": 99}, True),
        ({"city": "New York", "on": False}, True),
        ({"city": "New York", "on": "true"}, True),
        ({"city": "New York", "on": "yes"}, False),
        ({"city": "New York", "tags": ["AB", "C"]}, True),
        ({"city": "New York", "tags": ["c", "a b"]}, False),
        ({"city": "New York", "place": {"land": "in the US", "zip": 210}}, True),
        ({"city": "New York", "place": {"land": "US"}}, False),
        ({"city": "New York", "place": {"land": "US", "zap": 10}}, False),
        ({"city": "New York", "rows": [{"k": "x y"}, {"k": "z"}]}, True),
        ({"city": "New York", "rows": [{"k": "z"}, {"k": "x y"}]}, False),
        ({"city": "New York", "rows": [{"xy": 1}, {"z": 2}]}, False),
        ({"city": "New York", "rate": 2}, True),
        # No float is so great.
        ({"city": "New York", "rate": 10**400}, False),
        ({}, False),
    ],
)
def test_one_call_is_checked_as_released(arguments, right):
    assert accuracy(f(**arguments)) == float(right)


def test_texts_in_arrays_of_objects_are_compared_after_white_space_was_taken_out_of_what_was_made():
    truth = {"f": {"city": "Rome", "place": {"names": ["a b"]}}}
    assert accuracy(f(city="Rome", place={"names": ["a b"]}), truth=truth) == 0.0
    truth = {"f": {"city": "Rome", "place": {"names": ["ab"]}}}
    assert accuracy(f(city="Rome", place={"names": ["a b"]}), truth=truth) == 1.0


def test_objects_where_gold_has_texts_are_wrong():
    truth = {"f": {"city": "Rome", "rows": ["k", "z"]}}
    assert accuracy(f(city="Rome", rows=[{"k": 1}, {"z": 2}]), truth=truth) == 0.0


def test_repeated_calls_are_counted_but_none_is_used_up():
    truth = {"f_1": {"city": "Rome"}, "f_2": {"city": "Oslo"}}
    assert accuracy(f(city="Oslo"), f(city="Rome"), truth=truth) == 1.0
    assert accuracy(f(city="Rome"), truth=truth) == 0.0
    assert accuracy(f(city="Rome or Oslo"), f(city="Bonn"), truth=truth) == 1.0


def test_one_of_several_answers_is_enough():
    truth = [{"f": {"city": "Rome"}}, {"f": {"city": "Oslo"}}]
    assert accuracy(f(city="Oslo"), truth=truth) == 1.0
    assert accuracy(f(city="Bonn"), truth=truth) == 0.0


@pytest.mark.parametrize(
    ("category", "truth", "text", "right"),
    [
        ("special_incomplete", {"f": ["city"]}, "Missing necessary parameters (city) for the api (f)", True),
        ("special_incomplete", {"f": ["city", "days"]}, "Missing necessary parameters (city) for the api (f)", False),
        (
            "special_incomplete",
            {"other_function": ["city"]},
            "Missing necessary parameters (city) for the api (f)",
            False,
        ),
        ("special_incomplete", {"f": ["city"]}, "Which city do you mean? f", False),
        ("special_error_param", {"city": ["R0me"]}, "There is incorrect value (R0me) for the parameters (city)", True),
        ("special_error_param", {"city": ["R0me"]}, "There is incorrect value", False),
        ("special_irrelevant", "-", "Due to the limitations of the function, I cannot solve this problem.", True),
        ("special_irrelevant", "-", "I cannot do that.", False),
    ],
)
def test_special_records_want_the_fixed_sentences(category, truth, text, right):
    assert accuracy(text=text, category=category, truth=truth) == float(right)
    asked = ToolCall(name="talk_to_user", arguments={"question": text, "missing": []})
    assert accuracy(asked, category=category, truth=truth) == float(right)


def test_agent_records_are_missing():
    assert accuracy(f(city="Rome"), category="agent_multi_step") is None
    assert set(METRIC.missing) == {"agent", "summary"}


def test_a_conversation_is_right_if_all_its_records_are():
    category = "normal_multi_turn_user_switch"
    records = [
        (task(category=category, identifier=f"x_{conversation}_{turn}"), {"accuracy": value})
        for conversation, turn, value in ((0, 0, 1.0), (0, 1, 0.0), (1, 0, 1.0), (1, 1, 1.0))
    ]
    figures = METRIC.total(records)
    assert figures[f"en_{category}"] == 0.5
    assert figures[f"en_{category}_process"] == 0.75
    assert figures["en_multi_turn"] is None
    assert figures[f"en_multi_turn of {category} only"] == 0.5
    assert not any(name.startswith("zh_") for name in figures)


def test_groups_are_means_of_their_categories():
    records = [
        (task(category=f"normal_atom_{name}", subset=f"zh_normal_atom_{name}"), {"accuracy": value})
        for name, value in zip(
            ("bool", "enum", "number", "list", "object_short", "object_deep"), (1, 1, 1, 0, 0, 0), strict=True
        )
    ]
    assert METRIC.total(records)["zh_atom"] == 0.5
