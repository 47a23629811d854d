from __future__ import annotations

import pytest

from envs.types import ToolCall
from rewards.rubric import Rubric

RIGHT = ToolCall(name="find_hotel", arguments={"city": "Oslo"})
ERROR = {"factory": "rewards.error_reward:ErrorReward", "weight": 0.5, "name": "errors"}
OUTCOME = {"factory": "rewards.outcome:OutcomeReward"}


def test_weighted_sum_turn_by_turn(build):
    score = Rubric([ERROR, OUTCOME])(build.play(build.task(RIGHT), RIGHT, build.finish()))
    assert score.per_turn.tolist() == [0.5, 1.0]
    assert score.parts == {"errors/right": 0.5, "OutcomeReward/success": 1.0}


def test_errors_are_reported_once(build):
    score = Rubric([ERROR, OUTCOME])(build.play(build.task(RIGHT), build.finish()))
    assert [str(error.kind) for error in score.errors] == ["missing_call"]


def test_what_an_error_costs_is_weighted_with_the_reward_that_reports_it(build):
    wrong = ToolCall(name="find_hotel", arguments={"city": "Rome"})
    trajectory = build.play(build.task(RIGHT), wrong, RIGHT, build.finish())
    score = Rubric([ERROR, OUTCOME])(trajectory)
    assert sum(score.costs) == pytest.approx(0.5 * -0.25) and len(score.costs) == len(score.errors)
    assert Rubric([OUTCOME])(trajectory).costs == ()


def test_unscored_if_any_reward_is(build):
    score = Rubric([OUTCOME, ERROR])(build.play(build.task(known=False), build.finish()))
    assert "errors" in score.unscored and "OutcomeReward" in score.unscored


@pytest.mark.parametrize(
    "rewards",
    [
        [],
        [OUTCOME, OUTCOME],
        [{"factory": "rewards.outcome:Outcom"}],
        [{**ERROR, "options": {"presset": "tl_released"}}],
    ],
)
def test_bad_tables_are_refused(rewards):
    with pytest.raises(ValueError):
        Rubric(rewards)
