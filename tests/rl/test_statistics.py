from __future__ import annotations

import pytest

from rl.statistics import bootstrap_mean, mcnemar, wilson


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
