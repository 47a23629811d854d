"""TTPA's preference pairs: the right reply to a context against those that its error-oriented score puts below it.

Source: TTPA (arXiv 2505.20016), the pairs of its release. There a reply above 0.8 is chosen whatever is wrong with it,
and every reply below is rejected. Here what is chosen is right: a reply of the policy where there is one, else the
message of the reference, and no pair is made where that is not certain. The preset `released` keeps to the release.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from envs.types import Json, Message, ToolCall
from rewards.due import Due, due, due_calls, released_reply_score, reply_terms
from rewards.esm import EsmClass
from rewards.types import ErrorKind
from rl.data.pairs import Found, Pair, Settings, Side, chance, shared_tokens, spread
from rl.data.replies import Context, Reply, contexts, usable
from rollout.exploration import part_at
from rollout.renderer import numbered
from rollout.trajectory import Trajectory

THRESHOLD = 0.8
"""From this score on the release takes a reply of the policy for right."""

MIN_GAP = 0.05
"""Of the two scores, unless told otherwise: less than any term of the score is worth in a call of few arguments."""

RIGHT = 1.0 - 1e-9


@dataclass(frozen=True, slots=True)
class _Scored:
    """A reply with its score."""

    reply: Reply
    side: Side
    error: EsmClass

    @property
    def is_right(self) -> bool:
        return self.side.score >= RIGHT and not self.reply.errors


def esm(trajectories: Sequence[Trajectory], settings: Settings) -> Found:
    """The pairs of each context, at most `max_rejected`, of different classes of error first.

    Of the right replies the one that shares most tokens with the rejected one is chosen, so that the two part where
    the error is.
    """
    return _pairs(trajectories, settings, _released if settings.preset == "released" else _stated)


def binary(trajectories: Sequence[Trajectory], settings: Settings) -> Found:
    """The same with a score that knows but right (1) and wrong (0): no reply is further off than another.

    What the error-oriented score adds shows in the difference from `esm`.
    """
    return _pairs(trajectories, settings, partial(_stated, graded=False))


def _pairs(
    trajectories: Sequence[Trajectory], settings: Settings, add: Callable[[Context, Due, Settings, Found], None]
) -> Found:
    found = Found()
    for context in contexts(usable(trajectories)):
        found.counts["contexts"] += 1
        found.counts["replies"] += len(context.replies)
        wanted = due(context.first.trajectory, context.first.turn)
        if wanted is None:
            found.none("what is right is not known")
        else:
            add(context, wanted, settings, found)
    return found


def _stated(context: Context, wanted: Due, settings: Settings, found: Found, *, graded: bool = True) -> None:
    scored = [_score(reply, wanted) for reply in context.replies]
    right = [one.side for one in scored if one.is_right]
    if not right:
        reference = _reference(context, wanted)
        if isinstance(reference, str):
            found.none(reference)
            return
        right = [reference]
    if not graded:
        scored = [one if one.is_right else _without_degree(one) for one in scored]
    best = right[0].score
    gap = max(settings.min_gap, 1e-9)
    wrong = [one for one in scored if not one.is_right and best - one.side.score >= gap]
    if not wrong:
        found.none("all replies are right" if all(one.is_right for one in scored) else "the gap is too small")
        return
    chance(settings, "esm", context.key).shuffle(wrong)
    nearest = {id(one): max(right, key=lambda side: _shared(side, one.side)) for one in wrong}
    if graded:
        wrong.sort(key=lambda one: -_shared(nearest[id(one)], one.side))
    kept = spread(wrong, lambda one: one.error, settings.max_rejected) if graded else wrong[: settings.max_rejected]
    found.add([_pair(nearest[id(one)], one.reply, one.side, wanted) for one in kept])


def _score(reply: Reply, wanted: Due) -> _Scored:
    terms = reply_terms(reply.trajectory, reply.turn, wanted, reply.errors)
    return _Scored(reply, reply.side(terms.total()), terms.error)


def _without_degree(scored: _Scored) -> _Scored:
    return replace(scored, side=replace(scored.side, score=0.0))


def _reference(context: Context, wanted: Due) -> Side | str:
    """The right message by the reference, or why it is not certain."""
    trajectory, turn = context.first.trajectory, context.first.turn
    calls = due_calls(trajectory, turn, wanted)
    return calls if isinstance(calls, str) else _made_side(trajectory, turn, calls)


def _made_side(trajectory: Trajectory, turn: int, calls: Sequence[ToolCall]) -> Side:
    start = sum(len(earlier.message.calls) for earlier in trajectory.turns[:turn])
    message = numbered(Message(role="assistant", calls=tuple(calls)), start)
    return Side(messages=(message,), score=1.0)


def _released(context: Context, wanted: Due, settings: Settings, found: Found) -> None:
    """Chosen: the best reply, the last of equals, if it reaches the threshold, else the reference.

    Rejected: every reply that scores less. The first calls are compared; turns at which no call is right are not looked
    at, as the release has none of these.
    """
    first = context.first
    calls = due_calls(first.trajectory, first.turn, wanted) if wanted.targets else "no call is due"
    if isinstance(calls, str):
        found.none(calls)
        return
    sides = [
        (reply, reply.side(released_reply_score(reply.trajectory, reply.turn, calls[0]))) for reply in context.replies
    ]
    chosen = max(reversed(sides), key=lambda pair: pair[1].score)[1]
    if chosen.score < THRESHOLD:
        chosen = _made_side(first.trajectory, first.turn, calls)
    rejected = [(reply, side) for reply, side in sides if side.score < chosen.score]
    if rejected:
        found.add([_pair(chosen, reply, side, wanted) for reply, side in rejected])
    else:
        found.none("all replies score alike")


def _pair(chosen: Side, reply: Reply, rejected: Side, wanted: Due) -> Pair:
    # A reply without a fault in its calls is rejected for the calls that it did not make.
    unsaid = str(ErrorKind.MISSING_CALL) if wanted.targets else None
    return Pair(
        prompt=reply.trajectory.messages_before(reply.turn),
        tools=reply.trajectory.tools,
        chosen=chosen,
        rejected=rejected,
        kind=reply.kind or unsaid,
        lineage={**reply.lineage(), **_parting(chosen, rejected, reply)},
    )


def _parting(chosen: Side, rejected: Side, reply: Reply) -> Mapping[str, Json]:
    """Where two sampled sides part: the first token that differs, what it belongs to, how likely either was."""
    at = shared_tokens(chosen, rejected)
    turn = reply.trajectory.turns[reply.turn]
    if at is None or not turn.start <= at < turn.end:
        return {}
    shares = {
        name: round(float(np.exp(side.logprobs[at])), 6)
        for name, side in (("chosen_probability", chosen), ("rejected_probability", rejected))
        if side.logprobs is not None and at < len(side.logprobs) and not np.isnan(side.logprobs[at])
    }
    return {"parts_at": at - turn.start, "parts_in": part_at(turn.places, at), **shares}


def _shared(one: Side, other: Side) -> int:
    return shared_tokens(one, other) or 0
