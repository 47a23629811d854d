"""Conversations of demonstrators, as records that `source.conversations` of a recipe and `tether data` read."""

from __future__ import annotations

from dataclasses import replace

from envs.actions import offered_actions
from envs.toolworld import Demonstrator, ToolWorldEnv
from envs.toolworld.demonstrator import NO_ERRORS
from envs.types import Json, Message, Outcome, Step, Task
from rollout.demonstrations import DemonstrationPolicy, to_messages
from rollout.episode import MakeEnv
from rollout.trajectory import Ending, Trajectory, Turn
from rollout.unrendered import unrendered


async def play(task: Task, make_env: MakeEnv, policy: DemonstrationPolicy, *, max_turns: int) -> Trajectory:
    """Let a demonstrator do one task; a trajectory without tokens.

    Turns that the demonstrator calls erroneous have `train` false.
    """
    env = make_env(task)
    messages: list[Message] = list(await env.open())
    tools, turns = (*task.tools, *offered_actions(task)), []
    last_step: Step | None = None
    ending = Ending.MAX_TURNS
    try:
        while len(turns) < max_turns:
            message, erroneous = policy.reply(messages, tools, last_step)
            last_step = await env.step(message)
            heard = tuple(said for said in last_step.messages if said.role != "tool")
            turns.append(
                Turn(
                    message=message,
                    results=last_step.results,
                    start=0,
                    end=0,
                    new_tools=last_step.tools,
                    heard=heard,
                    train=not erroneous,
                )
            )
            if last_step.done:
                ending = Ending.COMPLETED
                break
            tools = last_step.tools or tools
            messages += [message, *last_step.messages]
    finally:
        outcome: Outcome = await env.close()
    bare = unrendered(task, (), tools=(*task.tools, *offered_actions(task)))
    return replace(bare, turns=tuple(turns), ending=ending, outcome=outcome)


def right_episode(task: Task) -> Trajectory:
    """The episode of a task of the tool world that makes its right calls, and finishes with its answer."""
    demonstrator = Demonstrator(task, error_rates=NO_ERRORS)
    episode = play(task, ToolWorldEnv, demonstrator, max_turns=len(task.reference or ()) + 1)
    # The tool world waits for nothing, so no event loop is needed: one for each of many episodes would cost more.
    try:
        episode.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("the tool world waits for nothing")


def conversation_of(trajectory: Trajectory) -> dict[str, Json]:
    """A record with `id`, `messages` and `tools`, and what is known of the task: `reference`, `ordered` and `kind`."""
    task = trajectory.task
    record: dict[str, Json] = {
        "id": task.task_id,
        "messages": to_messages(trajectory),
        "tools": [{"type": "function", "function": tool.to_json()} for tool in trajectory.tools],
        "kind": str(task.kind),
    }
    if task.reference is not None:
        record["reference"] = [{"name": call.name, "arguments": dict(call.arguments)} for call in task.reference]
        record["ordered"] = task.ordered
    return record
