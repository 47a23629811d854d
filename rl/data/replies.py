"""Trajectories of one task -> the replies that were given to one and the same context."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from envs.types import Json, Message
from rewards.classify import Verdict, judge
from rewards.types import CallError
from rl.data.pairs import Side, canonical, digest
from rollout.trajectory import Trajectory


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One turn of a trajectory, as a reply to what stood before it."""

    trajectory: Trajectory
    turn: int
    verdict: Verdict
    """On the trajectory."""
    errors: tuple[CallError, ...]
    """Of this turn, in the order of its calls."""

    @property
    def message(self) -> Message:
        """What was replied."""
        return self.trajectory.turns[self.turn].message

    @property
    def kind(self) -> str | None:
        """The first error."""
        return str(self.errors[0].kind) if self.errors else None

    def side(self, score: float) -> Side:
        """This reply as a side of a pair."""
        trajectory, turn = self.trajectory, self.trajectory.turns[self.turn]
        known = turn.end > turn.start
        return Side(
            messages=(self.message,),
            score=score,
            trajectory_id=trajectory.trajectory_id,
            token_ids=trajectory.token_ids[: turn.end] if known else None,
            logprobs=trajectory.logprobs[: turn.end] if known else None,
        )

    def lineage(self) -> dict[str, Json]:
        """Where it stands."""
        task = self.trajectory.task
        return {"task": task.task_id, "group": self.trajectory.group_id, "turn": self.turn}


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What stood before some replies."""

    key: str
    replies: tuple[Reply, ...]
    """In the order of the trajectories; at least one."""

    @property
    def first(self) -> Reply:
        """Any of them, for what they have in common."""
        return self.replies[0]


def usable(trajectories: Iterable[Trajectory]) -> list[Trajectory]:
    """Those that the infrastructure did not break and that said something."""
    return [one for one in trajectories if not one.ending.is_failure and one.turns]


def contexts(trajectories: Sequence[Trajectory]) -> list[Context]:
    """The replies of trajectories of one task, put together where all that was read before is the same.

    The same reply given twice is one, also where the order of its arguments differs. Turns that were put into an
    episode and not sampled, as those of a reference that an exploration follows, are no replies of the policy.
    """
    found: dict[str, dict[str, Reply]] = {}
    for reply in _replies(trajectories):
        found.setdefault(_key(reply), {}).setdefault(canonical(reply.message), reply)
    return [Context(key=key, replies=tuple(replies.values())) for key, replies in found.items()]


def _replies(trajectories: Sequence[Trajectory]) -> Iterator[Reply]:
    for trajectory in trajectories:
        errors: dict[int, list[CallError]] = {}
        verdict = judge(trajectory)
        for error in verdict.errors:
            if error.call is not None:
                errors.setdefault(error.turn, []).append(error)
        sampled = [_is_sampled(trajectory, turn) for turn in range(len(trajectory.turns))]
        for turn in range(len(trajectory.turns)):
            if sampled[turn] or not any(sampled):
                yield Reply(trajectory=trajectory, turn=turn, verdict=verdict, errors=tuple(errors.get(turn, ())))


def _is_sampled(trajectory: Trajectory, index: int) -> bool:
    """Whether an engine of ours sampled the turn."""
    turn = trajectory.turns[index]
    return turn.end > turn.start and not np.isnan(trajectory.logprobs[turn.start])


def _key(reply: Reply) -> str:
    """Equal for replies to the same context."""
    messages = [message.to_json() for message in reply.trajectory.messages_before(reply.turn)]
    names = [tool.name for tool in reply.trajectory.offered_tools(reply.turn)]
    return digest([reply.trajectory.task.task_id, messages, names])
