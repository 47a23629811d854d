"""Intervals and tests for the rates of an evaluation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

Z_95 = 1.959963984540054


def wilson(num_hits: int, num: int) -> tuple[float, float] | None:
    """Wilson's 95 % interval of a share; None of nothing.

    Raises:
        ValueError: more hits than trials, or negative numbers.
    """
    if not 0 <= num_hits <= num:
        raise ValueError(f"expected 0 <= hits <= trials, got {num_hits} of {num}")
    if num == 0:
        return None
    share = num_hits / num
    spread = Z_95 * math.sqrt(share * (1 - share) / num + Z_95**2 / (4 * num**2))
    scale = 1 + Z_95**2 / num
    middle = share + Z_95**2 / (2 * num)
    # At the ends the bounds are 0 and 1 exactly, which rounding would miss.
    low = 0.0 if num_hits == 0 else max(0.0, (middle - spread) / scale)
    high = 1.0 if num_hits == num else min(1.0, (middle + spread) / scale)
    return low, high


def mcnemar(num_only_first: int, num_only_second: int) -> float:
    """Exact two-sided McNemar p of paired yes-or-no outcomes, from the two counts of discordant pairs."""
    from scipy.stats import binomtest

    num = num_only_first + num_only_second
    return 1.0 if num == 0 else float(binomtest(num_only_first, num, 0.5).pvalue)


def bootstrap_mean(values: Sequence[float], num_resamples: int = 2000, seed: int = 0) -> tuple[float, float] | None:
    """Percentile bootstrap 95 % interval of a mean, the same for the same seed; None of nothing."""
    if not values:
        return None
    array = np.asarray(values, dtype=np.float64)
    if array.min() == array.max():
        return float(array[0]), float(array[0])
    rng = np.random.default_rng(seed)
    means = [float(array[rng.integers(len(array), size=len(array))].mean()) for _ in range(num_resamples)]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def bootstrap_crossed(values: np.ndarray, num_resamples: int = 2000, seed: int = 0) -> tuple[float, float] | None:
    """Percentile bootstrap 95 % interval of the mean of runs on the same tasks, which draws runs and tasks anew.

    Of R runs R - 1 are drawn, with which the variance of a mean over runs is estimated without bias; with R draws it
    would be too small, by a third with three runs (the n - 1 bootstrap of McCarthy and Snowden, 1985). Where every run
    says yes of every task, or no, no draw differs: Wilson's interval over the tasks is given in its place.

    Args:
        values: float64 [runs, tasks]; NaN where there is none.
        num_resamples: draws of runs and of tasks, each with replacement.
        seed: of the draws.

    Returns:
        The interval; None where no value is known.
    """
    known = values[~np.isnan(values)]
    if len(known) and known[0] in (0.0, 1.0) and (known == known[0]).all():
        num = int((~np.isnan(values)).any(axis=0).sum())
        return wilson(num if known[0] else 0, num)
    rng = np.random.default_rng(seed)
    means = _crossed_means(values, rng, _drawn(values.shape[1], num_resamples, rng))
    return _interval(means)


def bootstrap_crossed_difference(
    first: np.ndarray, second: np.ndarray, num_resamples: int = 2000, seed: int = 0
) -> tuple[float, float] | None:
    """The same for the mean of `second` less that of `first`: the same tasks are drawn for both, runs for each.

    Args:
        first: float64 [runs, tasks]; NaN where there is none.
        second: float64 [runs, tasks], on the same tasks.
        num_resamples: draws.
        seed: of the draws.

    Raises:
        ValueError: they are not on the same number of tasks.
    """
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"{first.shape[1]} and {second.shape[1]} tasks: expected the same ones")
    rng = np.random.default_rng(seed)
    tasks = _drawn(first.shape[1], num_resamples, rng)
    return _interval(_crossed_means(second, rng, tasks) - _crossed_means(first, rng, tasks))


def _drawn(num: int, num_resamples: int, rng: np.random.Generator) -> np.ndarray:
    """How often each of `num` is drawn in each resample: float64 [num_resamples, num]."""
    return rng.multinomial(num, np.full(num, 1.0 / num), size=num_resamples).astype(np.float64)


def _crossed_means(values: np.ndarray, rng: np.random.Generator, tasks: np.ndarray) -> np.ndarray:
    """Means over drawn runs and the drawn tasks [num_resamples, T]; NaN where nothing known was drawn."""
    num = values.shape[0]
    runs = rng.multinomial(max(1, num - 1), np.full(num, 1.0 / num), size=len(tasks)).astype(np.float64)
    known = ~np.isnan(values)
    sums = ((runs @ np.where(known, values, 0.0)) * tasks).sum(axis=1)
    counts = ((runs @ known.astype(np.float64)) * tasks).sum(axis=1)
    return np.divide(sums, counts, out=np.full(len(tasks), np.nan), where=counts > 0)


def _interval(means: np.ndarray) -> tuple[float, float] | None:
    known = means[~np.isnan(means)]
    if not len(known):
        return None
    low, high = np.quantile(known, [0.025, 0.975])
    return float(low), float(high)


def as_list(interval: tuple[float, float] | None) -> list[float] | None:
    """An interval as JSON has it."""
    return None if interval is None else list(interval)
