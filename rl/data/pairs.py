"""Preference pairs: two ways to go on after one context, the rows they become, and which of them are kept."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import numpy as np

from envs.benchmarks.dialogues import to_openai
from envs.types import Json, MalformedCall, Message, Task, ToolCall, ToolSpec
from rollout.demonstrations import from_messages
from rollout.parsers import PARSERS, Parser
from rollout.recorded import message_of_openai
from rollout.renderer import Renderer
from rollout.trajectory import Trajectory

Preset = Literal["stated", "released"]

NO_KIND = "none"
"""Stands for the kind of a rejected side that holds no error."""

WITH_A_PAIR = "with a pair"
"""What `Found.counts` calls the contexts that gave one."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What every rule is told."""

    preset: Preset = "stated"
    """`stated`: as the paper describes it, with the faults of its release mended. `released`: as its code does it."""
    min_gap: float = 0.0
    """Smallest difference of scores; chosen always scores higher."""
    max_rejected: int = 4
    """Pairs of one context, or of one task for whole traces."""
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One way to go on."""

    messages: tuple[Message, ...]
    """From a message of the policy on."""
    score: float
    """By the scorer of the rule."""
    trajectory_id: str = ""
    """Which trajectory said so; "": none did, it was made from the reference."""
    token_ids: np.ndarray | None = None
    """int32 [L]: the whole trajectory up to the end of this side, where its tokens are known."""
    logprobs: np.ndarray | None = None
    """float32 [L]: of these tokens; NaN where no engine of ours sampled them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two ways to go on after one context."""

    prompt: tuple[Message, ...]
    tools: tuple[ToolSpec, ...]
    """Offered at the start of the episode: what the prompt is rendered with."""
    chosen: Side
    rejected: Side
    kind: str | None
    """The first error of the rejected side, from the one taxonomy; None: it holds no error."""
    lineage: Mapping[str, Json] = field(default_factory=dict)
    """What more is known of where it comes from: task, group, turn, and what the rule adds."""

    def __post_init__(self) -> None:
        if not self.chosen.score > self.rejected.score:
            raise ValueError(f"chosen scores {self.chosen.score}, rejected {self.rejected.score}: expected less")

    def row(self, parser: Parser = PARSERS["hermes"]) -> dict[str, Json]:
        """The record of `source.preferences`, without its source.

        Args:
            parser: writes turns with calls that could not be read, which OpenAI's form has no place for, as text.
        """
        row: dict[str, Json] = {
            "prompt": [openai_form(message, parser) for message in self.prompt],
            "chosen": [openai_form(message, parser) for message in self.chosen.messages],
            "rejected": [openai_form(message, parser) for message in self.rejected.messages],
            "tools": [{"type": "function", "function": tool.to_json()} for tool in self.tools],
            "kind": self.kind,
        }
        return {"pair_id": digest(row), **row}

    def source(self) -> dict[str, Json]:
        """Where it comes from, for the record's `source`."""
        return {
            "chosen_trajectory": self.chosen.trajectory_id or None,
            "rejected_trajectory": self.rejected.trajectory_id or None,
            "chosen_score": round(self.chosen.score, 6),
            "rejected_score": round(self.rejected.score, 6),
            **self.lineage,
        }


@dataclass(slots=True, kw_only=True)
class Found:
    """What a rule made of the trajectories of one task."""

    pairs: list[Pair] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    """How many contexts were looked at, and why there is no pair of others: entries "no pair/REASON"."""

    def add(self, pairs: Sequence[Pair]) -> None:
        """The pairs of one context, at least one."""
        self.pairs += pairs
        self.counts[WITH_A_PAIR] += 1

    def none(self, reason: str) -> None:
        """Count a context that gave no pair."""
        self.counts[f"no pair/{reason}"] += 1


Rule = Callable[[Sequence[Trajectory], Settings], Found]
"""Makes the pairs of the trajectories of one task. Pure; chance comes from the seed and the context alone."""


def openai_form(message: Message, parser: Parser) -> dict[str, Json]:
    """A message as rows of training data hold it."""
    if any(isinstance(call, MalformedCall) for call in message.calls):
        return {"role": message.role, "content": parser.format(message.content, message.calls)}
    return to_openai(message)


def digest(value: Json) -> str:
    """A short name for a JSON value: the same for the same value."""
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=10).hexdigest()


def chance(settings: Settings, *names: str) -> random.Random:
    """The source of chance for one context: independent of all others, and of the order in which they come."""
    return random.Random(f"{settings.seed} {' '.join(names)}")


def spread(items: Iterable[T], group: Callable[[T], Hashable], num: int) -> list[T]:
    """The first `num` items, taken one of each group in turn, so that no group crowds out another."""
    queues: dict[Hashable, list[T]] = {}
    for item in items:
        queues.setdefault(group(item), []).append(item)
    taken: list[T] = []
    while len(taken) < num and queues:
        for name in list(queues):
            taken.append(queues[name].pop(0))
            if not queues[name]:
                del queues[name]
    return taken[:num]


def canonical(message: Message) -> str:
    """What a message says, whatever the order of its arguments: equal for messages that are the same reply."""
    calls = [[call.name, dict(call.arguments)] if isinstance(call, ToolCall) else [call.text] for call in message.calls]
    return json.dumps(calls or message.content, sort_keys=True)


def shared_tokens(one: Side, other: Side) -> int | None:
    """How many tokens two sides share from the start of the episode on; None where tokens are not known."""
    if one.token_ids is None or other.token_ids is None:
        return None
    length = min(len(one.token_ids), len(other.token_ids))
    differs = np.flatnonzero(one.token_ids[:length] != other.token_ids[:length])
    return int(differs[0]) if len(differs) else length


def why_not_exact(pair: Pair, row: Mapping[str, Json], renderer: Renderer) -> str:
    """Whether learning from a row learns the sampled tokens: why not, or "".

    Each sampled side is rendered as `source.preferences` renders it, and has to give the tokens of its trajectory: a
    call that was spelt in another way than the chat template does would be learned as it never was said.
    """
    for name, side in (("chosen", pair.chosen), ("rejected", pair.rejected)):
        messages = [*row["prompt"], *row[name]]
        try:
            read = from_messages(
                _task_of(pair, messages), messages, pair.tools, renderer, trajectory_id=name, group_id=name
            )
        except ValueError:
            return f"the {name} side cannot be rendered"
        if len(read.turns) < sum(message["role"] == "assistant" for message in messages):
            return f"the {name} side does not fit into the context"
        if side.token_ids is not None and not np.array_equal(read.token_ids, side.token_ids):
            return f"the {name} side renders to other tokens than were sampled"
    return ""


def _task_of(pair: Pair, messages: Sequence[Mapping[str, Json]]) -> Task:
    prompt = [message_of_openai(message, "prompt") for message in messages]
    first = next(index for index, message in enumerate(prompt) if message.role == "assistant")
    return Task(task_id="pair", prompt=tuple(prompt[:first]), tools=pair.tools)
