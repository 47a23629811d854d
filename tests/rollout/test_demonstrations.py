import asyncio
import gzip
import json

import numpy as np
import pytest

from envs.actions import ACTIONS
from envs.types import MalformedCall, Message, Outcome, Step, Task, ToolCall, ToolResult, ToolSpec, ToolStatus
from rollout.demonstrations import demonstrate, from_messages, read_demonstrations
from rollout.recorded import read_recorded
from rollout.renderer import ChatTemplateRenderer
from rollout.trajectory import UNKNOWN_VERSION, Ending

WEATHER = ToolSpec(name="get_weather", parameters={"type": "object", "properties": {"city": {"type": "string"}}})
TASK = Task(task_id="oslo", prompt=(Message(role="user", content="Weather in Oslo?"),), tools=(WEATHER,))
RIGHT = ToolCall(name="get_weather", arguments={"city": "Oslo"})
FINISH = ToolCall(name="finish", arguments={"answer": "sun"})


class EchoEnv:
    def __init__(self, task):
        self.task, self.finished = task, False

    async def open(self):
        return self.task.prompt

    async def step(self, message):
        results = tuple(
            ToolResult(call_id=call.call_id, status=ToolStatus.OK, content="ok " + call.call_id)
            for call in message.calls
        )
        self.finished = any(isinstance(call, ToolCall) and call.name == "finish" for call in message.calls)
        answers = tuple(Message(role="tool", content=result.content, call_id=result.call_id) for result in results)
        return Step(messages=() if self.finished else answers, results=results, done=self.finished)

    async def close(self):
        return Outcome(finished=self.finished)


class ListPolicy:
    def __init__(self, replies):
        self.replies, self.seen = list(replies), []

    def reply(self, messages, tools, last_step):
        self.seen.append((tuple(messages), tuple(tools), last_step))
        return self.replies[len(self.seen) - 1]


def assistant(*calls, content=""):
    return Message(role="assistant", content=content, calls=calls)


def show(renderer, replies, *, mask_errors=True, max_turns=8):
    policy = ListPolicy(replies)
    trajectory = asyncio.run(
        demonstrate(
            TASK,
            EchoEnv,
            policy,
            renderer,
            trajectory_id="t",
            group_id="g",
            max_turns=max_turns,
            mask_errors=mask_errors,
        )
    )
    return trajectory, policy


BROKEN = MalformedCall(text='<tool_call>\n{"name": "get_weather", "arg\n</tool_call>', reason="cut")
REPLIES = [(assistant(BROKEN), True), (assistant(RIGHT, content="Again."), False), (assistant(FINISH), False)]


def test_a_demonstration_is_rendered_as_an_episode_is(renderer):
    trajectory, policy = show(renderer, REPLIES)
    assert trajectory.ending is Ending.COMPLETED
    assert trajectory.outcome.finished
    sampled = renderer.decode(trajectory.token_ids[trajectory.action_mask])
    assert sampled.count("<|im_end|>") == 3
    assert [
        renderer.parse(trajectory.token_ids[turn.start : turn.end], start=index).calls
        for index, turn in enumerate(trajectory.turns)
    ] == [turn.message.calls for turn in trajectory.turns]
    assert np.isnan(trajectory.logprobs).all()
    assert trajectory.oldest_version == trajectory.newest_version == UNKNOWN_VERSION
    messages, tools, last_step = policy.seen[1]
    assert tools == (WEATHER, *ACTIONS)
    assert [message.role for message in messages] == ["user", "assistant", "tool"]
    assert last_step is not None and last_step.results[0].call_id == "call_0"


def test_erroneous_turns_are_kept_out_of_the_loss_only_when_asked(renderer):
    assert [turn.train for turn in show(renderer, REPLIES)[0].turns] == [False, True, True]
    assert [turn.train for turn in show(renderer, REPLIES, mask_errors=False)[0].turns] == [True, True, True]


