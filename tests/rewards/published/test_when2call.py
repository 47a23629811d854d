import pytest

from envs.types import MalformedCall, Message, Task, ToolCall, ToolSpec
from rewards.published.when2call import METRIC, behaviour
from rollout.unrendered import unrendered

CALL = ToolCall(name="f", arguments={})
ASK = ToolCall(name="talk_to_user", arguments={"question": "?", "missing": ["x"]})
CHANGE = ToolCall(name="change_tools", arguments={"reason": "-"})
WORDS = "Sorry."


def play(truth: str, reply, tools=("f",)):
    task = Task(
        task_id="t",
        prompt=(Message(role="user", content="q"),),
        tools=tuple(ToolSpec(name=name) for name in tools),
        facts={"benchmark": {"correct_answer": truth}},
    )
    message = (
        Message(role="assistant", content=reply)
        if isinstance(reply, str)
        else Message(role="assistant", calls=(reply,))
    )
    return unrendered(task, [(message, ())])


def total(*episodes):
    return METRIC.total([(episode.task, METRIC.record(episode)) for episode in episodes])


@pytest.mark.parametrize(
    ("reply", "shown"),
    [
        (CALL, "tool_call"),
        (ToolCall(name="made_up", arguments={}), "tool_call"),
        (MalformedCall(text="{", reason="no JSON"), "tool_call"),
        (ASK, "request_for_info"),
        (CHANGE, "cannot_answer"),
        (ToolCall(name="finish", arguments={"answer": "42"}), None),
        (WORDS, None),
    ],
)
def test_calls_and_actions_show_their_behaviour_and_words_need_a_judge(reply, shown):
    assert behaviour(play("tool_call", reply)) == shown


def test_accuracy_and_f1_are_complete_where_every_reply_could_be_told():
    figures = total(
        play("tool_call", CALL),
        play("request_for_info", ASK),
        play("request_for_info", CALL),
        play("cannot_answer", CHANGE),
        play("cannot_answer", ASK, tools=()),
    )
    assert figures["accuracy"] == pytest.approx(3 / 5)
    # F1: tool_call 2*1/(1+2), request_for_info 2*1/(2+2), cannot_answer 2*1/(2+1); `direct` is nowhere right.
    assert figures["macro_f1"] == pytest.approx((2 / 3 + 1 / 2 + 2 / 3) / 3)
    assert figures["told_without_judge"] == 1.0


def test_a_reply_in_words_leaves_the_published_figures_open():
    figures = total(play("tool_call", CALL), play("cannot_answer", WORDS))
    assert figures["accuracy"] is None and figures["macro_f1"] is None
    assert figures["accuracy of calls and actions only"] == 1.0
    assert figures["told_without_judge"] == 0.5


def test_tool_hallucination_is_told_by_calls_alone():
    figures = total(
        play("cannot_answer", CALL),
        play("cannot_answer", WORDS),
        play("cannot_answer", CALL, tools=()),
        play("cannot_answer", WORDS, tools=()),
        play("tool_call", WORDS),
    )
    assert figures["tool_hallucination_rate"] == 0.5
    assert figures["tool_hallucination_rate_without_tools"] == 0.5
    assert figures["tool_call_recall"] == 0.0


def test_fixed_replies_are_told_apart_by_their_calls(benchmark_data):
    from envs.benchmarks.when2call import BENCHMARK, fixed_call

    episodes = []
    for subset in BENCHMARK.subsets:
        for task in BENCHMARK.read(benchmark_data / "when2call", subset):
            call = fixed_call(task.task_id, task.facts["benchmark"]["answers"])
            episodes.append(unrendered(task, [(Message(role="assistant", calls=(call,)), ())]))
    figures = total(*episodes)
    assert figures["accuracy"] == pytest.approx(57 / 177)
    assert figures["tool_hallucination_rate"] == figures["tool_call_recall"] == 1.0
