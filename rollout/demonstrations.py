"""Conversations that no engine of ours sampled -> trajectories: demonstrators in an environment, recorded messages.

Their log-probs are NaN and their version -1: they are trained on as demonstrations, never as samples.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np

from envs.benchmarks.dialogues import to_openai
from envs.types import (
    Json,
    Message,
    Outcome,
    Step,
    Task,
    ToolCall,
    ToolSpec,
)
from rollout.engine import Policy
from rollout.episode import Action, MakeEnv, Situation, run_loop
from rollout.parsers import CallPlace, Parser
from rollout.recorded import read_recorded, recorded_task, turns_of
from rollout.renderer import Renderer
from rollout.trajectory import (
    UNKNOWN_VERSION,
    Completion,
    Ending,
    Finish,
    Trajectory,
    TrajectoryBuilder,
    Turn,
)


class DemonstrationPolicy(Protocol):
    """A policy in message space that knows when it errs."""

    def reply(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec], last_step: Step | None
    ) -> tuple[Message, bool]:
        """The next assistant message, and whether it is an error."""
        ...


async def demonstrate(
    task: Task,
    make_env: MakeEnv,
    policy: DemonstrationPolicy,
    renderer: Renderer,
    *,
    trajectory_id: str,
    group_id: str,
    max_turns: int,
    mask_errors: bool = False,
) -> Trajectory:
    """Let a message-space policy do one task in the real environment, and render what it did.

    Args:
        mask_errors: erroneous turns stay in the context and out of the loss (`Turn.train` is false).

    Raises:
        ValueError: a message does not read back as it was written, so the environment would see another one.
    """

    async def act(situation: Situation) -> Action | None:
        message, erroneous = policy.reply(situation.messages, situation.tools, situation.last_step)
        token_ids = renderer.assistant(message)
        if len(token_ids) > situation.room:
            return None
        expect_readable(renderer, message, token_ids)
        return Action(completion=unsampled_completion(token_ids), train=not (mask_errors and erroneous))

    return await run_loop(
        task, make_env, act, renderer, trajectory_id=trajectory_id, group_id=group_id, max_turns=max_turns
    )


async def record(
    task: Task,
    make_env: MakeEnv,
    policy: Policy,
    renderer: Renderer,
    *,
    trajectory_id: str,
    group_id: str,
    max_turns: int,
    offer_actions: bool = True,
) -> Trajectory:
    """Let an endpoint or another policy in message space do one task, and render what it wrote.

    Its failure to reply ends the episode as `engine_failed`.

    Raises:
        ValueError: a message does not read back as it was written, so the environment would see another one.
    """

    async def act(situation: Situation) -> Action | None:
        message = await policy.reply(situation.messages, situation.tools)
        token_ids = renderer.assistant(message)
        if len(token_ids) > situation.room:
            return None
        expect_readable(renderer, message, token_ids)
        return Action(completion=unsampled_completion(token_ids))

    return await run_loop(
        task,
        make_env,
        act,
        renderer,
        trajectory_id=trajectory_id,
        group_id=group_id,
        max_turns=max_turns,
        offer_actions=offer_actions,
    )


def from_messages(
    task: Task,
    messages: Sequence[Mapping[str, Json]],
    tools: Sequence[ToolSpec],
    renderer: Renderer,
    *,
    trajectory_id: str,
    group_id: str,
) -> Trajectory:
    """A recorded conversation in OpenAI form as a trajectory; every assistant message is a turn.

    What stands before the first assistant message is the prompt; what stands after the last one is left out. Turns that
    do not fit into the context are left out too, and the ending is then `max_tokens`. `weight`, `status` and `tools` of
    messages are understood as `rollout.recorded` says.

    Raises:
        ValueError: a message is not in OpenAI form; the message says which.
    """
    prompt, recorded = turns_of(messages)
    builder = TrajectoryBuilder()
    turns: list[Turn] = []
    pending = renderer.prompt(prompt, tools)
    ending = Ending.COMPLETED
    for number, turn in enumerate(recorded):
        token_ids = renderer.assistant(turn.message)
        if len(builder) + len(pending) + len(token_ids) > renderer.max_context:
            ending = Ending.MAX_TOKENS
            break
        builder.append_observation(pending)
        start, end = builder.append_completion(unsampled_completion(token_ids))
        turns.append(
            Turn(
                message=turn.message,
                results=turn.results,
                heard=turn.heard,
                new_tools=turn.new_tools,
                start=start,
                end=end,
                train=turn.train,
                places=_places(renderer, turn.message, token_ids, start),
            )
        )
        if number + 1 < len(recorded):
            pending = renderer.observation(turn.observed)
    token_ids, action_mask, logprobs = builder.arrays()
    return Trajectory(
        trajectory_id=trajectory_id,
        group_id=group_id,
        task=task,
        tools=tuple(tools),
        turns=tuple(turns),
        token_ids=token_ids,
        action_mask=action_mask,
        logprobs=logprobs,
        oldest_version=UNKNOWN_VERSION,
        newest_version=UNKNOWN_VERSION,
        ending=ending,
        outcome=Outcome(finished=ending is Ending.COMPLETED, answer=recorded[-1].message.content or None),
    )


def to_messages(trajectory: Trajectory) -> list[dict[str, Json]]:
    """The conversation of a trajectory in OpenAI form: the inverse of `from_messages`.

    Turns that are not learned from have `weight` 0, results their `status`, and new tools stand with the result that
    brought them. A call that could not be read has no name, and its text as arguments.
    """
    messages = [to_openai(message) for message in trajectory.task.prompt]
    for turn in trajectory.turns:
        messages.append(_openai_of_turn(turn))
        for result in turn.results:
            answer = Message(role="tool", content=result.content, call_id=result.call_id)
            messages.append({**to_openai(answer), "status": str(result.status)})
        if turn.new_tools is not None and turn.results:
            messages[-1]["tools"] = [tool.to_json() for tool in turn.new_tools]
        messages.extend(to_openai(message) for message in turn.heard)
    return messages


def _openai_of_turn(turn: Turn) -> dict[str, Json]:
    value = to_openai(turn.message)
    if turn.message.calls:
        value["tool_calls"] = [
            {
                "id": call.call_id,
                "type": "function",
                "function": {"name": call.name, "arguments": json.dumps(dict(call.arguments), ensure_ascii=False)}
                if isinstance(call, ToolCall)
                else {"name": "", "arguments": call.text},
            }
            for call in turn.message.calls
        ]
    if not turn.train:
        value["weight"] = 0
    return value


def read_demonstrations(path: str | Path, renderer: Renderer) -> Iterator[Trajectory]:
    """The recorded conversations of a file as trajectories, each a group of its own.

    Raises:
        ValueError: as `read_recorded`.
    """
    name = Path(path).name
    for number, recorded in enumerate(read_recorded(path)):
        task_id = f"{name}:{number}"
        try:
            yield from_messages(
                recorded_task(recorded, task_id),
                recorded.messages,
                recorded.tools,
                renderer,
                trajectory_id=task_id,
                group_id=task_id,
            )
        except ValueError as error:
            raise ValueError(f"{recorded.where}: {error}") from error


def unsampled_completion(token_ids: Sequence[int]) -> Completion:
    """The completion of a turn that no engine sampled."""
    return Completion(
        token_ids=np.asarray(token_ids, dtype=np.int32),
        logprobs=np.full(len(token_ids), np.nan, dtype=np.float32),
        finish=Finish.STOP,
        policy_version=UNKNOWN_VERSION,
    )


def expect_readable(renderer: Renderer, message: Message, token_ids: Sequence[int]) -> None:
    """Check that rendered tokens are read as the message they were made of.

    Raises:
        ValueError: they are not, so the environment would see another message.
    """
    read = renderer.parse(token_ids)
    if _gist(read, renderer.parser) != _gist(message, renderer.parser):
        raise ValueError(
            "a demonstrated message does not read back as it was written:\n"
            f"  wrote {message.to_json()}\n  read  {read.to_json()}"
        )


def _gist(message: Message, parser: Parser) -> tuple[str, list[ToolCall | str]]:
    """Content and calls without ids, and without the reasons, which are the parser's to give."""
    return message.content.strip(), [
        replace(call, call_id="") if isinstance(call, ToolCall) else parser.format("", [call]).strip()
        for call in message.calls
    ]


def _places(renderer: Renderer, message: Message, token_ids: Sequence[int], start: int) -> tuple[CallPlace, ...]:
    """Where the calls stand; unknown if the recorded text also holds what reads as a call and was none."""
    places = renderer.places(token_ids, at=start) if message.calls else ()
    return places if len(places) == len(message.calls) else ()
