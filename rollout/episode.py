"""One task, one environment, one policy -> one Trajectory.

Who waits for whom, turn by turn:

    env.open --messages--> renderer.prompt --tokens-->+
                                                      v
      +------ pending tokens ----------------> engine.generate        waits for the engine
      |                                               | completion: only now the pending tokens
      |                                               v             and its own are appended
      |                                        renderer.parse
      |                                               | assistant message
      |                                               v
      +<-- renderer.observation <--messages--   env.step              waits for the environment (timeout)
                                                      | done, or turns or context used up
                                                      v
                                                env.close --outcome--> Trajectory

An observation is pending until an action follows it, so a trajectory always ends with an action. Failures of the
infrastructure end the episode and are returned as data. This file holds the environment boundary: the one place of
the package that catches whatever an environment raises.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
import traceback
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from envs.actions import offered_actions
from envs.env import Env
from envs.types import Message, Outcome, Step, Task, ToolSpec
from rollout.engine import Engine, EngineFailed, Policy, Sampling
from rollout.renderer import Renderer
from rollout.trajectory import UNKNOWN_VERSION, Completion, Ending, Finish, Trajectory, TrajectoryBuilder, Turn
from rollout.unrendered import unrendered

ENV_TIMEOUT = 300.0
"""Seconds one call to the environment may take. Tools have their own, shorter timeouts."""

T = TypeVar("T")


MakeEnv = Callable[[Task], Env]


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What the policy acts on."""

    turn: int
    messages: tuple[Message, ...]
    """The whole conversation so far."""
    tools: tuple[ToolSpec, ...]
    """Offered now, actions included."""
    last_step: Step | None
    prompt_ids: list[int]
    room: int
    """Tokens left in the context."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One completion, and whether it is trained on."""

    completion: Completion
    train: bool = True


Act = Callable[[Situation], Awaitable[Action | None]]
"""None: no action fits into the context."""


async def run_episode(
    task: Task,
    make_env: MakeEnv,
    engine: Engine,
    renderer: Renderer,
    sampling: Sampling,
    *,
    trajectory_id: str,
    group_id: str,
    max_turns: int,
    offer_actions: bool = True,
    env_timeout: float = ENV_TIMEOUT,
) -> Trajectory:
    """Let the engine's policy do one task.

    Args:
        offer_actions: whether `envs.actions` are offered beside the task's tools.

    Returns:
        The trajectory, also after a failure: `ending` says which.
    """
    stop_token_ids = tuple(dict.fromkeys((*renderer.stop_token_ids, *sampling.stop_token_ids)))

    async def act(situation: Situation) -> Action:
        request = replace(
            sampling,
            max_tokens=min(sampling.max_tokens, situation.room),
            seed=turn_seed(sampling.seed, trajectory_id, situation.turn),
            stop_token_ids=stop_token_ids,
        )
        completion = await engine.generate(situation.prompt_ids, request, f"{trajectory_id}/{situation.turn}")
        return Action(completion=completion)

    return await run_loop(
        task,
        make_env,
        act,
        renderer,
        trajectory_id=trajectory_id,
        group_id=group_id,
        max_turns=max_turns,
        offer_actions=offer_actions,
        env_timeout=env_timeout,
    )


async def run_loop(
    task: Task,
    make_env: MakeEnv,
    act: Act,
    renderer: Renderer,
    *,
    trajectory_id: str,
    group_id: str,
    max_turns: int,
    offer_actions: bool = True,
    env_timeout: float = ENV_TIMEOUT,
) -> Trajectory:
    """The episode loop for any source of actions in token space."""
    started = time.monotonic()
    episode = _Episode(task, renderer, offered_at_start(task, offer_actions))
    outcome = Outcome()
    env: Env | None = None
    try:
        env = await _guarded(_made(make_env, task), env_timeout)
        ending, error = await _play(episode, env, act, max_turns, env_timeout)
    except _EnvFailed as failure:
        ending, error = Ending.ENV_FAILED, str(failure)
    except EngineFailed as failure:
        ending, error = Ending.ENGINE_FAILED, str(failure) or type(failure).__name__
    finally:
        if env is not None:
            outcome, close_error = await _close(env, env_timeout)
    if env is not None and close_error and not ending.is_failure:
        ending, error = Ending.ENV_FAILED, close_error
    token_ids, action_mask, logprobs = episode.builder.arrays()
    versions = episode.builder.versions or [UNKNOWN_VERSION]
    return Trajectory(
        trajectory_id=trajectory_id,
        group_id=group_id,
        task=task,
        tools=episode.first_tools,
        turns=tuple(episode.turns),
        token_ids=token_ids,
        action_mask=action_mask,
        logprobs=logprobs,
        oldest_version=min(versions),
        newest_version=max(versions),
        ending=ending,
        outcome=outcome,
        error=error,
        seconds=time.monotonic() - started,
    )


async def converse(
    task: Task,
    make_env: MakeEnv,
    policy: Policy,
    *,
    trajectory_id: str,
    max_turns: int,
    offer_actions: bool = True,
    env_timeout: float = ENV_TIMEOUT,
) -> Trajectory:
    """Let a policy in message space do one task, where no tokenizer is at hand.

    Returns:
        A trajectory without tokens, also after a failure: `ending` says which.
    """
    started = time.monotonic()
    tools = offered_at_start(task, offer_actions)
    turns: list[Turn] = []
    outcome, error, close_error = Outcome(), "", ""
    env: Env | None = None
    try:
        env = await _guarded(_made(make_env, task), env_timeout)
        ending = await _exchange(turns, env, policy, tools, max_turns, env_timeout)
    except _EnvFailed as failure:
        ending, error = Ending.ENV_FAILED, str(failure)
    except EngineFailed as failure:
        ending, error = Ending.ENGINE_FAILED, str(failure) or type(failure).__name__
    finally:
        if env is not None:
            outcome, close_error = await _close(env, env_timeout)
    if close_error and not ending.is_failure:
        ending, error = Ending.ENV_FAILED, close_error
    return replace(
        unrendered(task, (), tools=tools, trajectory_id=trajectory_id),
        turns=tuple(turns),
        ending=ending,
        outcome=outcome,
        error=error,
        seconds=time.monotonic() - started,
    )


