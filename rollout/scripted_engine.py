"""An engine that says what it is told to: the `Engine` of tests and dry runs. Needs no accelerator and no model."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable, Sequence

import numpy as np

from rollout.engine import EngineFailed, Sampling
from rollout.renderer import Renderer
from rollout.trajectory import Alternatives, Completion, Finish

Script = Callable[[list[int]], list[int]]

Rivals = Callable[[list[int]], Sequence[tuple[int, float]]]
"""From the tokens so far to the tokens that may follow with their probabilities, the likeliest first; none: the script
alone decides."""


class ScriptedEngine:
    """Answers prompts from a script, with made-up log-probs that depend only on version, place and token.

    Args:
        script: a function from the prompt's tokens to the completion's (stop token included), or one text for each
            turn of an episode (stop token left out); a request id ends in its turn, "trajectory/turn".
        renderer: encodes the texts and knows the stop token.
        fail_at: numbers of the calls to `generate`, from 0, that fail.
        rivals: what else may be said, for a script that is a function. Above temperature 0 the next token is drawn
            from them, where there are any, and the script is asked again behind it.
    """

    def __init__(
        self,
        script: Script | Sequence[str],
        renderer: Renderer,
        *,
        version: int = 0,
        fail_at: Sequence[int] = (),
        rivals: Rivals | None = None,
    ) -> None:
        self._script = script
        self._renderer = renderer
        self._stop_token_ids = frozenset(renderer.stop_token_ids)
        self._fail_at = frozenset(fail_at)
        self._version = version
        self._rivals = rivals
        self.requests: list[tuple[list[int], Sampling, str]] = []
        """What was asked: prompt, sampling and request id of every call."""
        self.loaded: list[tuple[int, str]] = []
        """Versions and weights that were made live."""
        self.closed = False

    @property
    def version(self) -> int:
        """Version of the weights that are live."""
        return self._version

    async def generate(self, prompt_ids: Sequence[int], sampling: Sampling, request_id: str) -> Completion:
        """The script's answer, cut at `max_tokens`."""
        number = len(self.requests)
        self.requests.append((list(prompt_ids), sampling, request_id))
        if self.closed or number in self._fail_at:
            raise EngineFailed(f"request {request_id}: the script fails call {number}")
        stops = {*self._stop_token_ids, *sampling.stop_token_ids}
        if self._rivals is not None and sampling.temperature:
            token_ids = self._drawn(list(prompt_ids), sampling, request_id, stops)
        else:
            token_ids = self._answer(list(prompt_ids), request_id)[: sampling.max_tokens]
        stopped = bool(token_ids) and token_ids[-1] in stops
        logprobs = _logprobs(self._version, len(prompt_ids), token_ids)
        choices = [self._choices([*prompt_ids, *token_ids[:index]]) for index in range(len(token_ids))]
        for index, token in enumerate(token_ids):
            logprobs[index] = dict(choices[index]).get(token, logprobs[index])
        return Completion(
            token_ids=np.asarray(token_ids, dtype=np.int32),
            logprobs=logprobs,
            finish=Finish.STOP if stopped else Finish.LENGTH,
            policy_version=self._version,
            alternatives=_alternatives(token_ids, logprobs, choices, sampling.num_alternatives),
        )

    async def load(self, version: int, weights: str) -> None:
        """Record the version; the script stays the same."""
        self.loaded.append((version, weights))
        self._version = version

    async def close(self) -> None:
        """Fail every later request."""
        self.closed = True

    def _drawn(self, prompt_ids: list[int], sampling: Sampling, request_id: str, stops: set[int]) -> list[int]:
        """A completion whose every token is drawn from the rivals."""
        generator = random.Random(sampling.seed)
        token_ids: list[int] = []
        while len(token_ids) < sampling.max_tokens and not (token_ids and token_ids[-1] in stops):
            prefix = prompt_ids + token_ids
            choices = self._choices(prefix)
            if choices:
                weights = [math.exp(logprob) for _, logprob in choices]
                token_ids.append(generator.choices([token for token, _ in choices], weights)[0])
            else:
                token_ids.append(self._answer(prefix, request_id)[0])
        return token_ids

    def _choices(self, prefix: list[int]) -> list[tuple[int, float]]:
        """The tokens that may follow, with their log-probs."""
        return [] if self._rivals is None else [(token, math.log(share)) for token, share in self._rivals(prefix)]

    def _answer(self, prompt_ids: list[int], request_id: str) -> list[int]:
        if callable(self._script):
            return self._script(prompt_ids)
        turn = _turn_of(request_id)
        if turn >= len(self._script):
            raise EngineFailed(f"request {request_id}: the script has {len(self._script)} turns")
        return [*self._renderer.encode(self._script[turn]), self._renderer.stop_token_ids[0]]


def _turn_of(request_id: str) -> int:
    number = request_id.rpartition("/")[2]
    return int(number) if number.isdecimal() else 0


def _logprobs(version: int, start: int, token_ids: Sequence[int]) -> np.ndarray:
    values = [
        -int.from_bytes(hashlib.blake2b(f"{version} {start + index} {token}".encode(), digest_size=2).digest()) / 32768
        for index, token in enumerate(token_ids)
    ]
    return np.asarray(values, dtype=np.float32)


def _alternatives(
    token_ids: Sequence[int], logprobs: np.ndarray, choices: Sequence[Sequence[tuple[int, float]]], num: int
) -> Alternatives | None:
    """The rivals at each position; where there are none, the token itself."""
    if not num:
        return None
    ids = np.full((len(token_ids), num), -1, dtype=np.int32)
    values = np.full((len(token_ids), num), -np.inf, dtype=np.float32)
    for index, known in enumerate(choices):
        for place, (token, logprob) in enumerate(list(known or [(token_ids[index], logprobs[index])])[:num]):
            ids[index, place], values[index, place] = token, logprob
    return Alternatives(token_ids=ids, logprobs=values)
