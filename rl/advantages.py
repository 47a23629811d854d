"""Credit: generalised advantage estimation over action tokens, whatever stands between them.

Shapes: B rows, T tokens. Tokens the policy did not choose are no steps of the decision process: they are skipped, so
the value after the last token of a turn is that of the first token of the next one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rewards.types import Score
from rollout.trajectory import Trajectory


def turn_rewards(trajectory: Trajectory, score: Score) -> np.ndarray:
    """Put each turn's reward on the last token of the turn: float32 [L].

    Raises:
        ValueError: the score has another number of turns, or a rewarded turn has no token.
    """
    if len(score.per_turn) != len(trajectory.turns):
        raise ValueError(
            f"trajectory {trajectory.trajectory_id}: {len(trajectory.turns)} turns but {len(score.per_turn)} rewards"
        )
    rewards = np.zeros(len(trajectory.token_ids), dtype=np.float32)
    for turn, reward in zip(trajectory.turns, score.per_turn, strict=True):
        if turn.start < turn.end:
            rewards[turn.end - 1] = reward
        elif reward:
            raise ValueError(f"trajectory {trajectory.trajectory_id}: a turn without tokens earned {reward}")
    return rewards


def group_baselines(scores: Sequence[Score]) -> list[np.ndarray]:
    """What each turn of a trajectory can expect from here on, judged by the other trajectories of its task.

    For turn k it is the mean of what the others that reached turn k earned from it on; 0 if none did. A trajectory's
    own rewards stay out of it, so a policy gradient that subtracts it keeps its expectation (leave-one-out, as RLOO:
    Ahmadian et al. 2024, arXiv 2402.14740, section 2; here turn by turn, as rewards sit on turns).

    Args:
        scores: of the trajectories of one task.

    Returns:
        For each trajectory float32 [K], K its turns.
    """
    rest = [np.cumsum(score.per_turn[::-1], dtype=np.float64)[::-1] for score in scores]
    num_turns = max((len(values) for values in rest), default=0)
    sums = np.zeros(num_turns)
    counts = np.zeros(num_turns)
    for values in rest:
        sums[: len(values)] += values
        counts[: len(values)] += 1
    return [
        ((sums[: len(values)] - values) / np.maximum(counts[: len(values)] - 1, 1)).astype(np.float32)
        for values in rest
    ]


def over_turns(trajectory: Trajectory, values: np.ndarray) -> np.ndarray:
    """A value for each turn, [K], at every token of its turn: float32 [L], 0 elsewhere."""
    found = np.zeros(len(trajectory.token_ids), dtype=np.float32)
    for turn, value in zip(trajectory.turns, values, strict=True):
        found[turn.start : turn.end] = value
    return found


def gae(
    rewards: np.ndarray, values: np.ndarray, action_mask: np.ndarray, *, gamma: float, gae_lambda: float
) -> tuple[np.ndarray, np.ndarray]:
    """Advantages and returns of every action token.

    The step after a row's last action is worth 0: an episode that was cut is judged by what it earned.

    Args:
        rewards: float32 [B, T].
        values: float32 [B, T]: what was expected before the token was chosen.
        action_mask: bool [B, T].
        gamma: discount per action token.
        gae_lambda: 1 sums all later surprises, 0 only the next one.

    Returns:
        Advantages and returns, float32 [B, T], 0 outside the mask.
    """
    rows, length = rewards.shape
    advantages = np.zeros((rows, length), dtype=np.float32)
    later_advantage = np.zeros(rows, dtype=np.float32)
    later_value = np.zeros(rows, dtype=np.float32)
    for t in reversed(range(length)):
        action = action_mask[:, t]
        surprise = rewards[:, t] + gamma * later_value - values[:, t]
        later_advantage = np.where(action, surprise + gamma * gae_lambda * later_advantage, later_advantage)
        later_value = np.where(action, values[:, t], later_value)
        advantages[:, t] = np.where(action, later_advantage, 0.0)
    return advantages, np.where(action_mask, advantages + values, 0.0).astype(np.float32)
