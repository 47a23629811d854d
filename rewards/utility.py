"""Relign's benefit-cost utility as a reward: what the outcome was worth, minus the calls it took."""

from __future__ import annotations

from envs.actions import ACTION_NAMES
from rewards.classify import Verdict, judge
from rewards.reliability import MAX_CALLS, SOLVED_WORTH, benefit, cost_of, is_solvable, reliability, reply_reliability
from rewards.relign import labels
from rewards.replies import UNKNOWN_REFERENCE, Reply, is_right, made_calls, per_turn, unscored, why_unscored
from rewards.types import Score
from rollout.trajectory import Trajectory


class Utility:
    """Benefit on the last turn, -1 on the turn of each call that costs; -20 to 20.

    Benefit: -10 for a hallucinated answer, else 20 for a reliable pass, 10 for an unsure one. Cost: calls beyond the
    first where the task can be solved as it stands, all calls where it cannot, at most ten.
    Unscored: failures of the infrastructure, and tasks of which neither a reference nor the environment says whether
    they are solved: that would take a judge.
    """

    def __call__(self, trajectory: Trajectory) -> Score:
        """Score one trajectory."""
        reason = why_unscored(trajectory, needs_reference="success" not in trajectory.outcome.facts)
        if reason:
            return unscored(trajectory, reason)
        verdict = judge(trajectory)
        found = reliability(trajectory, verdict, labels(trajectory, verdict))
        num_free = 1 if is_solvable(trajectory, verdict) else 0
        counted = [made for made in made_calls(trajectory) if made.made is None or made.made.name not in ACTION_NAMES]
        costs = [(made.turn, -1.0) for made in counted[num_free:MAX_CALLS]]
        worth = benefit(found)
        return Score(
            per_turn=per_turn(trajectory, [*costs, (len(trajectory.turns) - 1, worth)]),
            errors=verdict.errors,
            parts={"benefit": worth, "cost": float(-found.cost)},
        )

    def reply(self, trajectory: Trajectory, verdict: Verdict) -> Reply:
        """Score one recorded reply; it has one outcome, so there is no mean over calls."""
        if trajectory.task.reference is None:
            return Reply(value=None, unscored=UNKNOWN_REFERENCE)
        if is_right(trajectory, verdict):
            return Reply(value=SOLVED_WORTH - cost_of(verdict.num_calls, solvable=is_solvable(trajectory, verdict)))
        return Reply(value=reply_reliability(trajectory, verdict).utility)
