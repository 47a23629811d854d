import time

import pytest

from rl.clock import Clock


def test_progress_follows_the_steps():
    assert Clock(10, 0.0).progress(5) == 0.5


def test_progress_follows_the_time_where_that_runs_out_first():
    clock = Clock(1000, 10.0, elapsed=5.0)
    assert clock.progress(1) == pytest.approx(0.5, abs=0.05)
    assert not clock.is_over()


def test_the_loop_is_over_when_the_time_is_used_up():
    clock = Clock(1000, 10.0, elapsed=11.0)
    assert clock.is_over()
    assert clock.progress(1) == 1.0


def test_without_a_limit_the_time_never_runs_out():
    assert not Clock(10, 0.0, elapsed=1e9).is_over()


def test_a_pause_is_no_time_of_the_loop():
    clock = Clock(10, 0.0)
    before = clock.elapsed()
    with clock.paused():
        time.sleep(0.05)
    assert clock.elapsed() - before < 0.05


def test_the_parts_of_a_step_are_timed_by_name():
    clock = Clock(10, 0.0)
    clock.begin_step()
    clock.lap("wait")
    clock.lap("update")
    timing = clock.end_step(4, {"train/tokens": 100.0})
    assert {"timing_s/wait", "timing_s/update", "timing_s/step", "timing_s/left"} <= timing.keys()
    assert timing["perf/tokens_per_second"] > 0
