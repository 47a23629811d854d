import json

import pytest

from envs.actions import ACTIONS
from envs.env import ToolEnv, compact
from envs.types import MalformedCall, Message, Outcome, Task, ToolCall, ToolError, ToolResult, ToolSpec, ToolStatus

WEATHER = ToolSpec(
    name="get_weather",
    parameters={"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
TAXI = ToolSpec(name="book_taxi")


class EchoRunner:
    def __init__(self):
        self.calls = []

    async def run(self, call):
        self.calls.append(call.name)
        return ToolResult(call_id=call.call_id, status=ToolStatus.OK, content=compact(dict(call.arguments)))


class BrokenRunner:
    async def run(self, call):
        raise ToolError("a runner must turn this into a result itself")


def make_task(**facts):
    prompt = (Message(role="user", content="weather?"),)
    return Task(task_id="t", prompt=prompt, tools=(WEATHER,), facts=facts)


def call(name, call_id="call_0", **arguments):
    return ToolCall(call_id=call_id, name=name, arguments=arguments)


def said(*calls, content=""):
    return Message(role="assistant", content=content, calls=calls)


@pytest.mark.parametrize(
    ("made", "status", "content"),
    [
        (call("get_weather", city="Rome"), "ok", '{"city":"Rome"}'),
        (call("get_wether", city="Rome"), "unknown_tool", '{"error":"no tool get_wether"}'),
        (call("get_weather"), "invalid_arguments", '{"error":"missing city"}'),
        (call("get_weather", city=1), "invalid_arguments", '{"error":"city must be string"}'),
        (call("get_weather", city="Rome", x=1), "invalid_arguments", '{"error":"unknown argument x"}'),
        (MalformedCall(call_id="call_0", text="{", reason="invalid JSON"), "malformed", None),
        (call("talk_to_user", question="?"), "invalid_arguments", '{"error":"missing missing"}'),
        (call("finish"), "invalid_arguments", '{"error":"missing answer"}'),
        (call("finish", answer=3), "invalid_arguments", '{"error":"answer must be string"}'),
        (call("change_tools", reason="none"), "ok", '{"tools":[],"note":"no other tools"}'),
    ],
)
async def test_each_call_gets_its_status_and_a_short_result(made, status, content):
    env = ToolEnv(make_task(), EchoRunner())
    assert await env.open() == make_task().prompt
    step = await env.step(said(made))
    (result,) = step.results
    assert (result.status, result.call_id) == (status, "call_0")
    assert content is None or result.content == content
    assert step.messages == (Message(role="tool", content=result.content, call_id="call_0"),)
    assert not step.done and step.tools is None


async def test_an_episode_ends_unfinished_with_the_last_refusal_that_is_borne():
    env = ToolEnv(make_task(), EchoRunner(), patience=2)
    await env.open()
    assert not (await env.step(said(call("get_weather", city="Rome")))).done
    assert not (await env.step(said(call("get_wether", city="Rome")))).done
    step = await env.step(said(call("get_weather")))
    assert step.done and step.results[0].status == "invalid_arguments"
    assert await env.close() == Outcome(finished=False)


async def test_patience_is_not_lost_by_finishing():
    env = ToolEnv(make_task(), EchoRunner(), patience=1)
    await env.open()
    assert (await env.step(said(call("get_wether"), call("finish", answer="x")))).done
    assert (await env.close()).finished


async def test_several_calls_are_answered_in_order():
    runner = EchoRunner()
    step = await ToolEnv(make_task(), runner).step(
        said(call("get_weather", "a", city="Rome"), call("nothing", "b"), call("get_weather", "c", city="Oslo"))
    )
    assert [result.call_id for result in step.results] == ["a", "b", "c"]
    assert [message.call_id for message in step.messages] == ["a", "b", "c"]
    assert runner.calls == ["get_weather", "get_weather"]


async def test_finish_ends_the_episode_with_its_answer():
    env = ToolEnv(make_task(), EchoRunner())
    step = await env.step(said(call("finish", answer="sunny")))
    assert step.done and step.messages == () and len(step.results) == 1
    assert await env.close() == Outcome(finished=True, answer="sunny")
    with pytest.raises(RuntimeError, match="after the end"):
        await env.step(said())


async def test_a_message_without_calls_ends_the_episode_unfinished():
    env = ToolEnv(make_task(), EchoRunner())
    step = await env.step(said(content="It is sunny."))
    assert step.done and step.messages == () and step.results == ()
    assert await env.close() == Outcome(finished=False, answer="It is sunny.")


async def test_closing_early_leaves_the_task_unfinished():
    assert await ToolEnv(make_task(), EchoRunner()).close() == Outcome()


async def test_the_user_answers_only_what_is_asked_and_known():
    env = ToolEnv(make_task(user={"city": "Rome", "days": 3}), EchoRunner())
    step = await env.step(said(call("talk_to_user", question="?", missing=["city", "color"])))
    assert json.loads(step.results[0].content) == {"city": "Rome", "color": "I do not know"}


async def test_the_user_asks_back_when_no_parameter_is_named():
    env = ToolEnv(make_task(user={"city": "Rome"}), EchoRunner())
    step = await env.step(said(call("talk_to_user", question="city?", missing=[])))
    assert "Rome" not in step.results[0].content


async def test_change_tools_replaces_the_tools_once():
    env = ToolEnv(make_task(new_tools=[TAXI.to_json()]), EchoRunner())
    step = await env.step(said(call("change_tools", reason="none"), call("get_weather", "b", city="Rome")))
    assert step.tools == (TAXI, *ACTIONS)
    assert json.loads(step.results[0].content) == {"tools": [TAXI.to_json()]}
    assert step.results[1].status == ToolStatus.OK, "calls of the same message were written for the old tools"
    step = await env.step(said(call("book_taxi"), call("get_weather", "b", city="Rome")))
    assert [result.status for result in step.results] == [ToolStatus.OK, ToolStatus.UNKNOWN_TOOL]
    step = await env.step(said(call("change_tools", reason="again")))
    assert step.tools is None and json.loads(step.results[0].content)["tools"] == []


async def test_an_exception_of_the_runner_propagates():
    with pytest.raises(ToolError):
        await ToolEnv(make_task(), BrokenRunner()).step(said(call("get_weather", city="Rome")))


async def test_an_action_that_the_task_does_not_offer_is_an_unknown_tool():
    env = ToolEnv(make_task(actions=["finish"]), EchoRunner())
    await env.open()
    step = await env.step(said(call("talk_to_user", question="which city?", missing=["city"])))
    assert [result.status for result in step.results] == [ToolStatus.UNKNOWN_TOOL]
    assert (await env.step(said(call("finish", answer="none")))).done
