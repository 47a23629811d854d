import asyncio
import copy
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.actions import ACTIONS
from envs.types import MalformedCall, Message, Outcome, Step, Task, ToolCall, ToolResult, ToolSpec, ToolStatus
from rollout.engine import Sampling
from rollout.episode import run_episode
from rollout.family_renderer import Qwen3Renderer, load_qwen3_renderer
from rollout.renderer import ChatTemplateRenderer, prove_prefix_property
from rollout.scripted_engine import ScriptedEngine

pytest.importorskip("renderers")

TOOL = ToolSpec(name="f", parameters={"type": "object", "properties": {"a": {"type": "string"}}})


@pytest.fixture(scope="module")
def qwen3_tokenizer(tokenizer):
    trl = pytest.importorskip("trl")
    own = copy.deepcopy(tokenizer)
    own.add_tokens(["<think>", "</think>"])
    own.chat_template = (Path(trl.__file__).parent / "chat_templates" / "qwen3.jinja").read_text()
    return own


@pytest.fixture(scope="module")
def qwen3(qwen3_tokenizer):
    return Qwen3Renderer(qwen3_tokenizer, max_context=4096)


@pytest.mark.parametrize("enable_thinking", [False, True])
def test_the_family_renderer_is_append_only(qwen3_tokenizer, enable_thinking):
    prove_prefix_property(Qwen3Renderer(qwen3_tokenizer, enable_thinking=enable_thinking))


def test_both_renderers_write_the_same_tokens(qwen3_tokenizer):
    ours = ChatTemplateRenderer(qwen3_tokenizer)
    theirs = Qwen3Renderer(qwen3_tokenizer, enable_thinking=True)
    call = ToolCall(call_id="call_0", name="f", arguments={"a": "\u6771"})
    user = Message(role="user", content="Hi there")
    results = [
        Message(role="tool", content="1\n", call_id="call_0"),
        Message(role="tool", content="2", call_id="call_1"),
    ]
    assert ours.prompt([user], [TOOL, *ACTIONS]) == theirs.prompt([user], [TOOL, *ACTIONS])
    assert ours.observation(results) == theirs.observation(results)
    for turn in (
        Message(role="assistant", calls=(call,)),
        Message(role="assistant", content="Yes.", calls=(call, call)),
    ):
        assert ours.assistant(turn) == theirs.assistant(turn)
        assert ours.parse(ours.assistant(turn)) == theirs.parse(theirs.assistant(turn))
    assert ours.stop_token_ids == theirs.stop_token_ids


def test_a_call_drafted_in_reasoning_is_no_call(qwen3_tokenizer):
    thinking = Qwen3Renderer(qwen3_tokenizer, enable_thinking=True)
    draft = '<tool_call>\n{"name": "draft", "arguments": {}}\n</tool_call>'
    text = f"<think>\nI could call it.\n</think>\n\nNow.\n{draft.replace('draft', 'f')}<|im_end|>"
    message = thinking.parse(thinking.encode(text))
    assert message.content == "Now."
    assert [call.name for call in message.calls if isinstance(call, ToolCall)] == ["f"]
    ids = [9, *thinking.encode(text)]
    (place,) = thinking.places(ids[1:], at=1)
    assert thinking.decode(ids[slice(*place.span)]) == draft.replace("draft", "f")


@pytest.mark.parametrize(
    "body",
    [
        '{"name": "f", "arguments": {"a": NaN}}',
        '{"name": "f"}',
        "[" * 20_000,
        "9" * 5000,
        '{"name": "f", "arguments": {}',
    ],
)
def test_attempts_that_are_no_calls_are_kept(qwen3, body):
    for text in (f"<tool_call>\n{body}\n</tool_call>", f"<tool_call>\n{body}"):
        ids = qwen3.encode(text) + list(qwen3.stop_token_ids)
        message = qwen3.parse(ids)
        assert [type(call) for call in message.calls] == [MalformedCall]
        (place,) = qwen3.places(ids)
        assert qwen3.decode(ids[slice(*place.span)]) == text


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_no_tokens_make_it_raise(qwen3, data):
    ids = data.draw(st.lists(st.integers(0, len(qwen3.tokenizer) - 1), max_size=30))
    assert len(qwen3.places(ids)) == len(qwen3.parse(ids).calls)


class OneStepEnv:
    def __init__(self, task):
        self.task, self.steps = task, 0

    async def open(self):
        return self.task.prompt

    async def step(self, message):
        self.steps += 1
        results = tuple(ToolResult(call_id=c.call_id, status=ToolStatus.OK, content="1") for c in message.calls)
        if self.steps == 2:
            return Step(messages=(), results=results, done=True)
        return Step(messages=(Message(role="tool", content="1", call_id="call_0"),), results=results)

    async def close(self):
        return Outcome(finished=True)


def test_an_episode_runs_on_the_family_renderer(qwen3):
    task = Task(task_id="t", prompt=(Message(role="user", content="Hi"),), tools=(TOOL,))
    engine = ScriptedEngine(['<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>', "Done."], qwen3)
    options = {"trajectory_id": "t", "group_id": "g", "max_turns": 4}
    trajectory = asyncio.run(run_episode(task, OneStepEnv, engine, qwen3, Sampling(), **options))
    assert [turn.message.content for turn in trajectory.turns] == ["", "Done."]
    assert trajectory.ending == "completed"


def test_a_tokenizer_of_another_family_is_refused(tokenizer):
    with pytest.raises(ValueError, match="no </think>"):
        Qwen3Renderer(tokenizer)


def test_it_is_loaded_from_a_model_folder(qwen3_tokenizer, tmp_path):
    qwen3_tokenizer.save_pretrained(tmp_path)
    assert load_qwen3_renderer(tmp_path).max_context == 1024
