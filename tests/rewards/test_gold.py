import pytest

from envs.types import Message, Task, ToolCall, ToolSpec
from rewards.gold import gold_calls


def task(arguments, required=()) -> Task:
    tool = ToolSpec(
        name="f",
        parameters={"type": "object", "properties": {name: {} for name in arguments}, "required": list(required)},
    )
    return Task(
        task_id="t",
        prompt=(Message(role="user", content="q"),),
        tools=(tool,),
        reference=(ToolCall(name="f", arguments=arguments),),
    )


@pytest.mark.parametrize(
    ("arguments", "required", "expected"),
    [
        ({"a": 1, "b": [2, "x"]}, (), {"a": 1, "b": [2, "x"]}),
        ({"a": {"any_of": [3, 4]}}, (), {"a": 3}),
        ({"a": {"any_of": [3, ""]}}, (), {}),
        ({"a": {"any_of": ["", 3]}}, ("a",), {"a": 3}),
        ({"a": {"any_of": [""]}}, ("a",), {"a": ""}),
        ({"a": {"any_of": [{"x": {"any_of": [1]}, "y": {"any_of": ["", 2]}}]}}, (), {"a": {"x": 1}}),
        ({"a": [{"x": {"any_of": [1, 2]}}]}, (), {"a": [{"x": 1}]}),
        ({"a": {"any_of": [False, ""]}}, ("a",), {"a": False}),
    ],
)
def test_first_accepted_values_are_called_and_optional_ones_left_out(arguments, required, expected):
    assert gold_calls(task(arguments, required))[0].arguments == expected


def test_an_unknown_reference_has_no_gold_calls():
    with pytest.raises(ValueError, match="task t: the reference is unknown"):
        gold_calls(Task(task_id="t", prompt=(), tools=()))
