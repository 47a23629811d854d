import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.toolworld import Demonstrator, ToolWorldEnv, ToolWorldTasks
from rewards.error_reward import ErrorReward
from rewards.types import CallError, ErrorKind, Score
from rl.advantages import check_credit, gae, group_baselines, over_turns, token_rewards, turn_rewards
from rollout.demonstrations import demonstrate
from rollout.renderer import ChatTemplateRenderer
from rollout.trajectory import Trajectory


def quadratic_gae(
    rewards: np.ndarray, values: np.ndarray, mask: np.ndarray, gamma: float, gae_lambda: float
) -> np.ndarray:
    """The definition: A_i = sum_j (gamma lambda)^(j - i) (r_j + gamma V_(j+1) - V_j) over the action tokens."""
    advantages = np.zeros(rewards.shape)
    for row in range(len(rewards)):
        steps = np.flatnonzero(mask[row])
        for i, t in enumerate(steps):
            for j in range(i, len(steps)):
                later = values[row, steps[j + 1]] if j + 1 < len(steps) else 0.0
                surprise = rewards[row, steps[j]] + gamma * later - values[row, steps[j]]
                advantages[row, t] += (gamma * gae_lambda) ** (j - i) * surprise
    return advantages


@given(st.integers(0, 10_000), st.sampled_from([1.0, 0.9]), st.sampled_from([0.0, 0.5, 0.95, 1.0]))
def test_gae_equals_its_quadratic_definition(seed: int, gamma: float, gae_lambda: float) -> None:
    rng = np.random.default_rng(seed)
    shape = (3, 12)
    mask = rng.random(shape) < 0.5
    rewards = np.where(mask, rng.normal(size=shape), 0.0).astype(np.float32)
    values = np.where(mask, rng.normal(size=shape), 0.0).astype(np.float32)
    advantages, returns = gae(rewards, values, mask, gamma=gamma, gae_lambda=gae_lambda)
    expected = quadratic_gae(rewards, values, mask, gamma, gae_lambda)
    np.testing.assert_allclose(advantages, expected, atol=1e-5)
    np.testing.assert_allclose(returns, np.where(mask, expected + values, 0.0), atol=1e-5)


def test_observations_are_no_steps() -> None:
    short = gae(
        np.array([[0, 1, 2]], np.float32), np.array([[0, 0.5, 1]], np.float32), np.array([[0, 1, 1]], bool),
        gamma=0.9, gae_lambda=0.8,
    )[0]  # fmt: skip
    long = gae(
        np.array([[0, 1, 0, 0, 2]], np.float32),
        np.array([[0, 0.5, 9, 9, 1]], np.float32),
        np.array([[0, 1, 0, 0, 1]], bool),
        gamma=0.9,
        gae_lambda=0.8,
    )[0]
    np.testing.assert_allclose(short[0, 1:], long[0, [1, 4]])
    assert not long[0, [0, 2, 3]].any()


def test_turn_rewards_sit_on_the_last_token_of_the_turn(make_trajectory: Callable[..., Trajectory]) -> None:
    rewards = turn_rewards(make_trajectory(), Score(per_turn=np.array([0.5, -1.0], np.float32)))
    assert rewards[4] == 0.5 and rewards[9] == -1.0
    assert np.count_nonzero(rewards) == 2


def test_a_score_of_another_trajectory_is_refused(make_trajectory: Callable[..., Trajectory]) -> None:
    with pytest.raises(ValueError, match="2 turns but 3 rewards"):
        turn_rewards(make_trajectory(), Score(per_turn=np.zeros(3, np.float32)))


def scores(*per_turn: list[float]) -> list[Score]:
    return [Score(per_turn=np.array(rewards, np.float32)) for rewards in per_turn]


def test_a_group_baseline_is_what_the_others_that_came_so_far_earned_from_there_on() -> None:
    first, second, third = group_baselines(scores([1.0, 2.0, 4.0], [-1.0, 3.0], [5.0]))
    np.testing.assert_allclose(first, [(2.0 + 5.0) / 2, 3.0, 0.0])
    np.testing.assert_allclose(second, [(7.0 + 5.0) / 2, 6.0])
    np.testing.assert_allclose(third, [(7.0 + 2.0) / 2])


