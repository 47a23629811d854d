import asyncio
import json
import time

import numpy as np
import pytest

from envs.actions import ACTIONS
from envs.benchmarks.episode import SingleTurnEnv
from envs.types import MalformedCall, Message, Task, ToolCall, ToolSpec, ToolStatus
from rollout.demonstrations import record
from rollout.endpoint import EndpointPolicy, message_of_endpoint, openai_messages
from rollout.engine import EngineFailed
from rollout.episode import converse
from rollout.trajectory import UNKNOWN_VERSION, Ending

WEATHER = ToolSpec(
    name="get_weather",
    parameters={"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
TASK = Task(task_id="oslo", prompt=(Message(role="user", content="Weather in Oslo?"),), tools=(WEATHER,))


def completion(content=None, calls=()):
    message = {"role": "assistant", "content": content}
    if calls:
        message["tool_calls"] = [
            {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
            for call_id, name, arguments in calls
        ]
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}


class Endpoint:
    """Gives prepared answers and keeps what it was asked."""

    def __init__(self, json_server):
        self.answers, self.delay = [], 0.0
        server = json_server(self.reply)
        self.url, self.requests, self.headers = server.url, server.requests, server.headers

    def reply(self, request):
        time.sleep(self.delay)
        return self.answers[min(len(self.requests), len(self.answers)) - 1]

    def answer(self, *bodies):
        self.answers = [body if isinstance(body, tuple) else (200, body) for body in bodies]


@pytest.fixture
def endpoint(json_server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "key-of-the-test")
    return Endpoint(json_server)


def ask(endpoint, messages=TASK.prompt, tools=(WEATHER,), **options):
    async def work():
        policy = EndpointPolicy(endpoint.url, "m", **options)
        try:
            return await policy.reply(messages, tools)
        finally:
            await policy.close()

    return asyncio.run(work())


def test_calls_and_text_are_read(endpoint):
    endpoint.answer(completion("Let me see.", [("a", "get_weather", '{"city": "Oslo"}'), ("b", "nothing", "")]))
    message = ask(endpoint)
    assert message == Message(
        role="assistant",
        content="Let me see.",
        calls=(
            ToolCall(call_id="a", name="get_weather", arguments={"city": "Oslo"}),
            ToolCall(call_id="b", name="nothing", arguments={}),
        ),
    )


def test_the_request_holds_conversation_tools_sampling_and_key(endpoint):
    endpoint.answer(completion("Sun."))
    call = ToolCall(call_id="a", name="get_weather", arguments={"city": "Oslo"})
    conversation = (
        *TASK.prompt,
        Message(role="assistant", calls=(MalformedCall(call_id="b", text="{broken", reason="no JSON"), call)),
        Message(role="tool", content="malformed call", call_id="b"),
        Message(role="tool", content="sun", call_id="a"),
    )
    ask(endpoint, conversation, temperature=0.5, max_tokens=7, seed=3)
    (request,), (headers,) = endpoint.requests, endpoint.headers
    assert headers["authorization"] == "Bearer key-of-the-test"
    assert (request["model"], request["temperature"], request["max_tokens"], request["seed"]) == ("m", 0.5, 7, 3)
    assert request["tools"] == [{"type": "function", "function": WEATHER.to_json()}]
    assert [message["role"] for message in request["messages"]] == ["user", "assistant", "tool", "user"]
    assert request["messages"][1]["content"] == "{broken"
    assert json.loads(request["messages"][1]["tool_calls"][0]["function"]["arguments"]) == {"city": "Oslo"}


def test_without_tools_none_are_sent(endpoint):
    endpoint.answer(completion("Sun."))
    ask(endpoint, tools=())
    assert "tools" not in endpoint.requests[0]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ('{"city": ', "JSON"),
        ('["Oslo"]', "not an object"),
        ('{"city": NaN}', "NaN"),
        ('{"city": 1, "city": 2}', "duplicate key"),
        ('{}}\n</tool_call><tool_call>{"name": "other", "arguments": {}', "not one call"),
        ('{}, "name": "other"', "duplicate key"),
    ],
)
def test_arguments_that_are_no_json_object_are_a_malformed_call(endpoint, arguments, reason):
    endpoint.answer(completion(None, [("a", "get_weather", arguments)]))
    (call,) = ask(endpoint).calls
    assert isinstance(call, MalformedCall)
    assert reason in call.reason and "get_weather" in call.text and call.call_id == "a"


def test_a_call_without_name_or_id_is_kept():
    message = message_of_endpoint({"tool_calls": [{"function": {"arguments": "{}"}}, None]}, start=4)
    assert [type(call) for call in message.calls] == [MalformedCall, MalformedCall]
    assert [call.call_id for call in message.calls] == ["call_4", "call_5"]


def test_errors_of_the_server_are_tried_again(endpoint):
    endpoint.answer((500, {}), (429, {}), completion("Sun."))
    assert ask(endpoint, max_retries=2).content == "Sun."
    assert len(endpoint.requests) == 3


def test_tries_are_bounded(endpoint):
    endpoint.answer((503, {}))
    with pytest.raises(EngineFailed, match="503"):
        ask(endpoint, max_retries=1)
    assert len(endpoint.requests) == 2


