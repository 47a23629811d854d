from __future__ import annotations

import dataclasses

from envs.types import Outcome, ToolCall
from rewards.outcome import OutcomeReward
from rollout.trajectory import Ending

RIGHT = ToolCall(name="find_hotel", arguments={"city": "Oslo"})


def test_one_on_the_last_turn_for_success_zero_otherwise(build):
    task = build.task(RIGHT)
    assert OutcomeReward()(build.play(task, RIGHT, build.finish())).per_turn.tolist() == [0.0, 1.0]
    assert OutcomeReward()(build.play(task, build.finish())).total == 0.0


def test_the_environment_speaks_where_the_reference_is_unknown(build):
    silent = build.play(build.task(known=False), build.finish())
    assert OutcomeReward()(silent).unscored
    spoken = dataclasses.replace(silent, outcome=Outcome(finished=True, facts={"success": True}))
    assert OutcomeReward()(spoken).total == 1.0


def test_failures_of_the_infrastructure_are_unscored(build):
    assert OutcomeReward()(build.play(build.task(RIGHT), RIGHT, ending=Ending.ENV_FAILED)).unscored
