from __future__ import annotations

from envs.types import MalformedCall, Message, Task, ToolCall, ToolResult, ToolSpec, ToolStatus
from rewards.published.figures import f1, first_call, made_calls, mean, said
from rollout.unrendered import unrendered

CALL = ToolCall(name="f", arguments={}, call_id="1")
FINISH = ToolCall(name="finish", arguments={"answer": "bye"}, call_id="2")
RESULT = ToolResult(call_id="1", status=ToolStatus.OK, content="{}")


def trajectory(*messages: Message, tools: tuple[ToolSpec, ...] = (), answer: str | None = None):
    task = Task(task_id="t", prompt=(), tools=tools)
    replies = [(message, [RESULT] if message.calls else []) for message in messages]
    return unrendered(task, replies, answer=answer)


def test_actions_are_no_calls_unless_the_task_offers_a_tool_of_their_name():
    message = Message(role="assistant", calls=(CALL, FINISH))
    assert made_calls(trajectory(message)) == [(CALL, RESULT)]
    assert made_calls(trajectory(message, tools=(ToolSpec(name="finish"),))) == [(CALL, RESULT), (FINISH, None)]


def test_the_first_call_is_none_if_it_cannot_be_read():
    bad = MalformedCall(text="{", reason="no JSON")
    assert first_call(trajectory(Message(role="assistant"), Message(role="assistant", calls=(CALL, bad)))) == CALL
    assert first_call(trajectory(Message(role="assistant", calls=(bad, CALL)))) is None
    assert first_call(trajectory()) is None


def test_what_was_said_is_the_text_or_the_final_answer():
    assert said(trajectory(Message(role="assistant", content="a"), Message(role="assistant", content="b"))) == "a\nb"
    assert said(trajectory(Message(role="assistant", calls=(FINISH,)), answer="bye")) == "bye"
    assert said(trajectory(Message(role="assistant", content="a"), answer="bye")) == "a"


def test_means_leave_out_what_is_not_known():
    assert mean([1.0, None, 0.0]) == 0.5 and mean([None]) is None
    assert f1(0.0, 0.0) == 0.0 and f1(0.5, 1.0) == 2 / 3
