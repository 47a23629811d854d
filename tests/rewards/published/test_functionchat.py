import pytest

from envs.types import Message, Task, ToolCall, ToolSpec
from rewards.published.functionchat import METRIC
from rollout.unrendered import unrendered


def record(calls, accepted=None, output="call", **fields):
    task = Task(
        task_id="t",
        prompt=(Message(role="user", content="q"),),
        tools=(ToolSpec(name="f"),),
        facts={
            "benchmark": {
                "subset": "dialog",
                "type_of_output": output,
                "ground_truth": {"name": "f", "arguments": {"city": "서울 역", "days": 3}},
                "acceptable_arguments": accepted or {},
                **fields,
            }
        },
    )
    return task, METRIC.record(unrendered(task, [(Message(role="assistant", calls=tuple(calls)), ())]))


def f(**arguments) -> ToolCall:
    return ToolCall(name="f", arguments=arguments)


@pytest.mark.parametrize(
    ("arguments", "accepted", "exact"),
    [
        ({"city": "서울 역", "days": 3}, {}, True),
        ({"city": "서울역", "days": 3.0}, {}, True),
        ({"city": "서울", "days": 3}, {}, False),
        ({"city": "서울역"}, {}, False),
        ({"city": "서울역", "days": 3, "x": 1}, {}, False),
        ({"city": "Seoul", "days": 3}, {"city": ["seoul", "SEL"]}, True),
        ({"city": "Seoul", "days": 3}, {"city": "seoul"}, True),
        ({"city": "Busan", "days": 3}, {"city": "seoul"}, False),
        ({"city": "서울역", "days": 99}, {"days": 3.5}, True),
    ],
)
def test_arguments_match_exactly_as_released(arguments, accepted, exact):
    assert record([f(**arguments)], accepted)[1]["exact"] == float(exact)


def test_the_first_call_counts():
    right = f(city="서울역", days=3)
    assert record([right, f()])[1]["exact"] == 1.0
    assert record([f(), right])[1]["exact"] == 0.0
    assert record([])[1]["exact"] == 0.0


def test_what_needs_the_judge_is_missing():
    assert record([], output="slot")[1]["exact"] is None
    assert set(METRIC.missing) == {"pass_rate"}


def test_totals_name_each_set_of_candidates():
    right, wrong = [f(city="서울역", days=3)], [f()]
    figures = METRIC.total(
        [
            record(right, subset="singlecall", tools_type="exact"),
            record(wrong, subset="singlecall", tools_type="8_close"),
            record(right),
            record([], output="relevance"),
        ]
    )
    assert figures == {
        "singlecall_call_exact": 0.5,
        "singlecall_exact_call_exact": 1.0,
        "singlecall_8_close_call_exact": 0.0,
        "dialog_call_exact": 1.0,
    }
