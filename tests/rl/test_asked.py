"""Replies of an endpoint that are kept as they come, with a policy in the endpoint's place."""

import asyncio

import pytest

from envs.component import Component
from envs.types import Message, Task
from rl.asked import Asked
from rl.data.episode_parts import TASKS_OF_A_PART
from rl.errors import BadInput
from rollout.engine import EngineFailed
from rollout.trajectory import Ending

ENV = Component(factory="envs.benchmarks.episode:SingleTurnEnv")
TASKS = [
    Task(task_id=f"t{number}", prompt=(Message(role="user", content=f"question {number}"),), tools=())
    for number in range(3 * TASKS_OF_A_PART)
]


class Policy:
    """Answers so many questions, then nothing."""

    def __init__(self, num_answers: int) -> None:
        self.left = num_answers
        self.asked: list[str] = []

    async def reply(self, messages, tools):
        self.asked.append(messages[-1].content)
        if not self.left:
            raise EngineFailed("nobody answers")
        self.left -= 1
        return Message(role="assistant", content=f"answer to {messages[-1].content}")


def ask(folder, policy, model="m", overwrite=False):
    noted: list[int] = []
    asked = Asked(folder, {"model": model}, TASKS, ENV, overwrite=overwrite)
    episodes = asyncio.run(asked.ask(policy, concurrency=4, offer_actions=False, note=noted.append))
    assert sum(noted) == len(TASKS)
    return episodes


def test_every_task_is_asked_once_and_the_episodes_come_in_the_order_of_the_tasks(tmp_path):
    policy = Policy(len(TASKS))
    episodes = ask(tmp_path / "out", policy)
    assert [episode.task.task_id for episode in episodes] == [task.task_id for task in TASKS]
    assert episodes[5].turns[0].message.content == "answer to question 5"
    assert sorted(policy.asked) == sorted(task.prompt[0].content for task in TASKS)


def test_what_was_answered_is_not_asked_again_and_what_failed_is(tmp_path):
    episodes = ask(tmp_path / "out", Policy(TASKS_OF_A_PART + 3))
    assert sum(episode.ending is Ending.ENGINE_FAILED for episode in episodes) == 2 * TASKS_OF_A_PART - 3
    again = Policy(len(TASKS))
    episodes = ask(tmp_path / "out", again)
    assert not any(episode.ending.is_failure for episode in episodes)
    assert len(again.asked) == 2 * TASKS_OF_A_PART
    last = Policy(0)
    assert ask(tmp_path / "out", last)[0].turns[0].message.content == "answer to question 0"
    assert last.asked == []


def test_replies_of_another_model_are_not_gone_on_with(tmp_path):
    ask(tmp_path / "out", Policy(len(TASKS)))
    with pytest.raises(BadInput, match="holds episodes of a call with other settings"):
        ask(tmp_path / "out", Policy(0), model="other")
    anew = Policy(len(TASKS))
    ask(tmp_path / "out", anew, model="other", overwrite=True)
    assert len(anew.asked) == len(TASKS)
