"""Recorded dialogues of benchmarks -> trajectories without tokens; with tokens they go through `demonstrations`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from envs.benchmarks.dialogues import Dialogue
from envs.types import Json, Message, ToolResult, ToolStatus
from rollout.recorded import message_of_openai
from rollout.trajectory import Trajectory
from rollout.unrendered import unrendered


def from_dialogue(dialogue: Dialogue) -> Trajectory:
    """A trajectory of every assistant message of the dialogue with the recorded results of its calls.

    What the user said between the turns is not part of it.

    Raises:
        ValueError: a message is not in OpenAI form; the message says which.
    """
    replies = recorded_replies(dialogue.messages)
    return unrendered(
        dialogue.task,
        replies,
        tools=dialogue.tools,
        answer=(replies[-1][0].content or None) if replies else None,
    )


def recorded_replies(messages: Sequence[Mapping[str, Json]]) -> list[tuple[Message, list[ToolResult]]]:
    """Each assistant message with the results of its calls, found by their ids behind it.

    Recorded ids are not always unique in a dialogue (tau-bench), so an id means the latest message that has it.

    Raises:
        ValueError: a message is not in OpenAI form; the message says which.
    """
    replies: list[tuple[Message, dict[str, ToolResult]]] = []
    for index, value in enumerate(messages):
        message = message_of_openai(value, f"messages[{index}]")
        if message.role == "assistant":
            replies.append((message, {}))
        elif message.role == "tool":
            status = ToolStatus.FAILED if value.get("status") == "failed" else ToolStatus.OK
            result = ToolResult(call_id=message.call_id, status=status, content=message.content)
            for reply, results in reversed(replies):
                if any(call.call_id == message.call_id for call in reply.calls):
                    results[message.call_id] = result
                    break
    return [
        (message, [results[call.call_id] for call in message.calls if call.call_id in results])
        for message, results in replies
    ]
