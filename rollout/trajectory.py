"""What the policy sampled: completions, turns and the trajectory that everything is trained on.

One alignment: every per-token array is as long as `token_ids`, and position t speaks about token t.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import numpy as np

from envs.record import record
from envs.types import Message, Outcome, Task, ToolResult, ToolSpec
from rollout.parsers import CallPlace

UNKNOWN_VERSION = -1
"""Policy version of tokens that no engine of ours sampled: demonstrations, endpoints, rules."""


class Finish(StrEnum):
    """Why the engine stopped."""

    STOP = "stop"
    LENGTH = "length"


class Ending(StrEnum):
    """Every way an episode can end."""

    COMPLETED = "completed"
    """The environment said done."""
    MAX_TURNS = "max_turns"
    MAX_TOKENS = "max_tokens"
    """The context was full, or a completion was cut by its token limit. Without any turn if not even the prompt left
    room: rewards leave that unscored, as there is no token to learn from; evaluations count the task as not solved."""
    ENV_FAILED = "env_failed"
    """A bug or failure of the environment; never the policy's error, never trained on."""
    ENGINE_FAILED = "engine_failed"
    """The engine died or refused; never the policy's error, never trained on."""

    @property
    def is_failure(self) -> bool:
        """Whether the infrastructure failed: counted, not scored, not trained on."""
        return self in (Ending.ENV_FAILED, Ending.ENGINE_FAILED)


@record
class Alternatives:
    """The k likeliest tokens at each of n positions, the likeliest first; the sampled one may be among them."""

    token_ids: np.ndarray
    """int32 [n, k]; -1 where fewer are known."""
    logprobs: np.ndarray
    """float32 [n, k], at temperature 1; -inf where fewer are known."""

    def __post_init__(self) -> None:
        if self.token_ids.shape != self.logprobs.shape or self.token_ids.ndim != 2:
            raise ValueError(f"token_ids {self.token_ids.shape} and logprobs {self.logprobs.shape} must be [n, k]")


@record
class Completion:
    """What an engine sampled after one prompt."""

    token_ids: np.ndarray
    """int32 [n], the stop token included."""
    logprobs: np.ndarray
    """float32 [n], of the sampled tokens under the sampling distribution at temperature 1."""
    finish: Finish
    policy_version: int
    alternatives: Alternatives | None = None
    """Of every position, where they were asked for."""

    def __post_init__(self) -> None:
        if self.token_ids.shape != self.logprobs.shape or self.token_ids.ndim != 1:
            raise ValueError(f"token_ids {self.token_ids.shape} and logprobs {self.logprobs.shape} must be [n]")
        if self.alternatives is not None and len(self.alternatives.token_ids) != len(self.token_ids):
            raise ValueError(f"alternatives of {len(self.alternatives.token_ids)} of {len(self.token_ids)} positions")


@record
class Turn:
    """One assistant message, what came back, and where its tokens stand."""

    message: Message
    results: tuple[ToolResult, ...]
    start: int
    """Index of the first sampled token in `Trajectory.token_ids`."""
    end: int
    """Index after the last sampled token."""
    new_tools: tuple[ToolSpec, ...] | None = None
    """The tools offered after this turn, if they changed."""
    heard: tuple[Message, ...] = ()
    """What was said to the policy after this turn beside the results: the user's words in a dialogue."""
    train: bool = True
    """False keeps the turn as context and out of the loss (erroneous demonstration calls)."""
    places: tuple[CallPlace, ...] = ()
    """Where the parts of each call of the message stand, in tokens of the trajectory; empty if that is not known."""

    def __post_init__(self) -> None:
        if self.places and len(self.places) != len(self.message.calls):
            raise ValueError(f"{len(self.message.calls)} calls but {len(self.places)} places")


@record
class Trajectory:
    """One episode. L tokens, K turns."""

    trajectory_id: str
    group_id: str
    """Trajectories of one task share it."""
    task: Task
    tools: tuple[ToolSpec, ...]
    """Offered at the start, actions included."""
    turns: tuple[Turn, ...]
    token_ids: np.ndarray
    """int32 [L]."""
    action_mask: np.ndarray
    """bool [L]: true for sampled tokens."""
    logprobs: np.ndarray
    """float32 [L]: NaN where no engine of ours sampled the token."""
    oldest_version: int
    newest_version: int
    ending: Ending
    outcome: Outcome
    error: str = ""
    """Traceback of an infrastructure failure."""
    seconds: float = 0.0

    def __post_init__(self) -> None:
        length = len(self.token_ids)
        if len(self.action_mask) != length or len(self.logprobs) != length:
            raise ValueError(
                f"trajectory {self.trajectory_id}: token_ids, action_mask and logprobs must have one length, "
                f"got {length}, {len(self.action_mask)}, {len(self.logprobs)}"
            )
        position = 0
        for turn in self.turns:
            if not position <= turn.start <= turn.end <= length:
                raise ValueError(f"trajectory {self.trajectory_id}: turn span {turn.start}:{turn.end} out of order")
            if turn.start < turn.end and not self.action_mask[turn.start : turn.end].all():
                raise ValueError(f"trajectory {self.trajectory_id}: unsampled token in {turn.start}:{turn.end}")
            if turn.places and not all(
                turn.start <= place.span[0] <= place.span[1] <= turn.end for place in turn.places
            ):
                raise ValueError(f"trajectory {self.trajectory_id}: a call outside its turn {turn.start}:{turn.end}")
            position = turn.end

    def messages_before(self, turn: int) -> tuple[Message, ...]:
        """The conversation that the policy had read when it wrote turn `turn`, its own messages included."""
        messages = list(self.task.prompt)
        for earlier in self.turns[:turn]:
            messages.append(earlier.message)
            messages.extend(
                Message(role="tool", content=result.content, call_id=result.call_id) for result in earlier.results
            )
            messages.extend(earlier.heard)
        return tuple(messages)

    def offered_tools(self, turn: int) -> tuple[ToolSpec, ...]:
        """The tools the policy could call in turn `turn`, actions included."""
        for earlier in reversed(self.turns[:turn]):
            if earlier.new_tools is not None:
                return earlier.new_tools
        return self.tools


class TrajectoryBuilder:
    """Grows the token arrays of one episode; the only way tokens enter a trajectory."""

    def __init__(self) -> None:
        self._ids: list[int] = []
        self._mask: list[bool] = []
        self._logprobs: list[float] = []
        self.versions: list[int] = []

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def token_ids(self) -> list[int]:
        """A copy of the tokens so far."""
        return list(self._ids)

    def append_observation(self, token_ids: Sequence[int]) -> None:
        """Append tokens the policy did not choose."""
        self._ids.extend(token_ids)
        self._mask.extend([False] * len(token_ids))
        self._logprobs.extend([float("nan")] * len(token_ids))

    def append_completion(self, completion: Completion) -> tuple[int, int]:
        """Append sampled tokens; returns their span (start, end)."""
        start = len(self._ids)
        self._ids.extend(completion.token_ids.tolist())
        self._mask.extend([True] * len(completion.token_ids))
        self._logprobs.extend(completion.logprobs.tolist())
        self.versions.append(completion.policy_version)
        return start, len(self._ids)

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """token_ids int32 [L], action_mask bool [L], logprobs float32 [L]."""
        return (
            np.asarray(self._ids, dtype=np.int32),
            np.asarray(self._mask, dtype=bool),
            np.asarray(self._logprobs, dtype=np.float32),
        )
