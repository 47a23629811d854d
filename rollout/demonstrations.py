"""Conversations that no engine of ours sampled -> trajectories: demonstrators in an environment, recorded messages.

Their log-probs are NaN and their version -1: they are trained on as demonstrations, never as samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np

from envs.types import (
    Call,
    Json,
    Message,
    Outcome,
    Step,
    Task,
    ToolCall,
    ToolResult,
    ToolSpec,
    ToolStatus,
)
from rollout.engine import Policy
from rollout.episode import Action, MakeEnv, Situation, run_loop
from rollout.parsers import CallPlace, Parser
from rollout.recorded import message_of_openai, read_recorded, recorded_task
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
        _expect_readable(renderer, message, token_ids)
        return Action(completion=_unsampled(token_ids), train=not (mask_errors and erroneous))

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
        _expect_readable(renderer, message, token_ids)
        return Action(completion=_unsampled(token_ids))

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

    What stands before the first assistant message is the prompt; what stands after the last one is left out. A tool
    message with `status` "failed" is the answer of a call that failed. Turns that do not fit into the context are left
    out too, and the ending is then `max_tokens`.

    Raises:
        ValueError: a message is not in OpenAI form; the message says which.
    """
    conversation = _numbered(message_of_openai(message, f"messages[{n}]") for n, message in enumerate(messages))
    places = [index for index, message in enumerate(conversation) if message.role == "assistant"]
    if not places or places[0] == 0:
        raise ValueError("messages: expected an assistant message, and one of the user before it")
    builder = TrajectoryBuilder()
    turns: list[Turn] = []
    pending = renderer.prompt(conversation[: places[0]], tools)
    ending = Ending.COMPLETED
    for place, following in zip(places, [*places[1:], len(conversation)], strict=True):
        token_ids = renderer.assistant(conversation[place])
        if len(builder) + len(pending) + len(token_ids) > renderer.max_context:
            ending = Ending.MAX_TOKENS
            break
        builder.append_observation(pending)
        start, end = builder.append_completion(_unsampled(token_ids))
        observed = conversation[place + 1 : following]
        failed = {index for index, value in enumerate(messages[place + 1 : following]) if _has_failed(value)}
        message = conversation[place]
        turns.append(
            Turn(
                message=message,
                results=_results(message, observed, failed),
                heard=tuple(message for message in observed if message.role != "tool"),
                start=start,
                end=end,
                places=_places(renderer, message, token_ids, start),
            )
        )
        if following < len(conversation):
            pending = renderer.observation(observed)
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
        outcome=Outcome(finished=ending is Ending.COMPLETED, answer=conversation[places[-1]].content or None),
    )


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


def _unsampled(token_ids: Sequence[int]) -> Completion:
    return Completion(
        token_ids=np.asarray(token_ids, dtype=np.int32),
        logprobs=np.full(len(token_ids), np.nan, dtype=np.float32),
        finish=Finish.STOP,
        policy_version=UNKNOWN_VERSION,
    )


def _expect_readable(renderer: Renderer, message: Message, token_ids: Sequence[int]) -> None:
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


def _numbered(messages: Iterable[Message]) -> list[Message]:
    """Calls that were recorded without an id get one that is theirs alone."""
    numbered: list[Message] = []
    count = 0
    for message in messages:
        calls: list[Call] = []
        for call in message.calls:
            calls.append(replace(call, call_id=call.call_id or f"call_{count}"))
            count += 1
        numbered.append(replace(message, calls=tuple(calls)))
    return numbered


def _has_failed(message: Mapping[str, Json]) -> bool:
    return message.get("role") == "tool" and message.get("status") == "failed"


def _results(message: Message, observed: Sequence[Message], failed: Set[int]) -> tuple[ToolResult, ...]:
    """The recorded answers to the calls, by id where the record has ids, else in order."""
    answers = [
        ToolResult(
            call_id=answer.call_id,
            status=ToolStatus.FAILED if index in failed else ToolStatus.OK,
            content=answer.content,
        )
        for index, answer in enumerate(observed)
        if answer.role == "tool"
    ]
    by_id = {answer.call_id: answer for answer in answers if answer.call_id}
    results: list[ToolResult] = []
    for index, call in enumerate(message.calls):
        answer = by_id.get(call.call_id) or (answers[index] if index < len(answers) and not by_id else None)
        if answer is not None:
            results.append(replace(answer, call_id=call.call_id))
    return tuple(results)
