"""What else the policy might have said: at every turn of an episode other completions of the same context.

Two ways of asking, both of TTPA (arXiv 2505.20016): n samples of the turn, as its release does, and branches at the
tokens of a call at which the policy wavers. A branch keeps the greedy turn up to such a token, puts another likely
token in its place and goes on greedily, so engines with a prefix cache compute the shared beginning once.

    followed episode:   prompt | turn 0 | results | turn 1 | ...
    candidates of turn 1:        (the same tokens) | greedy
                                                   | greedy up to a token, another token, the rest
                                                   | a sample
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from envs.component import Component
from envs.types import Outcome, Task
from rollout.demonstrations import DemonstrationPolicy, expect_readable, unsampled_completion
from rollout.engine import Engine, Sampling
from rollout.episode import Action, MakeEnv, Situation, run_loop, turn_seed
from rollout.parsers import CallPlace
from rollout.renderer import Renderer
from rollout.trajectory import Alternatives, Completion, Ending, Finish, Trajectory, Turn

_NO_DECISION = re.compile(r"""[\s"'{}\[\]():,]*""")
"""Tokens of such characters alone only separate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exploration:
    """How candidates are found. TTPA does not print its rule; the branching values are this project's."""

    num_samples: int = 5
    """Completions sampled at each turn, as in TTPA's release."""
    num_branches: int = 8
    """Most positions of a turn to branch at; 0: samples alone."""
    num_alternatives: int = 5
    """Likeliest tokens that are looked at in each position."""
    max_margin: float = 0.2
    """A position is uncertain if the likeliest token leads the second by no more than this probability."""
    min_entropy: float = 0.3
    """It is so too if the entropy of the likeliest tokens reaches this share of its maximum."""
    min_probability: float = 0.01
    """Tokens less likely are not followed."""
    follow: Component | None = None
    """factory(task) -> DemonstrationPolicy, whose messages the environment sees; None: the policy's own, the greedy
    one where there are branches, else the first sample."""

    def __post_init__(self) -> None:
        if self.num_samples < 0 or self.num_branches < 0 or not self.num_samples + self.num_branches:
            raise ValueError(f"{self.num_samples} samples and {self.num_branches} branches: expected one or the other")
        if self.num_branches and self.num_alternatives < 2:
            raise ValueError(f"{self.num_alternatives} alternatives: expected at least 2 to branch")


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """One token of a call that decides something, and how sure the policy was of it."""

    index: int
    """Of the token in its completion."""
    part: str
    """What it belongs to: name, key or value."""
    margin: float
    """Probability of the likeliest token minus that of the second."""
    entropy: float
    """Of the likeliest tokens, as a share of the entropy they would have if all were alike."""


async def explore(
    task: Task,
    make_env: MakeEnv,
    engine: Engine,
    renderer: Renderer,
    sampling: Sampling,
    exploration: Exploration,
    *,
    trajectory_id: str,
    group_id: str,
    max_turns: int,
    offer_actions: bool = True,
) -> list[Trajectory]:
    """Follow one episode and ask for the candidates of each of its turns.

    Args:
        sampling: of the samples; its `max_tokens` and `seed` count for the branches too.

    Returns:
        The followed episode, then the candidates: trajectories that end with a candidate turn and share all before it
        with the episode, `trajectory_id` followed by /TURN/greedy, /TURN/branch-INDEX-TOKEN or /TURN/sample-NUMBER.
    """
    asked: list[list[tuple[str, Completion]]] = []
    policy: DemonstrationPolicy | None = None if exploration.follow is None else exploration.follow.build(task)
    stop_token_ids = tuple(dict.fromkeys((*renderer.stop_token_ids, *sampling.stop_token_ids)))
    base = replace(sampling, stop_token_ids=stop_token_ids)

    async def act(situation: Situation) -> Action | None:
        turn = _Turn(situation, engine, renderer, base, exploration, trajectory_id)
        found = await turn.candidates()
        asked.append(found)
        if policy is None:
            return Action(completion=found[0][1])
        message, _ = policy.reply(situation.messages, situation.tools, situation.last_step)
        token_ids = renderer.assistant(message)
        if len(token_ids) > situation.room:
            return None
        expect_readable(renderer, message, token_ids)
        return Action(completion=unsampled_completion(token_ids))

    followed = await run_loop(
        task,
        make_env,
        act,
        renderer,
        trajectory_id=trajectory_id,
        group_id=group_id,
        max_turns=max_turns,
        offer_actions=offer_actions,
    )
    candidates = [
        _candidate(followed, index, name, completion, renderer)
        for index, found in enumerate(asked[: len(followed.turns)])
        for name, completion in found
    ]
    return [followed, *candidates]


