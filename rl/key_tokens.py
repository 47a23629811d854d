"""Weights for the tokens that decide which tool is called (TL-Training, arXiv 2412.15495: prioritising key tokens).

Works for any tokenizer and grammar: the other names are written in the place of the right one and compared token by
token. One call's target is what is written from its name on: name, arguments, and the end of the turn.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from envs.actions import ACTION_NAMES, DEFERRALS
from envs.types import Message, ToolCall, ToolSpec
from rewards.matching import pointer
from rollout.parsers import CallPlace
from rollout.renderer import Renderer
from rollout.trajectory import Trajectory, Turn


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyTokens:
    """Which tokens are key, and what they weigh; as options of a recipe."""

    max_weight: float = 9.0
    """The largest weight: w_max of the paper."""
    preset: Literal["stated", "released"] = "stated"
    """`released`: tokens that close an argument are no others, and actions (finish, talk_to_user) are tools like any
    other, as in the authors' program."""
    argument_names: bool = False
    """Also the first token of each argument's name, and those where it departs from the tool's other ones (ours)."""
    deferrals: bool = False
    """Also calls of the actions that ask or change tools (ours)."""

    def __post_init__(self) -> None:
        if self.max_weight < 1:
            raise ValueError(f"max_weight {self.max_weight}: expected 1 or more")
        if self.preset not in ("stated", "released"):
            raise ValueError(f"preset {self.preset!r}: expected 'stated' or 'released'")


def key_weight(num_keys: int, num_others: int, max_weight: float = 9.0) -> float:
    """CLIP(|NK| / |K|, 1, w_max): what a key token of a target weighs that has so many key and so many other tokens."""
    return min(max(num_others / num_keys, 1.0), max_weight)


class KeyWeights:
    """Finds the key tokens of demonstrated calls.

    Key are the first token of the tool's name and, for every other tool that is offered, the first token at which the
    right name departs from it, if they begin alike.
    """

    def __init__(self, options: KeyTokens, renderer: Renderer) -> None:
        """Prepare for one model.

        Args:
            options: which tokens are key.
            renderer: writes calls as the model's tokens.
        """
        self._options = options
        self._renderer = renderer
        self._names: dict[str, list[int]] = {}
        self._arguments: dict[tuple[str, bool], list[int]] = {}

    def __call__(self, trajectory: Trajectory) -> np.ndarray:
        """A weight for every token, float32 [L]: 1, and more for key tokens of turns to learn from."""
        weights = np.ones(len(trajectory.token_ids), dtype=np.float32)
        for index, turn in enumerate(trajectory.turns):
            if turn.train and turn.places:
                tools = trajectory.offered_tools(index)
                for call, place, start, end in self._targets(turn):
                    keys = self._keys(call, place, start, trajectory.token_ids[:end], tools)
                    num_others = end - start - len(keys | self._closing(call, place, end))
                    weights[list(keys)] = key_weight(len(keys), num_others, self._options.max_weight)
        return weights

    def _targets(self, turn: Turn) -> Iterator[tuple[ToolCall, CallPlace, int, int]]:
        """The calls whose names are decisions, with their places and the spans of their targets."""
        ends = [*(place.span[0] for place in turn.places[1:]), turn.end]
        for call, place, end in zip(turn.message.calls, turn.places, ends, strict=True):
            if isinstance(call, ToolCall) and place.name is not None and self._is_decision(call.name):
                yield call, place, place.name[0], end

    def _is_decision(self, name: str) -> bool:
        if name not in ACTION_NAMES or self._options.preset == "released":
            return True
        return self._options.deferrals and name in DEFERRALS

    def _keys(
        self, call: ToolCall, place: CallPlace, start: int, token_ids: np.ndarray, tools: Sequence[ToolSpec]
    ) -> set[int]:
        # A name that begins with another letter shares no token: it need not be written, and most begin so.
        alike = [tool.name for tool in tools if tool.name != call.name and tool.name[:1] == call.name[:1]]
        keys = {start} | _forks(token_ids, start, [self._name(name) for name in alike])
        if self._options.argument_names:
            properties = next((tool.properties for tool in tools if tool.name == call.name), {})
            for number, argument in enumerate(call.arguments):
                span = place.keys.get(pointer(argument))
                if span is not None:
                    keys |= self._argument_keys(argument, token_ids, span[0], properties, is_first=number == 0)
        return keys

    def _argument_keys(
        self, argument: str, token_ids: np.ndarray, start: int, properties: Iterable[str], *, is_first: bool
    ) -> set[int]:
        # What stands at `start` may be a quote, which all names share: the name begins where an unlike one departs.
        unlike = self._argument("1" if argument.startswith("0") else "0", is_first)
        others = [self._argument(other, is_first) for other in properties if other != argument]
        return (_forks(token_ids, start, [unlike]) or {start}) | _forks(token_ids, start, others)

    def _closing(self, call: ToolCall, place: CallPlace, end: int) -> set[int]:
        """Tokens that close an argument: the last one of a string, the one after any other value."""
        if self._options.preset != "released":
            return set()
        spans = {name: place.values.get(pointer(name)) for name in call.arguments}
        closing = {
            span[1] - 1 if isinstance(call.arguments[name], str) else span[1]
            for name, span in spans.items()
            if span is not None
        }
        return {token for token in closing if token < end}

    def _name(self, name: str) -> list[int]:
        """The tokens of a call from its name on."""
        if name not in self._names:
            token_ids, place = self._written(ToolCall(name=name, arguments={}))
            self._names[name] = token_ids[place.name[0] :] if place is not None and place.name is not None else []
        return self._names[name]

    def _argument(self, name: str, is_first: bool) -> list[int]:
        """The tokens of a call from the name of its first argument, or of a later one, on."""
        if (name, is_first) not in self._arguments:
            before = {} if is_first else {"x" if name != "x" else "y": ""}
            token_ids, place = self._written(ToolCall(name="f", arguments={**before, name: ""}))
            span = place.keys.get(pointer(name)) if place is not None else None
            self._arguments[name, is_first] = token_ids[span[0] :] if span is not None else []
        return self._arguments[name, is_first]

    def _written(self, call: ToolCall) -> tuple[list[int], CallPlace | None]:
        token_ids = self._renderer.assistant(Message(role="assistant", calls=(call,)))
        return token_ids, next(iter(self._renderer.places(token_ids)), None)


def _forks(token_ids: np.ndarray, start: int, others: Sequence[Sequence[int]]) -> set[int]:
    """The first token from `start` on that differs from each of the others, where at least one token is the same."""
    own = token_ids[start:].tolist()
    found: set[int] = set()
    for other in others:
        shared = next((n for n, (one, two) in enumerate(zip(own, other, strict=False)) if one != two), 0)
        if shared:
            found.add(start + shared)
    return found