def test_malformed_text_without_tags_is_written_within_them(renderer):
    bare = MalformedCall(text='{"name": "get_weather", "arg', reason="cut")
    trajectory, _ = show(renderer, [(assistant(RIGHT, bare), True), (assistant(FINISH), False)])
    assert [type(call) for call in trajectory.turns[0].message.calls] == [ToolCall, MalformedCall]
    assert trajectory.ending is Ending.COMPLETED


def test_a_message_that_would_read_back_differently_is_refused(renderer):
    with pytest.raises(ValueError, match="does not read back"):
        show(renderer, [(assistant(content="<tool_call>"), False)])


def test_a_demonstration_that_outgrows_the_context_ends_before_the_turn_that_does(renderer):
    short = ChatTemplateRenderer(renderer.tokenizer, max_context=200)
    trajectory, _ = show(short, [(assistant(RIGHT), False)] * 50, max_turns=50)
    assert trajectory.ending is Ending.MAX_TOKENS
    assert trajectory.turns
    assert len(trajectory.token_ids) <= 200


def test_demonstrations_of_the_tool_world_finish_and_mark_their_errors(renderer):
    toolworld = pytest.importorskip("envs.toolworld")
    long = ChatTemplateRenderer(renderer.tokenizer, max_context=8192)
    erroneous = 0
    for task in list(toolworld.ToolWorldTasks(split="train", seed=1, num=40)):
        trajectory = asyncio.run(
            demonstrate(
                task,
                toolworld.ToolWorldEnv,
                toolworld.Demonstrator(task, seed=0),
                long,
                trajectory_id=task.task_id,
                group_id=task.task_id,
                max_turns=12,
                mask_errors=True,
            )
        )
        assert trajectory.ending is Ending.COMPLETED, trajectory.error
        assert trajectory.outcome.finished
        assert trajectory.turns[-1].end == len(trajectory.token_ids)
        erroneous += sum(not turn.train for turn in trajectory.turns)
    assert erroneous


OPENAI = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "Weather in Oslo and Bergen?"}]},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Oslo"}'}},
            {"id": "b", "type": "function", "function": {"name": "get_weather", "arguments": {"city": "Bergen"}}},
        ],
    },
    {"role": "tool", "tool_call_id": "b", "content": "rain"},
    {"role": "tool", "tool_call_id": "a", "content": "sun"},
    {"role": "assistant", "content": "Sun and rain."},
    {"role": "user", "content": "Thanks."},
]
TOOLS = [{"type": "function", "function": WEATHER.to_json()}]


def test_a_recorded_conversation_becomes_the_templates_own_rendering(renderer):
    trajectory = from_messages(TASK, OPENAI, (WEATHER,), renderer, trajectory_id="t", group_id="g")
    sent = [{**message, "content": message["content"] or ""} for message in OPENAI[:-1]]
    sent[1] = {"role": "user", "content": "Weather in Oslo and Bergen?"}
    whole = renderer.tokenizer.apply_chat_template(sent, tools=TOOLS, tokenize=False).removesuffix("\n")
    assert renderer.decode(trajectory.token_ids) == whole
    assert [turn.message.content for turn in trajectory.turns] == ["", "Sun and rain."]
    assert [(result.call_id, result.content) for result in trajectory.turns[0].results] == [("a", "sun"), ("b", "rain")]
    assert trajectory.ending is Ending.COMPLETED


def test_a_recorded_conversation_is_cut_at_the_last_turn_that_fits(renderer):
    whole = from_messages(TASK, OPENAI, (WEATHER,), renderer, trajectory_id="t", group_id="g")
    short = ChatTemplateRenderer(renderer.tokenizer, max_context=len(whole.token_ids) - 1)
    trajectory = from_messages(TASK, OPENAI, (WEATHER,), short, trajectory_id="t", group_id="g")
    assert trajectory.ending is Ending.MAX_TOKENS
    assert len(trajectory.turns) == 1
    assert trajectory.turns[0].end == len(trajectory.token_ids)


