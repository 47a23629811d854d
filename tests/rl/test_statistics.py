from __future__ import annotations

import numpy as np
import pytest

from rl.statistics import bootstrap_crossed, bootstrap_crossed_difference, bootstrap_mean, mcnemar, wilson


@pytest.mark.parametrize(
    ("hits", "num", "low", "high"),
    [(366, 600, 0.5703, 0.6482), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (1, 2, 0.0945, 0.9055)],
)
def test_wilson_against_known_values(hits, num, low, high):
    assert wilson(hits, num) == pytest.approx((low, high), abs=2e-4)


def test_wilson_of_nothing_is_none():
    assert wilson(0, 0) is None


@pytest.mark.parametrize(("hits", "num"), [(3, 2), (-1, 2)])
def test_wilson_refuses_what_is_no_share(hits, num):
    with pytest.raises(ValueError, match="trials"):
        wilson(hits, num)


def test_wilson_agrees_with_scipy():
    from scipy.stats import binomtest

    for num in (1, 7, 50, 600):
        for hits in {0, 1, num // 3, num - 1, num}:
            expected = binomtest(hits, num).proportion_ci(0.95, method="wilson")
            assert wilson(hits, num) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_mcnemar_is_exact_and_symmetric():
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(0, 6) == pytest.approx(2 * 0.5**6)
    assert mcnemar(3, 11) == mcnemar(11, 3) == pytest.approx(0.0574, abs=1e-4)


def test_bootstrap_holds_the_mean_and_repeats_itself():
    values = [0.0, 0.0, 0.5, 1.0] * 50
    low, high = bootstrap_mean(values) or (0, 0)
    assert low < 0.375 < high and high - low < 0.15
    assert bootstrap_mean(values) == (low, high)
    assert bootstrap_mean([0.0] * 5) == (0.0, 0.0)
    assert bootstrap_mean([]) is None


def test_the_crossed_bootstrap_of_one_run_is_about_as_wide_as_wilsons_interval():
    values = np.array([[1.0] * 120 + [0.0] * 180])
    low, high = bootstrap_crossed(values) or (0.0, 0.0)
    wilson_low, wilson_high = wilson(120, 300) or (0.0, 0.0)
    assert low == pytest.approx(wilson_low, abs=0.01)
    assert high == pytest.approx(wilson_high, abs=0.01)


def test_runs_that_differ_widen_the_crossed_bootstrap():
    tasks = np.arange(300) % 2 == 0
    same = np.array([tasks, tasks, tasks], dtype=float)
    differing = np.array([tasks, np.ones(300), np.zeros(300)], dtype=float)
    narrow, wide = bootstrap_crossed(same), bootstrap_crossed(differing)
    assert narrow is not None
    assert wide is not None
    assert wide[1] - wide[0] > 3 * (narrow[1] - narrow[0])


def test_where_all_tasks_came_to_the_same_the_interval_is_wilsons_over_the_tasks():
    assert bootstrap_crossed(np.zeros((3, 217))) == wilson(0, 217)
    assert bootstrap_crossed(np.ones((2, 50))) == wilson(50, 50)


def test_the_spread_between_few_runs_is_not_underestimated():
    runs = np.array([0.31, 0.42, 0.44, 0.5, 0.53, 0.58, 0.6, 0.72])
    low, high = bootstrap_crossed(np.tile(runs[:, None], (1, 2)), 20_000) or (0.0, 0.0)
    # The width of the normal interval of a mean of eight; eight draws would make it 0.94 of that.
    assert high - low == pytest.approx(2 * 1.96 * runs.std(ddof=1) / 8**0.5, rel=0.03)


def test_values_that_are_not_known_do_not_count():
    values = np.array([[1.0, np.nan, 1.0], [np.nan, np.nan, 1.0]])
    assert bootstrap_crossed(values) == wilson(2, 2)
    assert bootstrap_crossed(np.full((2, 3), np.nan)) is None


def test_a_difference_on_the_same_tasks_does_not_carry_the_spread_between_tasks():
    rng = np.random.default_rng(0)
    first = (rng.random((3, 400)) < 0.5).astype(float)
    first[:] = first[0]
    second = first.copy()
    second[:, :40] = 1.0
    interval = bootstrap_crossed_difference(first, second)
    apart = bootstrap_crossed(second)
    assert interval is not None
    assert apart is not None
    assert interval[0] > 0
    assert interval[1] - interval[0] < apart[1] - apart[0]
    with pytest.raises(ValueError, match="expected the same ones"):
        bootstrap_crossed_difference(first, second[:, :10])