@given(st.lists(st.lists(st.floats(-5, 5), max_size=4), min_size=1, max_size=6), st.floats(-9, 9))
def test_a_trajectory_does_not_move_its_own_baseline(rewards: list[list[float]], other: float) -> None:
    before = group_baselines(scores(*rewards))[0]
    changed = [[other for _ in rewards[0]], *rewards[1:]]
    np.testing.assert_allclose(group_baselines(scores(*changed))[0], before, atol=1e-4)


def test_a_trajectory_alone_has_no_group_baseline() -> None:
    assert not group_baselines(scores([1.0, 2.0]))[0].any()
    assert group_baselines([]) == []


def test_values_of_turns_stand_at_the_tokens_of_the_turns(make_trajectory: Callable[..., Trajectory]) -> None:
    trajectory = make_trajectory()
    values = over_turns(trajectory, np.array([2.0, 3.0], np.float32))
    for turn, value in zip(trajectory.turns, (2.0, 3.0), strict=True):
        assert (values[turn.start : turn.end] == value).all()
    assert not values[~trajectory.action_mask].any()


def error(turn: int, start: int | None, end: int | None) -> CallError:
    return CallError(turn=turn, call=0, kind=ErrorKind.WRONG_VALUE, start=start, end=end)


def test_the_cost_of_an_error_stands_on_its_last_token_and_the_rest_at_the_end_of_the_turn(
    make_trajectory: Callable[..., Trajectory],
) -> None:
    score = Score(
        per_turn=np.array([0.5, -1.0], np.float32),
        errors=(error(1, 7, 9), error(1, None, None), error(0, 3, 4)),
        costs=(-1.5, -0.25, 0.0),
    )
    by_error = token_rewards(make_trajectory(), score, "error")
    assert np.flatnonzero(by_error).tolist() == [4, 8, 9]
    assert by_error[[4, 8, 9]].tolist() == [0.5, -1.5, 0.5]
    assert (token_rewards(make_trajectory(), score) == turn_rewards(make_trajectory(), score)).all()


def test_without_costs_rewards_stay_at_the_end_of_turns(make_trajectory: Callable[..., Trajectory]) -> None:
    score = Score(per_turn=np.array([0.5, -1.0], np.float32), errors=(error(1, 7, 8),))
    assert (token_rewards(make_trajectory(), score, "error") == turn_rewards(make_trajectory(), score)).all()


def test_a_credit_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="credit 'call': expected one of turn, error"):
        check_credit("call")


@given(seed=st.integers(0, 500))
def test_credit_by_error_moves_costs_within_their_turn_and_changes_no_sum(renderer: Any, seed: int) -> None:
    trajectory = erroneous_demonstration(renderer, seed)
    score = ErrorReward()(trajectory)
    by_turn, by_error = token_rewards(trajectory, score), token_rewards(trajectory, score, "error")
    for turn in trajectory.turns:
        inside = slice(turn.start, turn.end)
        assert by_error[inside].sum() == pytest.approx(by_turn[inside].sum(), abs=1e-5)
    assert not by_error[~trajectory.action_mask].any()
    for one, cost in zip(score.errors, score.costs, strict=True):
        assert cost <= 0 and (cost == 0 or (one.end is not None and by_error[one.end - 1] != 0))


def test_most_errors_are_paid_for_before_their_turn_ends(renderer: Any) -> None:
    early = total = 0
    for seed in range(30):
        trajectory = erroneous_demonstration(renderer, seed)
        score = ErrorReward()(trajectory)
        for one, cost in zip(score.errors, score.costs, strict=True):
            if cost and one.end is not None:
                total += 1
                early += one.end < trajectory.turns[one.turn].end
    assert total > 10 and early / total > 0.9


def erroneous_demonstration(renderer: Any, seed: int) -> Trajectory:
    """An episode of the tool world with errors in every second call, in tokens."""
    rates = {"missing_argument": 0.5, "unmatched_tools": 0.5, "other": 0.5}
    task = ToolWorldTasks(seed=seed).task(seed)
    return asyncio.run(
        demonstrate(
            task,
            ToolWorldEnv,
            Demonstrator(task, seed=seed, error_rates=rates),
            ChatTemplateRenderer(renderer.tokenizer, max_context=16_384),
            trajectory_id="t",
            group_id="g",
            max_turns=6,
        )
    )