def test_a_refused_request_is_not_tried_again(endpoint):
    endpoint.answer((401, {"error": {"message": "bad key"}}))
    with pytest.raises(EngineFailed, match="bad key"):
        ask(endpoint, max_retries=3)
    assert len(endpoint.requests) == 1


@pytest.mark.parametrize("body", [b"not json", {"choices": []}, {"choices": None}, {"choices": [None]}, [], b""])
def test_an_answer_without_a_message_is_a_failure_of_the_endpoint(endpoint, body):
    endpoint.answer((200, body))
    with pytest.raises(EngineFailed):
        ask(endpoint, max_retries=0)


def test_an_endpoint_that_is_silent_is_given_up(endpoint):
    endpoint.delay = 1.0
    endpoint.answer(completion("late"))
    with pytest.raises(EngineFailed, match="APITimeoutError"):
        ask(endpoint, timeout=0.05, max_retries=0)


def test_nobody_at_the_address_is_a_failure_of_the_endpoint():
    with pytest.raises(EngineFailed, match="APIConnectionError"):
        asyncio.run(EndpointPolicy("http://127.0.0.1:9/v1", "m", max_retries=0).reply(TASK.prompt, ()))


def play(endpoint, *, max_turns=1, offer_actions=False):
    async def work():
        policy = EndpointPolicy(endpoint.url, "m", max_retries=0)
        try:
            return await converse(
                TASK, SingleTurnEnv, policy, trajectory_id="t", max_turns=max_turns, offer_actions=offer_actions
            )
        finally:
            await policy.close()

    return asyncio.run(work())


def test_an_episode_without_a_tokenizer_has_no_tokens(endpoint):
    endpoint.answer(completion(None, [("a", "get_weather", '{"city": 3}'), ("b", "weather", "{}")]))
    trajectory = play(endpoint)
    assert trajectory.ending is Ending.COMPLETED and trajectory.tools == (WEATHER,)
    assert [result.status for result in trajectory.turns[0].results] == [
        ToolStatus.INVALID_ARGUMENTS,
        ToolStatus.UNKNOWN_TOOL,
    ]
    assert len(trajectory.token_ids) == 0 and trajectory.newest_version == UNKNOWN_VERSION


def test_the_actions_are_offered_when_asked_for(endpoint):
    endpoint.answer(completion("Sun."))
    assert play(endpoint, offer_actions=True).tools == (WEATHER, *ACTIONS)
    assert [tool["function"]["name"] for tool in endpoint.requests[0]["tools"]][1:] == [a.name for a in ACTIONS]


def test_a_failing_endpoint_ends_the_episode_as_infrastructure(endpoint):
    endpoint.answer((500, {}))
    trajectory = play(endpoint)
    assert trajectory.ending is Ending.ENGINE_FAILED and trajectory.ending.is_failure
    assert trajectory.turns == () and "500" in trajectory.error


def test_a_failing_environment_ends_the_episode_as_infrastructure(endpoint):
    class Broken(SingleTurnEnv):
        async def step(self, message):
            raise KeyError("shelf")

    async def work():
        policy = EndpointPolicy(endpoint.url, "m")
        return await converse(TASK, Broken, policy, trajectory_id="t", max_turns=1)

    endpoint.answer(completion("Sun."))
    trajectory = asyncio.run(work())
    assert trajectory.ending is Ending.ENV_FAILED and "shelf" in trajectory.error


def test_an_episode_with_a_tokenizer_is_rendered_and_never_sampled(endpoint, renderer):
    async def work():
        policy = EndpointPolicy(endpoint.url, "m", max_retries=0)
        try:
            return await record(
                TASK, SingleTurnEnv, policy, renderer, trajectory_id="t", group_id="g", max_turns=1, offer_actions=False
            )
        finally:
            await policy.close()

    endpoint.answer(completion("Let me see.", [("a", "get_weather", '{"city": "Oslo"}')]))
    trajectory = asyncio.run(work())
    (turn,) = trajectory.turns
    assert turn.message.calls[0].name == "get_weather"  # type: ignore[union-attr]
    assert trajectory.tools == (WEATHER,) and turn.end == len(trajectory.token_ids)
    assert trajectory.action_mask[turn.start : turn.end].all() and np.isnan(trajectory.logprobs).all()
    assert trajectory.oldest_version == UNKNOWN_VERSION


def test_the_module_does_not_import_openai():
    import subprocess
    import sys

    program = "import sys, rollout.endpoint; sys.exit('openai' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_messages_without_calls_are_plain():
    assert openai_messages(TASK.prompt) == [{"role": "user", "content": "Weather in Oslo?"}]


@pytest.mark.parametrize(
    "tool_calls",
    ["call", 3, {"name": "f"}, [[]], [{"function": 3}], [{"function": {"name": ["f"], "arguments": {}}}],
     [{"function": {"name": "f", "arguments": ["a"]}}], [{"function": {"name": "f", "arguments": True}}],
     [{"function": {"name": "f", "arguments": {"a": float("nan")}}}]],
)  # fmt: skip
def test_whatever_stands_for_a_call_is_kept_as_malformed(tool_calls):
    (call,) = message_of_endpoint({"content": None, "tool_calls": tool_calls}).calls
    assert isinstance(call, MalformedCall) and call.reason
