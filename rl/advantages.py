"""Credit: where rewards stand, what is above a group's mean, and generalised advantage estimation over action tokens.

Shapes: B rows, T tokens; L tokens and K turns of one trajectory. Tokens the policy did not choose are no steps of the
decision process: they are skipped, so the value after the last token of a turn is that of the first token of the next
one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from rewards.types import Score
from rollout.trajectory import Trajectory

Credit = Literal["turn", "error"]
"""Where what an error costs stands: at the end of its turn, or on the last token of what is wrong."""


def check_credit(credit: str) -> None:
    """Refuse what is no `Credit`.

    Raises:
        ValueError: with the values that there are.
    """
    if credit not in get_args(Credit):
        raise ValueError(f"credit {credit!r}: expected one of {', '.join(get_args(Credit))}")


def token_rewards(trajectory: Trajectory, score: Score, credit: Credit = "turn") -> np.ndarray:
    """Put each turn's reward on its tokens: float32 [L].

    It stands on the last token of the turn. With `credit` "error", what an error costs (`Score.costs`) stands on the
    last token of what is wrong instead: there the error is complete, and nothing after it is to blame. What has no
    place of its own stays at the end of the turn, and the sum over a turn is the same.

    Raises:
        ValueError: the score has another number of turns, or a rewarded turn has no token.
    """
    rewards = turn_rewards(trajectory, score)
    if credit == "turn":
        return rewards
    localised = error_rewards(trajectory, score)
    for turn in trajectory.turns:
        if turn.start < turn.end:
            rewards[turn.end - 1] -= localised[turn.start : turn.end].sum()
    return rewards + localised


def error_rewards(trajectory: Trajectory, score: Score) -> np.ndarray:
    """What each error costs, on the last token of what is wrong: float32 [L], 0 elsewhere."""
    rewards = np.zeros(len(trajectory.token_ids), dtype=np.float32)
    for error, cost in zip(score.errors, score.costs or (0.0,) * len(score.errors), strict=True):
        if cost and error.end is not None:
            rewards[error.end - 1] += cost
    return rewards


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
    means = _means([_from_turn_on(score) for score in scores], leave_one_out=True)
    return [mean.astype(np.float32) for mean in means]


def trajectory_advantages(scores: Sequence[Score], *, leave_one_out: bool) -> list[float]:
    """By how much the whole return of each trajectory of a task is above that of all, or of the others.

    Args:
        scores: of the trajectories of one task, at least two.
        leave_one_out: compare with the others (RLOO), not with all (GRPO).
    """
    totals = np.array([score.per_turn.sum(dtype=np.float64) for score in scores])
    above = totals - totals.mean()
    return (above * len(totals) / (len(totals) - 1) if leave_one_out else above).tolist()


def turn_advantages(
    trajectories: Sequence[Trajectory], scores: Sequence[Score], *, leave_one_out: bool, credit: Credit
) -> list[np.ndarray]:
    """By how much what is earned from each token on is above what the trajectories of its task earned from its turn on.

    For a token of turn k: the rewards from it on, minus the mean over those that reached turn k of their rewards from
    turn k on. With `credit` "error" a turn's errors may be paid for before it ends; what follows the first of them in
    the turn is compared with what is earned from turn k on apart from turn k's errors. So it is neither blamed for them
    nor praised for coming after them. Both baselines depend on what came before the token alone.

    Args:
        trajectories: of one task.
        scores: theirs.
        leave_one_out: compare with the others (as RLOO), not with all (as GRPO). A turn that no other trajectory
            reached is then compared with 0, and with itself otherwise.
        credit: where costs of errors stand.

    Returns:
        For each trajectory float32 [L], 0 outside the turns.
    """
    localised = [
        error_rewards(trajectory, score) if credit == "error" else np.zeros(len(trajectory.token_ids), np.float32)
        for trajectory, score in zip(trajectories, scores, strict=True)
    ]
    returns = [_from_turn_on(score) for score in scores]
    paid = [
        np.array([tokens[turn.start : turn.end].sum(dtype=np.float64) for turn in trajectory.turns])
        for trajectory, tokens in zip(trajectories, localised, strict=True)
    ]
    expected = _means(returns, leave_one_out=leave_one_out)
    after = _means([one - other for one, other in zip(returns, paid, strict=True)], leave_one_out=leave_one_out)
    found = []
    for index, trajectory in enumerate(trajectories):
        rewards = token_rewards(trajectory, scores[index], credit)
        advantages = np.zeros(len(rewards), dtype=np.float32)
        to_go = np.cumsum(rewards[::-1], dtype=np.float64)[::-1]
        for turn, before, behind in zip(trajectory.turns, expected[index], after[index], strict=True):
            inside = slice(turn.start, turn.end)
            has_erred = np.cumsum(localised[index][inside] != 0) - (localised[index][inside] != 0) > 0
            advantages[inside] = to_go[inside] - np.where(has_erred, behind, before)
        found.append(advantages)
    return found


def turn_spread(scores: Sequence[Score]) -> float:
    """Root mean square of what turns earn from them on, about the mean of those that reached the same turn."""
    returns = [_from_turn_on(score) for score in scores]
    means = _means(returns, leave_one_out=False)
    above = np.concatenate([one - mean for one, mean in zip(returns, means, strict=True)])
    return float(np.sqrt(np.mean(above**2))) if len(above) else 0.0


def _from_turn_on(score: Score) -> np.ndarray:
    """What each turn and all after it earned: float64 [K]."""
    return np.cumsum(score.per_turn[::-1], dtype=np.float64)[::-1]


def _means(values: Sequence[np.ndarray], *, leave_one_out: bool) -> list[np.ndarray]:
    """For each turn of each trajectory, [K] each, the mean over those of the trajectories that reached it: float64 [K].

    With `leave_one_out` without the trajectory's own; 0 if it is the only one.
    """
    num_turns = max((len(one) for one in values), default=0)
    sums = np.zeros(num_turns)
    counts = np.zeros(num_turns)
    for one in values:
        sums[: len(one)] += one
        counts[: len(one)] += 1
    if not leave_one_out:
        return [sums[: len(one)] / counts[: len(one)] for one in values]
    return [(sums[: len(one)] - one) / np.maximum(counts[: len(one)] - 1, 1) for one in values]


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
