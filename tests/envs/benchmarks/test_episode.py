import pytest

from envs.benchmarks.episode import SingleTurnEnv
from envs.types import MalformedCall, Message, Outcome, Task, ToolCall, ToolSpec, ToolStatus

TOOL = ToolSpec(name="f", parameters={"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]})
TASK = Task(task_id="t", prompt=(Message(role="user", content="q"),), tools=(TOOL,))


async def play(*calls, content=""):
    env = SingleTurnEnv(TASK)
    assert await env.open() == TASK.prompt
    step = await env.step(Message(role="assistant", content=content, calls=calls))
    return step, await env.close()


@pytest.mark.parametrize(
    ("call", "status"),
    [
        (ToolCall(name="f", arguments={"a": 1}), ToolStatus.OK),
        (ToolCall(name="f", arguments={"a": "1"}), ToolStatus.INVALID_ARGUMENTS),
        (ToolCall(name="g", arguments={}), ToolStatus.UNKNOWN_TOOL),
        (MalformedCall(text="f(", reason="unclosed"), ToolStatus.MALFORMED),
        (ToolCall(name="finish", arguments={"answer": "a"}), ToolStatus.OK),
    ],
)
async def test_a_call_is_not_run_and_its_form_is_stated(call, status):
    step, _ = await play(call)
    assert [result.status for result in step.results] == [status]
    assert step.results[0].content == ""


async def test_one_message_ends_the_episode():
    step, outcome = await play(content="No tool fits.")
    assert step.done and step.messages == () and step.results == ()
    assert outcome == Outcome(finished=True, answer="No tool fits.")


async def test_an_episode_without_a_message_is_not_finished():
    assert await SingleTurnEnv(TASK).close() == Outcome()
