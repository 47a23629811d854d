from dataclasses import dataclass

import pytest

from envs.actions import ACTIONS
from envs.types import Message, Step


@dataclass(frozen=True, kw_only=True)
class Played:
    message: Message
    erroneous: bool
    step: Step


async def _play(env, demonstrator, task, max_turns=40):
    """One episode of a demonstrator: its turns and the outcome."""
    messages, tools, step, turns = list(await env.open()), task.tools + ACTIONS, None, []
    while step is None or not step.done:
        assert len(turns) < max_turns
        message, erroneous = demonstrator.reply(messages, tools, step)
        step = await env.step(message)
        turns.append(Played(message=message, erroneous=erroneous, step=step))
        messages += [message, *step.messages]
        tools = step.tools or tools
    return turns, await env.close()


@pytest.fixture
def play():
    return _play
