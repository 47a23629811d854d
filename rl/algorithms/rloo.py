"""REINFORCE leave-one-out: advantages from the mean of the other trajectories of the task.

Source: Ahmadian et al. 2024 (arXiv 2402.14740, section 2), with PPO's clipping for updates of several steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rewards.types import Score
from rl.advantages import trajectory_advantages, turn_advantages
from rl.algorithms.group_relative import GroupRelative, over_actions
from rollout.trajectory import Trajectory


@dataclass(frozen=True, slots=True, kw_only=True)
class RLOO(GroupRelative):
    """A = return - mean over the others of the group; no deviation, so the gradient is that of the expected reward.

    By trajectory, this is the published quantity. By turn (ours), the mean is that of the others that reached the turn;
    a turn that none of them reached is compared with 0.
    """

    def advantages(self, trajectories: Sequence[Trajectory], scores: Sequence[Score]) -> list[np.ndarray]:
        """See `GroupRelative.advantages`."""
        if self.returns == "turn":
            return turn_advantages(trajectories, scores, leave_one_out=True, credit=self.credit)
        above = trajectory_advantages(scores, leave_one_out=True)
        return [over_actions(trajectory, one) for trajectory, one in zip(trajectories, above, strict=True)]
