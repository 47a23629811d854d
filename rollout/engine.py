"""The seams between episodes and inference: token ids in, token ids out; or messages in, a message out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from envs.types import Message, ToolSpec
from rollout.trajectory import Completion


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How one completion is sampled."""

    temperature: float = 1.0
    """0 is greedy."""
    top_p: float = 1.0
    max_tokens: int = 128
    seed: int | None = None
    stop_token_ids: tuple[int, ...] = ()
    num_alternatives: int = 0
    """Likeliest tokens to report at every position, beside the sampled one; at most 20."""


class EngineFailed(RuntimeError):
    """The engine died, refused or serves stale weights. Never the policy's error."""


class Engine(Protocol):
    """Samples completions with one version of the policy's weights."""

    @property
    def version(self) -> int:
        """Version of the weights that are live."""
        ...

    async def generate(self, prompt_ids: Sequence[int], sampling: Sampling, request_id: str) -> Completion:
        """Sample one completion after `prompt_ids`.

        Raises:
            EngineFailed: no completion could be made.
        """
        ...

    async def load(self, version: int, weights: str) -> None:
        """Make `weights` live as `version`: a safetensors file, or a folder with an adapter in peft's format."""
        ...

    async def close(self) -> None:
        """Release the engine's processes and memory."""
        ...


class Policy(Protocol):
    """Replies in message space: an endpoint, rules, an engine behind a renderer."""

    async def reply(self, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> Message:
        """The next assistant message of a conversation in which `tools` are offered.

        Raises:
            EngineFailed: no reply could be had. Never the policy's error.
        """
        ...
