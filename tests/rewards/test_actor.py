from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("ray")

from envs.component import Component
from envs.types import ToolCall
from rewards.actor import RewardFailed, RewardPool, score_all
from rewards.error_reward import ErrorReward
from rewards.types import Score

RIGHT = ToolCall(name="find_hotel", arguments={"city": "Oslo"})
ERRORS = Component(factory="rewards.error_reward:ErrorReward")
# A factory of this repository that builds something which is no reward: calling it raises.
RAISES = Component(factory="rewards.matching:ExactMatching")


def episodes(build, num):
    task = build.task(RIGHT)
    return [build.play(task, *[RIGHT] * (index % 3), build.finish(), trajectory_id=f"t{index}") for index in range(num)]


def test_scores_come_in_order(build):
    made = episodes(build, 5)
    scores = score_all(ErrorReward(), made)
    assert [len(score.per_turn) for score in scores] == [len(trajectory.turns) for trajectory in made]


def test_reward_that_raises_names_the_trajectory(build):
    def broken(trajectory):
        raise KeyError("city")

    with pytest.raises(RewardFailed, match=r"t0.*KeyError.*city"):
        score_all(broken, episodes(build, 2))


def test_reward_of_the_wrong_length_names_the_trajectory(build):
    with pytest.raises(RewardFailed, match=r"t0.*shape"):
        score_all(lambda trajectory: Score(per_turn=np.zeros(7, dtype=np.float32)), episodes(build, 2))


def test_pool_refuses_what_cannot_be_built():
    with pytest.raises(ValueError, match="num_actors"):
        RewardPool(0, ERRORS)
    with pytest.raises(ValueError, match="presset"):
        RewardPool(1, Component(factory=ERRORS.factory, options={"presset": "tl_released"}))


@pytest.mark.slow
async def test_pool_of_two_actors_gives_what_the_reward_gives(build):
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        made = episodes(build, 7)
        pool = RewardPool(2, ERRORS, {"num_cpus": 0.1})
        scores = await pool.score(made)
        for score, expected in zip(scores, score_all(ErrorReward(), made), strict=True):
            np.testing.assert_array_equal(score.per_turn, expected.per_turn)
            assert score.errors == expected.errors
        assert await pool.score([]) == []
        assert len(await pool.score(made[:1])) == 1
        pool.close()
        broken = RewardPool(1, RAISES)
        with pytest.raises(RewardFailed, match="t0"):
            await broken.score(made)
    finally:
        ray.shutdown()
