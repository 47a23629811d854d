import math

import pytest

from rl.train_engine import LearnerConfig, schedule_factor


def test_the_constant_schedule_never_moves() -> None:
    config = LearnerConfig(schedule="constant")
    assert {schedule_factor(config, progress) for progress in (0.0, 0.5, 1.0)} == {1.0}


def test_the_linear_schedule_warms_up_and_falls() -> None:
    config = LearnerConfig(schedule="linear", warmup_fraction=0.2, final_fraction=0.1)
    factors = [schedule_factor(config, progress) for progress in (0.0, 0.1, 0.2, 0.6, 1.0)]
    assert all(math.isclose(a, b) for a, b in zip(factors, [0.0, 0.5, 1.0, 0.55, 0.1], strict=True))


def test_warmup_stable_decay_has_three_parts() -> None:
    config = LearnerConfig(schedule="warmup_stable_decay", warmup_fraction=0.1, decay_fraction=0.4, final_fraction=0.02)
    factors = [schedule_factor(config, progress) for progress in (0.05, 0.1, 0.6, 0.8, 1.0, 1.3)]
    assert all(math.isclose(a, b) for a, b in zip(factors, [0.5, 1.0, 1.0, 0.51, 0.02, 0.02], strict=True))


def test_the_rate_holds_after_its_decay() -> None:
    config = LearnerConfig(schedule="warmup_stable_decay", decay_fraction=0.4, final_fraction=0.1, hold_fraction=0.2)
    factors = [schedule_factor(config, progress) for progress in (0.4, 0.6, 0.8, 0.9, 1.0)]
    assert all(math.isclose(a, b) for a, b in zip(factors, [1.0, 0.55, 0.1, 0.1, 0.1], strict=True))


def test_progress_outside_the_run_is_held_at_its_ends() -> None:
    config = LearnerConfig(schedule="linear")
    assert schedule_factor(config, -1.0) == 1.0 and schedule_factor(config, 2.0) == 0.0


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="Muon needs whole matrices"):
        LearnerConfig(engine="deepspeed", optimizer="muon", zero_stage=2)
    with pytest.raises(ValueError, match="torch engine shards nothing"):
        LearnerConfig(engine="torch", zero_stage=1)
    with pytest.raises(ValueError, match="at least 1"):
        LearnerConfig(minibatches=0)
