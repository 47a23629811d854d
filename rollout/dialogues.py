"""Recorded dialogues of benchmarks -> trajectories without tokens; with tokens they go through `demonstrations`."""

from __future__ import annotations

from collections.abc import Sequence

from envs.benchmarks.dialogues import Dialogue
from envs.types import Message, ToolResult, ToolStatus
from rollout.recorded import message_of_openai
from rollout.trajectory import Trajectory
from rollout.unrendered import unrendered


def from_dialogue(dialogue: Dialogue) -> Trajectory:
    """A trajectory of every assistant message of the dialogue, the recorded results of its calls, and what was heard.

    Results are found by the ids of their calls. Recorded ids are not always unique in a dialogue (tau-bench), so an id
    means the latest message that has it.

    Raises:
        ValueError: a message is not in OpenAI form; the message says which.
    """
    replies: list[_Reply] = []
    for index, value in enumerate(dialogue.messages):
        message = message_of_openai(value, f"messages[{index}]")
        if message.role == "assistant":
            replies.append(_Reply(message))
        elif message.role == "tool":
            _answer(replies, message, failed=value.get("status") == "failed")
        elif replies:
            replies[-1].heard.append(message)
    return unrendered(
        dialogue.task,
        [(reply.message, reply.in_order()) for reply in replies],
        heard=[reply.heard for reply in replies],
        tools=dialogue.tools,
        answer=(replies[-1].message.content or None) if replies else None,
    )


class _Reply:
    """An assistant message and what came after it."""

    def __init__(self, message: Message) -> None:
        self.message = message
        self.results: dict[str, ToolResult] = {}
        self.heard: list[Message] = []

    def in_order(self) -> list[ToolResult]:
        return [self.results[call.call_id] for call in self.message.calls if call.call_id in self.results]


def _answer(replies: Sequence[_Reply], answer: Message, *, failed: bool) -> None:
    status = ToolStatus.FAILED if failed else ToolStatus.OK
    for reply in reversed(replies):
        if any(call.call_id == answer.call_id for call in reply.message.calls):
            reply.results[answer.call_id] = ToolResult(call_id=answer.call_id, status=status, content=answer.content)
            return