class _Turn:
    """The requests of one turn."""

    def __init__(
        self,
        situation: Situation,
        engine: Engine,
        renderer: Renderer,
        sampling: Sampling,
        exploration: Exploration,
        trajectory_id: str,
    ) -> None:
        self.situation = situation
        self.engine = engine
        self.renderer = renderer
        self.exploration = exploration
        self.trajectory_id = trajectory_id
        self.sampling = replace(sampling, max_tokens=min(sampling.max_tokens, situation.room))
        self.greedy = replace(self.sampling, temperature=0.0, top_p=1.0, seed=None)

    async def candidates(self) -> list[tuple[str, Completion]]:
        """Each with its name: the greedy one first where there are branches, then these, then the samples."""
        samples = [self._sample(number) for number in range(self.exploration.num_samples)]
        branched, sampled = await asyncio.gather(self._branched(), asyncio.gather(*samples))
        return [*branched, *((f"sample-{number}", completion) for number, completion in enumerate(sampled))]

    async def _branched(self) -> list[tuple[str, Completion]]:
        if not self.exploration.num_branches:
            return []
        asking = replace(self.greedy, num_alternatives=self.exploration.num_alternatives)
        greedy = await self._generate("greedy", [], asking)
        branches = [
            (position.index, token, logprob)
            for position in branch_positions(greedy, self.renderer, self.exploration)
            for token, logprob in _others(greedy, position.index, self.exploration.min_probability)
            if position.index + 1 <= self.greedy.max_tokens
        ]
        finished = await asyncio.gather(*[self._branch(greedy, *branch) for branch in branches])
        names = [f"branch-{index}-{token}" for index, token, _ in branches]
        return [("greedy", replace(greedy, alternatives=None)), *zip(names, finished, strict=True)]

    async def _sample(self, number: int) -> Completion:
        name = f"sample-{number}"
        seed = turn_seed(self.sampling.seed, f"{self.trajectory_id}/{name}", self.situation.turn)
        return await self._generate(name, [], replace(self.sampling, seed=seed))

    async def _branch(self, greedy: Completion, index: int, token: int, logprob: float) -> Completion:
        """The greedy completion up to `index`, `token` in its place, and what then follows greedily."""
        kept = [*greedy.token_ids[:index].tolist(), token]
        logprobs = np.append(greedy.logprobs[:index], np.float32(logprob))
        rest = self.greedy.max_tokens - len(kept)
        finish, version = Finish.STOP, greedy.policy_version
        if token not in self.greedy.stop_token_ids:
            finish = Finish.LENGTH
            if rest > 0:
                request = replace(self.greedy, max_tokens=rest)
                more = await self._generate(f"branch-{index}-{token}", kept, request)
                kept += more.token_ids.tolist()
                logprobs = np.append(logprobs, more.logprobs)
                finish, version = more.finish, min(version, more.policy_version)
        return Completion(
            token_ids=np.asarray(kept, dtype=np.int32),
            logprobs=logprobs.astype(np.float32),
            finish=finish,
            policy_version=version,
        )

    async def _generate(self, name: str, kept: list[int], sampling: Sampling) -> Completion:
        request_id = f"{self.trajectory_id}/{name}/{self.situation.turn}"
        return await self.engine.generate([*self.situation.prompt_ids, *kept], sampling, request_id)


def branch_positions(completion: Completion, renderer: Renderer, exploration: Exploration) -> list[Position]:
    """Where to branch: the uncertain positions, those of highest entropy first.

    Where there are fewer than two, the position of each part at which the policy leads by least is taken beside them.

    Args:
        completion: greedy, with alternatives.
        renderer: reads its calls.
        exploration: what counts as uncertain, and how many positions there may be.
    """
    assert completion.alternatives is not None, "alternatives were asked for"
    found = decision_positions(completion.token_ids.tolist(), renderer)
    known = [_position(index, part, completion.alternatives, exploration.num_alternatives) for index, part in found]
    uncertain = [
        position
        for position in known
        if position.margin <= exploration.max_margin or position.entropy >= exploration.min_entropy
    ]
    chosen = sorted(uncertain, key=lambda position: (-position.entropy, position.index))
    if len(chosen) < 2:
        for part in ("name", "key", "value"):
            of_part = [position for position in known if position.part == part]
            closest = min(of_part, key=lambda position: (position.margin, position.index), default=None)
            if closest is not None and closest not in chosen:
                chosen.append(closest)
    return chosen[: exploration.num_branches]


