import pytest

from envs.types import MalformedCall, Message, Task, ToolCall, ToolSpec
from rewards.classify import judge
from rl.guards import GUARDS, guards_of
from rollout.unrendered import unrendered

TOOL = ToolSpec(name="f", parameters={"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]})
RIGHT = ToolCall(name="f", arguments={"a": 1})
WRONG = ToolCall(name="f", arguments={"a": 2})
BROKEN = ToolCall(name="f", arguments={"a": "x"})
ASK = ToolCall(name="talk_to_user", arguments={"question": "?", "missing": []})
MALFORMED = MalformedCall(text="f(", reason="unclosed")


def held(*calls, reference: tuple[ToolCall, ...] | None = (RIGHT,)) -> dict[str, bool | None]:
    task = Task(task_id="t", prompt=(Message(role="user", content="1 or 2"),), tools=(TOOL,), reference=reference)
    made = unrendered(task, [(Message(role="assistant", calls=calls), ())])
    return guards_of(made, judge(made))


@pytest.mark.parametrize(
    ("calls", "holding"),
    [
        ((RIGHT,), set()),
        ((), {"call_avoidance"}),
        ((ASK,), {"call_avoidance"}),
        ((RIGHT, WRONG), {"call_spam"}),
        ((WRONG,), {"form_only"}),
        ((WRONG, WRONG), {"call_spam", "form_only"}),
        ((BROKEN,), set()),
        ((MALFORMED,), set()),
        ((MALFORMED, MALFORMED), {"call_spam"}),
    ],
)
def test_each_guard_holds_for_its_own_trick(calls, holding):
    assert {name for name, flag in held(*calls).items() if flag} == holding


def test_where_no_call_is_right_avoiding_them_is_no_trick():
    assert held(reference=()) == {"call_avoidance": None, "call_spam": False, "form_only": False}
    assert held(WRONG, reference=())["call_spam"] is True


def test_an_unknown_reference_says_nothing():
    assert held(WRONG, reference=None) == dict.fromkeys(GUARDS)