@pytest.mark.parametrize("name", ["data.jsonl", "data.jsonl.gz", "data.parquet", "strings.parquet"])
def test_recorded_conversations_are_read_from_every_kind_of_file(renderer, tmp_path, name):
    conversation = [message for message in OPENAI if message["role"] != "system"]
    conversation[0] = {"role": "user", "content": "Weather?"}
    row = {"messages": conversation, "tools": TOOLS}
    path = tmp_path / name
    if name.endswith(".parquet"):
        import pyarrow as pa
        import pyarrow.parquet as pq

        if name == "strings.parquet":
            row = {key: json.dumps(value) for key, value in row.items()}
        else:
            calls = [{"id": "a", "function": {"name": "get_weather", "arguments": '{"city": "Oslo"}'}}]
            row["messages"] = [{"role": "user", "content": "Weather?"}, {"role": "assistant", "tool_calls": calls}]
            row["tools"] = json.dumps(TOOLS)
        pq.write_table(pa.Table.from_pylist([row, row]), path)
    else:
        text = json.dumps(row) + "\n\n" + json.dumps(row) + "\n"
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    trajectories = list(read_demonstrations(path, renderer))
    assert len({trajectory.trajectory_id for trajectory in trajectories}) == 2
    for trajectory in trajectories:
        assert trajectory.turns[0].message.calls[0].call_id == "a"
        assert trajectory.tools == (WEATHER,)
        assert trajectory.task.prompt == (Message(role="user", content="Weather?"),)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("{oops", "invalid JSON"),
        ("[1]", "expected an object"),
        ('{"tools": []}', "messages: expected a list"),
        ('{"messages": []}', "messages: expected at least one"),
        ('{"messages": [{"role": "robot"}]}', r"messages\[0\].role"),
        ('{"messages": [{"role": "user", "content": 3}]}', r"messages\[0\].content"),
        ('{"messages": [{"role": "user", "tool_calls": [{}]}]}', "only an assistant"),
        ('{"messages": [{"role": "assistant", "tool_calls": [{}]}]}', "function with a name"),
        ('{"messages": [{"role": "assistant", "tool_calls": [{"name": "f", "arguments": "{"}]}]}', "invalid JSON"),
        ('{"messages": [{"role": "user"}], "tools": [3]}', r"tools\[0\]"),
        ('{"messages": [{"role": "user", "content": "x"}]}', "expected an assistant message"),
        ("\xff", "not UTF-8"),
    ],
)
def test_a_bad_line_is_one_error_with_file_and_line(renderer, tmp_path, line, expected):
    path = tmp_path / "data.jsonl"
    good = json.dumps({"messages": OPENAI, "tools": TOOLS})
    path.write_bytes(f"{good}\n".encode() + line.encode("latin-1") + b"\n")
    with pytest.raises(ValueError, match=expected) as caught:
        list(read_demonstrations(path, renderer))
    assert "\n" not in str(caught.value)
    assert expected == "not UTF-8" or f"{path}, line 2" in str(caught.value)


def test_a_missing_or_corrupt_file_is_one_error(tmp_path):
    with pytest.raises(ValueError, match="cannot be read"):
        list(read_recorded(tmp_path / "none.jsonl"))
    corrupt = tmp_path / "x.parquet"
    corrupt.write_bytes(b"PAR1 not really")
    with pytest.raises(ValueError, match="Parquet"):
        list(read_recorded(corrupt))


def test_recorded_calls_have_places_unless_the_text_around_them_reads_as_a_call(renderer):
    recorded = {"name": "get_weather", "arguments": {"city": "Oslo"}}
    for content, known in (("I look.", True), ("Like <tool_call>{}</tool_call>:", False)):
        reply = {"role": "assistant", "content": content, "tool_calls": [{"type": "function", "function": recorded}]}
        task = Task(task_id="x", prompt=(), tools=())
        messages = [{"role": "user", "content": "Hi"}, reply]
        trajectory = from_messages(task, messages, (WEATHER,), renderer, trajectory_id="t", group_id="g")
        (turn,) = trajectory.turns
        assert len(turn.places) == known
        for place in turn.places:
            assert "Oslo" in renderer.decode(trajectory.token_ids[slice(*place.values["/city"])])
