from __future__ import annotations

import pytest

from envs.component import Component
from envs.detection.env import DetectionEnv, make_task, offered
from envs.detection.toolbox import Toolbox
from envs.types import MalformedCall, Message, ToolCall
from rewards.detection_reward import DetectionReward
from rollout.episode import converse

TOOLBOX = Toolbox()
TOOLS = offered(TOOLBOX)
RESPONSE = "3 + 4 = 8. It is warm."


class Scripted:
    """Makes prepared calls, one a turn."""

    def __init__(self, *calls):
        self.calls = list(calls)

    async def reply(self, messages, tools):
        call = self.calls.pop(0)
        return Message(role="assistant", calls=(call,)) if call else Message(role="assistant", content="No.")


def call(name, **arguments):
    return ToolCall(name=name, arguments=arguments, call_id=name)


async def score(*calls, hallucinated: bool | None = True, **options):
    task = make_task("t", "", RESPONSE, tools=TOOLS, hallucinated=hallucinated, short=True)
    found = await converse(
        task, lambda task: DetectionEnv(task, TOOLBOX), Scripted(*calls), trajectory_id="t", max_turns=len(calls)
    )
    return DetectionReward(**options)(found)


SPLIT, RIGHT, ANSWER = call("split_text"), call("calculator", sentence=1), call("get_answer")


async def test_the_verdict_is_paid_on_the_last_turn():
    assert (await score(SPLIT, RIGHT, ANSWER)).per_turn.tolist() == [0, 0, 1]
    assert (await score(SPLIT, RIGHT, ANSWER, hallucinated=False)).per_turn.tolist() == [0, 0, -1]


async def test_no_verdict_is_the_worst_end():
    for last in (None, call("finish", answer="maybe"), SPLIT):
        found = await score(SPLIT, last)
        assert found.total <= -1.5 and found.parts["none"] == -1.5
    assert (await score(call("finish", answer="no"))).total > -1.5


async def test_errors_of_calls_cost_their_row_where_they_are_made():
    malformed = MalformedCall(text="{", reason="no JSON", call_id="m")
    found = await score(SPLIT, malformed, call("weigh", sentence=1), RIGHT, ANSWER)
    assert found.per_turn.tolist() == [0, -1, -1, 0, 1]
    assert [(str(error.kind), cost) for error, cost in zip(found.errors, found.costs, strict=True)] == [
        ("malformed", -1),
        ("unknown_tool", -1),
    ]
    assert (await score(SPLIT, malformed, ANSWER, scale=0.0, verdict={"none": 0, "fruitless": 0})).total == 0


async def test_a_tool_with_nothing_to_check_costs_a_little():
    found = await score(SPLIT, call("date", sentence=2), RIGHT, ANSWER)
    assert found.per_turn.tolist() == pytest.approx([0, -0.3, 0, 1])
    assert not found.errors


async def test_what_nobody_knows_is_unscored():
    found = await score(SPLIT, RIGHT, ANSWER, hallucinated=None)
    assert found.unscored == "the truth is not known"


@pytest.mark.parametrize("options", [{"preset": "x"}, {"severity": {"x": 1.0}}, {"verdict": {"maybe": 1.0}}])
def test_entries_that_there_are_not_are_refused(options):
    with pytest.raises(ValueError, match="expected"):
        Component(factory="rewards.detection_reward:DetectionReward", options=options).build()
