from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.actions import ACTIONS, FINISH
from envs.toolworld.demonstrator import NO_ERRORS, Demonstrator
from envs.toolworld.simulator import ToolWorldEnv
from envs.toolworld.tasks import ToolWorldTasks
from envs.types import MalformedCall, Message, Outcome, Task, ToolCall
from rewards.classify import classify, judge
from rewards.error_reward import ErrorReward
from rollout.trajectory import Ending, Trajectory, Turn


async def episode(task: Task, policy) -> tuple[Trajectory, list[bool]]:
    """One episode in the real environment, without tokens; and which turns were meant as errors."""
    env = ToolWorldEnv(task)
    messages = list(await env.open())
    tools, last, turns, erroneous = (*task.tools, *ACTIONS), None, [], []
    for _ in range(12):
        message, error = policy.reply(messages, tools, last)
        last = await env.step(message)
        erroneous.append(error)
        turns.append(Turn(message=message, results=last.results, start=0, end=0, new_tools=last.tools))
        messages += [message, *last.messages]
        tools = last.tools or tools
        if last.done:
            break
    empty = np.zeros(0, dtype=np.float32)
    trajectory = Trajectory(
        trajectory_id=task.task_id,
        group_id=task.task_id,
        task=task,
        tools=(*task.tools, *ACTIONS),
        turns=tuple(turns),
        token_ids=empty.astype(np.int32),
        action_mask=empty.astype(bool),
        logprobs=empty,
        oldest_version=-1,
        newest_version=-1,
        ending=Ending.COMPLETED if last and last.done else Ending.MAX_TURNS,
        outcome=await env.close(),
    )
    return trajectory, erroneous


@pytest.mark.parametrize(("split", "catalogue"), [("train", "procedural"), ("heldout", "real")])
async def test_gold_demonstrations_hold_no_error_and_succeed(split, catalogue):
    for task in ToolWorldTasks(split=split, catalogue=catalogue, seed=5, num=100):
        trajectory, _ = await episode(task, Demonstrator(task, 0, NO_ERRORS))
        verdict = judge(trajectory)
        assert verdict.errors == () and verdict.success, task.task_id
        deferrals = sum(call.name in ("talk_to_user", "change_tools") for call in task.reference or ())
        others = len(task.reference or ()) - deferrals
        assert ErrorReward()(trajectory).total == pytest.approx(deferrals + (others > 0), abs=1e-5)


async def test_errors_are_found_exactly_where_the_demonstrator_made_them():
    for task in ToolWorldTasks(seed=6, num=120):
        trajectory, erroneous = await episode(task, Demonstrator(task, 0))
        found = {error.turn for error in classify(trajectory) if error.call is not None}
        for index, turn in enumerate(trajectory.turns):
            # Abandoning the task is an error whose sign is what was left open, not the finish itself.
            if any(isinstance(call, ToolCall) and call.name == FINISH for call in turn.message.calls):
                continue
            assert (index in found) == erroneous[index], (task.task_id, index)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)
TASKS = [ToolWorldTasks(seed=7).task(index) for index in range(12)]


@st.composite
def episodes(draw):
    task = draw(st.sampled_from(TASKS))
    reference = task.reference or ()
    names = [tool.name for tool in (*task.tools, *ACTIONS)] + [call.name for call in reference] + ["other", ""]
    keys = ["missing", "question", "answer", *[name for call in reference for name in call.arguments]]
    made = st.one_of(
        st.builds(
            ToolCall,
            name=st.sampled_from(names),
            arguments=st.dictionaries(st.sampled_from(keys) | st.text(max_size=3), JSON, max_size=3),
        ),
        st.sampled_from(reference),
        st.builds(MalformedCall, text=st.text(max_size=3), reason=st.just("broken")),
    )
    turns = draw(st.lists(st.lists(made, max_size=3), min_size=1, max_size=4))
    if draw(st.booleans()):
        task = dataclasses.replace(task, reference=None)
    return Trajectory(
        trajectory_id="t",
        group_id="g",
        task=task,
        tools=(*task.tools, *ACTIONS),
        turns=tuple(
            Turn(message=Message(role="assistant", calls=tuple(calls)), results=(), start=0, end=0) for calls in turns
        ),
        token_ids=np.zeros(0, dtype=np.int32),
        action_mask=np.zeros(0, dtype=bool),
        logprobs=np.zeros(0, dtype=np.float32),
        oldest_version=0,
        newest_version=0,
        ending=draw(st.sampled_from(Ending)),
        outcome=Outcome(finished=draw(st.booleans())),
    )


@settings(max_examples=150, deadline=None)
@given(episodes())
def test_whatever_is_called_is_judged(trajectory):
    verdict = judge(trajectory)
    assert classify(trajectory) == list(verdict.errors)
    assert list(verdict.errors) == sorted(
        verdict.errors, key=lambda error: (error.call is None, error.turn, error.call or 0)
    )
    assert len({match.reference for match in verdict.matches}) == len(verdict.matches)
    faulty = {(error.turn, error.call) for error in verdict.errors}
    assert not any((match.turn, match.call) in faulty for match in verdict.matches)
    score = ErrorReward()(trajectory)
    assert score.per_turn.shape == (len(trajectory.turns),)
    assert score.unscored or np.isfinite(score.total)