def decision_positions(token_ids: Sequence[int], renderer: Renderer) -> list[tuple[int, str]]:
    """The tokens of a completion that spell a name, a key or a value of its calls, each with that part.

    Tokens that only separate are left out, and calls that cannot be read have no such tokens.
    """
    parts: dict[int, str] = {}
    for place in renderer.places(token_ids):
        for part, spans in _parts(place):
            for start, end in spans:
                for index in range(start, end):
                    if index not in parts and not _NO_DECISION.fullmatch(renderer.decode([token_ids[index]])):
                        parts[index] = part
    return sorted(parts.items())


def part_at(places: Sequence[CallPlace], token: int) -> str:
    """What a token belongs to: name, key or value of a call, "call" elsewhere in one, "text" outside of calls."""
    for place in places:
        if place.span[0] <= token < place.span[1]:
            for part, spans in _parts(place):
                if any(start <= token < end for start, end in spans):
                    return part
            return "call"
    return "text"


def _parts(place: CallPlace) -> list[tuple[str, list[tuple[int, int]]]]:
    """The spans of the name, of the keys, and of the values that hold no others."""
    inner = {pointer.rpartition("/")[0] for pointer in place.values}
    values = [span for pointer, span in place.values.items() if pointer not in inner]
    return [("name", [place.name] if place.name else []), ("key", list(place.keys.values())), ("value", values)]


def _position(index: int, part: str, alternatives: Alternatives, num_alternatives: int) -> Position:
    shares = np.exp(alternatives.logprobs[index].astype(np.float64))
    ordered = np.sort(shares)[::-1]
    known = shares[shares > 0] / shares.sum()
    entropy = float(-(known * np.log(known)).sum() / np.log(num_alternatives))
    return Position(
        index=index,
        part=part,
        margin=float(ordered[0] - (ordered[1] if len(ordered) > 1 else 0.0)),
        entropy=entropy,
    )


def _others(completion: Completion, index: int, min_probability: float) -> list[tuple[int, float]]:
    """The tokens that might stand at `index` instead, with their log-probs."""
    assert completion.alternatives is not None
    pairs = zip(
        completion.alternatives.token_ids[index].tolist(),
        completion.alternatives.logprobs[index].tolist(),
        strict=True,
    )
    taken = int(completion.token_ids[index])
    return [
        (token, logprob) for token, logprob in pairs if token not in (taken, -1) and np.exp(logprob) >= min_probability
    ]


def _candidate(followed: Trajectory, index: int, name: str, completion: Completion, renderer: Renderer) -> Trajectory:
    """The followed episode up to turn `index`, with a candidate as its last turn."""
    earlier = followed.turns[:index]
    start = followed.turns[index].start
    token_ids = completion.token_ids.tolist()
    message = renderer.parse(token_ids, start=sum(len(turn.message.calls) for turn in earlier))
    turn = Turn(
        message=message,
        results=(),
        start=start,
        end=start + len(token_ids),
        places=renderer.places(token_ids, at=start) if message.calls else (),
    )
    own = np.ones(len(token_ids), dtype=bool)
    versions = [completion.policy_version]
    if earlier:
        versions += [followed.oldest_version, followed.newest_version]
    return replace(
        followed,
        trajectory_id=f"{followed.trajectory_id}/{index}/{name}",
        turns=(*earlier, turn),
        token_ids=np.concatenate([followed.token_ids[:start], completion.token_ids]),
        action_mask=np.concatenate([followed.action_mask[:start], own]),
        logprobs=np.concatenate([followed.logprobs[:start], completion.logprobs]),
        oldest_version=min(versions),
        newest_version=max(versions),
        ending=Ending.MAX_TOKENS if completion.finish is Finish.LENGTH else Ending.MAX_TURNS,
        outcome=Outcome(),
        error="",
        seconds=0.0,
    )
