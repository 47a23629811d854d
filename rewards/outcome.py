"""One for success, zero for anything else, on the last turn."""

from __future__ import annotations

import numpy as np

from rewards.classify import judge
from rewards.replies import unscored
from rewards.types import Score
from rollout.trajectory import Trajectory


class OutcomeReward:
    """Everything called rightly, then finish; where the reference is unknown, what the environment says.

    An environment says it in `outcome.facts["success"]`. Unscored: failures of the infrastructure, and unknown success.
    """

    def __call__(self, trajectory: Trajectory) -> Score:
        """Score one trajectory."""
        if trajectory.ending.is_failure:
            return unscored(trajectory, f"infrastructure: {trajectory.ending}")
        if not trajectory.turns:
            return unscored(trajectory, "no turn")
        verdict = judge(trajectory)
        success = trajectory.outcome.facts.get("success") if verdict.success is None else verdict.success
        if success is None:
            return unscored(trajectory, "success is unknown: no reference, and the environment does not say")
        per_turn = np.zeros(len(trajectory.turns), dtype=np.float32)
        per_turn[-1] = float(success)
        return Score(per_turn=per_turn, errors=verdict.errors, parts={"success": float(success)})
