"""GRPO and RLOO: advantages against hand-made tables, and updates on a tiny model."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.types import CallError, ErrorKind, Score
from rl.algorithms.group_relative import GroupRelative
from rl.algorithms.grpo import GRPO
from rl.algorithms.ppo import PPO
from rl.algorithms.rloo import RLOO
from rl.errors import BadInput
from rl.learner import Learner
from rl.sample import ScoredGroup
from rl.train_engine import LearnerConfig
from rollout.trajectory import UNKNOWN_VERSION, Trajectory

Make = Callable[..., Trajectory]
FIRST, SECOND = slice(3, 5), slice(7, 10)
"""The turns of `make_trajectory`."""


def score(*rewards: float, errors: tuple[CallError, ...] = (), costs: tuple[float, ...] = ()) -> Score:
    return Score(per_turn=np.array(rewards, dtype=np.float32), errors=errors, costs=costs)


def group(make: Make, *scores: Score) -> ScoredGroup:
    """Trajectories of as many turns as were scored."""
    trajectories = []
    for one in scores:
        trajectory = make()
        if len(one.per_turn) == 1:
            short = {name: getattr(trajectory, name)[:5] for name in ("token_ids", "action_mask", "logprobs")}
            trajectory = replace(trajectory, turns=trajectory.turns[:1], **short)
        trajectories.append(trajectory)
    return ScoredGroup(trajectories=tuple(trajectories), scores=scores)


def advantages(algorithm: GroupRelative, scored: ScoredGroup) -> list[list[float]]:
    """Of each trajectory, one number a turn, which must be that of all its tokens."""
    found = []
    for sample in algorithm.samples([scored]):
        stream = sample.streams["advantages"]
        assert not stream[~sample.loss_mask].any()
        turns = [stream[turn] for turn in (FIRST, SECOND) if turn.stop <= len(stream)]
        assert all((turn == turn[0]).all() for turn in turns)
        found.append([float(turn[0]) for turn in turns])
    return found


# Rewards of turns: (1, 2), (-1, 1), (3,). Whole returns: 3, 0, 3. From the second turn on: 2, 1.
TABLE = {
    "RLOO by turn": (RLOO(), [[3 - 1.5, 2 - 1], [0 - 3, 1 - 2], [3 - 1.5]]),
    "RLOO by trajectory": (RLOO(returns="trajectory"), [[1.5, 1.5], [-3, -3], [1.5]]),
    "Dr. GRPO by turn": (GRPO(normalise_std=False), [[1, 0.5], [-2, -0.5], [1]]),
    "Dr. GRPO by trajectory": (GRPO(normalise_std=False, returns="trajectory"), [[1, 1], [-2, -2], [1]]),
    # Over the turns: sqrt((1 + 4 + 1 + 0.25 + 0.25) / 5).
    "GRPO by turn": (GRPO(), (np.array([1, 0.5, -2, -0.5, 1]) / np.sqrt(1.3)).tolist()),
    # Over the trajectories: sqrt((1 + 4 + 1) / 3).
    "GRPO by trajectory": (GRPO(returns="trajectory"), (np.array([1, 1, -2, -2, 1]) / np.sqrt(2)).tolist()),
}


@pytest.mark.parametrize("name", TABLE)
def test_advantages_are_those_of_the_table(make_trajectory: Make, name: str) -> None:
    algorithm, expected = TABLE[name]
    scored = group(make_trajectory, score(1, 2), score(-1, 1), score(3))
    found = advantages(algorithm, scored)
    np.testing.assert_allclose(np.concatenate(found), np.hstack(expected), rtol=1e-5)


def test_a_turn_that_no_other_reached_is_compared_with_nothing_or_with_itself(make_trajectory: Make) -> None:
    scored = group(make_trajectory, score(1, -2), score(1))
    assert advantages(RLOO(), scored) == [[-2, -2], [2]]
    assert advantages(GRPO(normalise_std=False), scored) == [[-1, 0], [1]]


@pytest.mark.parametrize("algorithm", [GRPO(), RLOO(), GRPO(returns="trajectory"), RLOO(returns="trajectory")])
def test_groups_that_teach_nothing_are_left_out(make_trajectory: Make, algorithm: GroupRelative) -> None:
    third = 1 / 3
    same = group(make_trajectory, score(third, -0.8), score(third, -0.8), score(third, -0.8))
    alone = group(make_trajectory, score(1, 2))
    assert algorithm.samples([same, alone]) == []


@pytest.mark.parametrize("algorithm", [GRPO(), RLOO(), PPO()])
def test_recorded_preferences_are_refused(make_trajectory: Make, algorithm: GroupRelative | PPO) -> None:
    recorded = group(lambda: make_trajectory(version=UNKNOWN_VERSION), score(1, 2), score(0, 0))
    with pytest.raises(BadInput, match="this one learns from rollouts, and the source gives recorded trajectories"):
        algorithm.samples([recorded])


def test_equal_totals_of_unequal_turns_teach_by_turn_alone(make_trajectory: Make) -> None:
    scored = group(make_trajectory, score(1, -1), score(-1, 1))
    assert GRPO(returns="trajectory").samples([scored]) == []
    assert advantages(RLOO(), scored) == [[0, -2], [0, 2]]


@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(-5, 5)), min_size=2, max_size=6), st.floats(0.1, 10))
def test_grpo_does_not_see_the_scale_of_rewards_and_sums_to_nothing(
    make_trajectory: Make, rewards: list[tuple[float, float]], scale: float
) -> None:
    if len({(round(one, 2), round(other, 2)) for one, other in rewards}) < 2:
        return
    plain = group(make_trajectory, *(score(*turns) for turns in rewards))
    scaled = group(make_trajectory, *(score(*(scale * reward for reward in turns)) for turns in rewards))
    found = np.array(advantages(GRPO(), plain))
    np.testing.assert_allclose(found, advantages(GRPO(), scaled), atol=1e-3)
    np.testing.assert_allclose(found.sum(axis=0), 0.0, atol=1e-4)


def localised(make: Make) -> ScoredGroup:
    """Of two trajectories the first errs at the first token of its second turn, and that costs 2 of 3."""
    error = CallError(turn=1, call=0, kind=ErrorKind.WRONG_TOOL, start=7, end=8)
    return group(make, score(1, -3, errors=(error,), costs=(-2.0,)), score(1, 1))


def test_what_follows_an_error_is_neither_blamed_for_it_nor_praised(make_trajectory: Make) -> None:
    wrong, right = RLOO(credit="error").samples([localised(make_trajectory)])
    # Up to the error it is -3 against 1; after it -1 against 1, for the other had no error to pay for.
    assert wrong.streams["advantages"][FIRST].tolist() == [-4, -4]
    assert wrong.streams["advantages"][SECOND].tolist() == [-4, -2, -2]
    assert right.streams["advantages"][SECOND].tolist() == [4, 4, 4]
    # With all in the mean, the errors of the others are in what the first tokens are compared with.
    wrong, right = GRPO(credit="error", normalise_std=False).samples([localised(make_trajectory)])
    assert wrong.streams["advantages"][SECOND].tolist() == [-3 - -1, -1 - 0, -1 - 0]
    assert right.streams["advantages"][SECOND].tolist() == [2, 2, 2]


def test_credit_by_turn_does_not_look_at_the_place_of_errors(make_trajectory: Make) -> None:
    assert advantages(RLOO(), localised(make_trajectory)) == [[-4, -4], [4, 4]]


@pytest.mark.parametrize("algorithm", [GRPO(kl_coefficient=0.1), RLOO(entropy_coefficient=0.01)])
def test_what_earned_more_becomes_likelier(
    tiny_model_path: Path, make_trajectory: Make, algorithm: GroupRelative
) -> None:
    learner = Learner(
        algorithm=algorithm, model_path=tiny_model_path, config=LearnerConfig(learning_rate=1e-3, micro_batch_tokens=16)
    )
    trajectories = [
        replace(make_trajectory(), token_ids=np.arange(start, start + 10, dtype=np.int32)) for start in (20, 50)
    ]
    scored = ScoredGroup(trajectories=tuple(trajectories), scores=(score(1, 1), score(-1, 0)))
    samples = algorithm.samples([scored])

    def likelihoods() -> list[float]:
        found = learner.logprobs([sample.token_ids.tolist() for sample in samples])
        return [float(p[sample.loss_mask].sum()) for p, sample in zip(found, samples, strict=True)]

    before = likelihoods()
    metrics = learner.update(samples, 0.0)
    after = likelihoods()
    assert after[0] > before[0] and after[1] < before[1]
    expected = {"policy_loss", "clip_fraction", "entropy", "importance_mean", "advantage", "update_kl", "grad_norm"}
    assert {f"train/{name}" for name in expected} <= metrics.keys()
    assert ("train/kl" in metrics) == bool(algorithm.kl_coefficient)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"credit": "token"}, "credit 'token': expected one of turn, error"),
        ({"returns": "step"}, "returns 'step': expected 'turn' or 'trajectory'"),
        ({"credit": "error", "returns": "trajectory"}, "every token then answers for every reward"),
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GRPO(**options)