async def _exchange(
    turns: list[Turn],
    env: Env,
    policy: Policy,
    tools: tuple[ToolSpec, ...],
    max_turns: int,
    env_timeout: float,
) -> Ending:
    messages = list(await _guarded(env.open(), env_timeout))
    while len(turns) < max_turns:
        message = await policy.reply(messages, tools)
        turns.append(Turn(message=message, results=(), start=0, end=0))
        step = await _guarded(_stepped(env, message), env_timeout)
        heard = tuple(said for said in step.messages if said.role != "tool")
        turns[-1] = replace(turns[-1], results=step.results, new_tools=step.tools, heard=heard)
        if step.done:
            return Ending.COMPLETED
        tools = step.tools or tools
        messages += [message, *step.messages]
    return Ending.MAX_TURNS


def offered_at_start(task: Task, offer_actions: bool) -> tuple[ToolSpec, ...]:
    """What the policy can call in its first turn."""
    return (*task.tools, *offered_actions(task)) if offer_actions else task.tools


def turn_seed(seed: int | None, trajectory_id: str, turn: int) -> int | None:
    """The seed of one completion: the same for the same seed, trajectory and turn, and else unrelated."""
    if seed is None:
        return None
    digest = hashlib.blake2b(f"{seed}/{trajectory_id}/{turn}".encode(), digest_size=4).digest()
    return int.from_bytes(digest) >> 1


class _EnvFailed(RuntimeError):
    """Carries the traceback of whatever the environment raised."""


class _Episode:
    """What an episode has so far."""

    def __init__(self, task: Task, renderer: Renderer, tools: tuple[ToolSpec, ...]) -> None:
        self.renderer = renderer
        self.builder = TrajectoryBuilder()
        self.turns: list[Turn] = []
        self.messages: list[Message] = []
        self.first_tools = tools
        self.tools = tools
        self.last_step: Step | None = None
        self.pending: list[int] = []
        self.num_calls = 0

    def open(self, messages: Sequence[Message]) -> None:
        self.messages.extend(messages)
        self.pending = self.renderer.prompt(messages, self.tools)

    def situation(self) -> Situation:
        prompt_ids = self.builder.token_ids + self.pending
        return Situation(
            turn=len(self.turns),
            messages=tuple(self.messages),
            tools=self.tools,
            last_step=self.last_step,
            prompt_ids=prompt_ids,
            room=self.renderer.max_context - len(prompt_ids),
        )

    def append(self, action: Action) -> Message:
        self.builder.append_observation(self.pending)
        self.pending = []
        start, end = self.builder.append_completion(action.completion)
        message = self.renderer.parse(action.completion.token_ids.tolist(), start=self.num_calls)
        places = self.renderer.places(action.completion.token_ids.tolist(), at=start) if message.calls else ()
        self.num_calls += len(message.calls)
        self.messages.append(message)
        self.turns.append(Turn(message=message, results=(), start=start, end=end, train=action.train, places=places))
        return message

    def answer(self, step: Step) -> None:
        heard = tuple(message for message in step.messages if message.role != "tool")
        self.turns[-1] = replace(self.turns[-1], results=step.results, new_tools=step.tools, heard=heard)
        self.tools = step.tools or self.tools
        self.messages.extend(step.messages)
        self.last_step = step

    def observe(self, step: Step) -> None:
        self.pending = self.renderer.observation(step.messages)


async def _play(episode: _Episode, env: Env, act: Act, max_turns: int, env_timeout: float) -> tuple[Ending, str]:
    episode.open(await _guarded(env.open(), env_timeout))
    while len(episode.turns) < max_turns:
        situation = episode.situation()
        action = await act(situation) if situation.room > 0 else None
        if action is None or not len(action.completion.token_ids):
            return Ending.MAX_TOKENS, ""
        message = episode.append(action)
        if action.completion.finish is Finish.LENGTH:
            return Ending.MAX_TOKENS, ""
        step = await _guarded(_stepped(env, message), env_timeout)
        episode.answer(step)
        if step.done:
            return Ending.COMPLETED, ""
        episode.observe(step)
    return Ending.MAX_TURNS, ""


async def _made(make_env: MakeEnv, task: Task) -> Env:
    return make_env(task)


async def _stepped(env: Env, message: Message) -> Step:
    """One step that keeps the promises of `Step`."""
    step = await env.step(message)
    if len(step.results) != len(message.calls):
        raise ValueError(f"the env gave {len(step.results)} results to {len(message.calls)} calls")
    if not step.done and not step.messages:
        raise ValueError("the env is not done and said nothing: a step that is not done has messages")
    return step


async def _close(env: Env, timeout: float) -> tuple[Outcome, str]:
    try:
        return await _guarded(env.close(), timeout), ""
    except _EnvFailed as failure:
        return Outcome(), str(failure)


async def _guarded(awaitable: Awaitable[T], timeout: float) -> T:
    """The environment boundary: whatever goes wrong behind it is the environment's failure."""
    try:
        return await asyncio.wait_for(awaitable, timeout)
    except TimeoutError as error:
        raise _EnvFailed(f"the environment did not answer within {timeout:g} s\n{traceback.format_exc()}") from error
    except Exception as error:
        raise _EnvFailed(traceback.format_exc()) from error
