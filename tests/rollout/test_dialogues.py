from __future__ import annotations

import pytest

from envs.benchmarks import api_bank, tooltalk
from envs.benchmarks.dialogues import Dialogue, to_openai
from envs.types import Message, Task, ToolCall, ToolSpec, ToolStatus
from rewards.classify import judge
from rollout.demonstrations import from_messages
from rollout.dialogues import from_dialogue

USER = Message(role="user", content="wake me at 7")
CALL = Message(role="assistant", calls=(ToolCall(call_id="c1", name="AddAlarm", arguments={"time": "7"}),))
RESULT = Message(role="tool", content='{"status": "success"}', call_id="c1")
REPLY = Message(role="assistant", content="Done.")
TOOL = ToolSpec(
    name="AddAlarm", parameters={"type": "object", "properties": {"time": {"type": "string"}}, "required": ["time"]}
)


def dialogue(*, failed: bool = False) -> Dialogue:
    task = Task(
        task_id="d",
        prompt=(USER,),
        tools=(TOOL,),
        reference=(ToolCall(name="AddAlarm", arguments={"time": "7"}),),
    )
    messages = (to_openai(USER), to_openai(CALL), to_openai(RESULT, failed=failed), to_openai(REPLY))
    return Dialogue(task=task, messages=messages, tools=(TOOL,))


def test_a_dialogue_becomes_a_trajectory_of_its_assistant_messages():
    trajectory = from_dialogue(dialogue())
    assert [turn.message for turn in trajectory.turns] == [CALL, REPLY]
    assert trajectory.turns[0].results[0].content == RESULT.content
    assert trajectory.outcome.answer == "Done."
    assert judge(trajectory).success is True


def test_a_call_that_failed_is_recorded_as_failed():
    assert from_dialogue(dialogue(failed=True)).turns[0].results[0].status == ToolStatus.FAILED


def test_a_dialogue_also_goes_through_the_renderer(renderer):
    recorded = dialogue()
    trajectory = from_messages(
        recorded.task, recorded.messages, recorded.tools, renderer, trajectory_id="d", group_id="d"
    )
    assert [turn.message.calls for turn in trajectory.turns] == [CALL.calls, ()]
    assert trajectory.action_mask.any() and not trajectory.action_mask.all()


@pytest.mark.parametrize(("reader", "folder", "num"), [(api_bank, "apibank", 157), (tooltalk, "tooltalk", 46)])
def test_every_recorded_dialogue_is_accepted_by_the_judge(benchmark_data, reader, folder, num):
    trajectories = [from_dialogue(found) for found in reader.dialogues(benchmark_data / folder)]
    assert len(trajectories) == num
    for trajectory in trajectories:
        assert all(len(turn.results) == len(turn.message.calls) for turn in trajectory.turns)
        verdict = judge(trajectory)
        assert verdict.errors == () and verdict.success is True, trajectory.trajectory_id


def test_recorded_dialogues_go_through_the_renderer(benchmark_data, renderer):
    for reader, folder in ((api_bank, "apibank"), (tooltalk, "tooltalk")):
        recorded = next(iter(reader.dialogues(benchmark_data / folder)))
        rendered = from_messages(recorded.task, recorded.messages, (), renderer, trajectory_id="d", group_id="d")
        assert rendered.turns
