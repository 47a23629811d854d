"""Group relative policy optimisation: advantages from the mean, and by default the spread, of a task's trajectories.

Source: DeepSeekMath (arXiv 2402.03300, section 4.1); without the spread: Dr. GRPO (arXiv 2503.20783).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rewards.types import Score
from rl.advantages import trajectory_advantages, turn_advantages, turn_spread
from rl.algorithms.group_relative import GroupRelative, over_actions
from rollout.trajectory import Trajectory


@dataclass(frozen=True, slots=True, kw_only=True)
class GRPO(GroupRelative):
    """A = (return - mean over the group) / deviation over the group.

    By trajectory, these are the published quantities, with the deviation of the population. By turn (ours), the mean is
    that of the trajectories that reached the turn, and the deviation is one number for the group: the root mean square
    of what all turns' returns are above those means.
    """

    normalise_std: bool = True
    """Divide by the deviation. Without it, tasks whose trajectories all earn nearly the same weigh less (Dr. GRPO)."""

    def advantages(self, trajectories: Sequence[Trajectory], scores: Sequence[Score]) -> list[np.ndarray]:
        """See `GroupRelative.advantages`."""
        if self.returns == "trajectory":
            above = trajectory_advantages(scores, leave_one_out=False)
            found = [over_actions(trajectory, one) for trajectory, one in zip(trajectories, above, strict=True)]
            spread = float(np.std([score.per_turn.sum(dtype=np.float64) for score in scores]))
        else:
            found = turn_advantages(trajectories, scores, leave_one_out=False, credit=self.credit)
            spread = turn_spread(scores)
        if not self.normalise_std:
            return found
        return [one / np.float32(max(spread, _LEAST_SPREAD)) for one in found]


_LEAST_SPREAD = 1e-6
"""Where rewards differ by less than this, they are the same but for rounding."""
