"""Intervals in closed form, vectorised: every argument is a scalar or an array over slices."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]


def t_quantile(level: float, freedom: ArrayLike) -> FloatArray:
    """Student's quantile that a two-sided interval at `level` reaches to."""
    from scipy.special import stdtrit

    return np.asarray(stdtrit(np.maximum(freedom, 1), 0.5 + level / 2), dtype=np.float64)


def normal_quantile(level: float) -> float:
    """The z of a two-sided interval: 1.96 for the level 0.95."""
    from scipy.special import ndtri

    return float(ndtri(0.5 + level / 2))


def wilson(share: ArrayLike, n: ArrayLike, z: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Wilson's score interval for a proportion of n trials (Wilson 1927); [0, 1] for n = 0.

    `n` may be an effective sample size, `z` a Student quantile (Korn & Graubard 1998).
    """
    p, n, z = np.asarray(share, np.float64), np.asarray(n, np.float64), np.asarray(z, np.float64)
    n = np.where(n > 0, n, np.nan)
    shrink = 1 + z * z / n
    middle = (p + z * z / (2 * n)) / shrink
    half = z / shrink * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # Exactly p at the ends: 1 - 1e-16 as an upper limit would exclude a true 1.
    low = np.where(p <= 0, 0.0, np.maximum(middle - half, 0.0))
    high = np.where(p >= 1, 1.0, np.minimum(middle + half, 1.0))
    return np.where(np.isnan(n), 0.0, low), np.where(np.isnan(n), 1.0, high)


def skewed_t(
    value: FloatArray,
    error: FloatArray,
    skewness: FloatArray,
    kurtosis: FloatArray,
    units: ArrayLike,
    level: float,
) -> tuple[FloatArray, FloatArray]:
    """Student's t interval for a mean, corrected for skewness and kurtosis.

    Skewness by Hall's monotone cubic transformation (1992, "On the removal of skewness by transformation"):
    second-order accurate like the studentised bootstrap, without resampling. What is left at the third order, the
    kurtosis and that the skewness is itself estimated, stretches the interval by the Cornish-Fisher term of the
    studentised mean (`third_order`).

    `error` is the standard error; `skewness` and (excess) `kurtosis` are the plain moments of the `units`, taken as
    Fisher's unbiased G1 and G2 from four units on.
    """
    units = np.maximum(np.asarray(units, np.float64), 1)
    t = t_quantile(level, units - 1)
    enough = units > 3
    skewness = skewness * np.where(enough, np.sqrt(units * (units - 1)) / np.maximum(units - 2, 1), 1.0)
    kurtosis = ((units + 1) * kurtosis + 6) * (units - 1) / np.maximum((units - 2) * (units - 3), 1)
    stretch = error * (1 + np.where(enough, third_order(t, skewness, kurtosis), 0.0) / units)
    a = skewness / np.sqrt(units)
    a = np.where(np.abs(a) < 1e-7, 1e-7, a)  # the limit a → 0 is q itself

    def back(q: FloatArray) -> FloatArray:
        return np.asarray(3 / a * (np.cbrt(1 + a * (q - a / 6)) - 1), dtype=np.float64)

    return value - back(t) * stretch, value - back(-t) * stretch


def third_order(t: FloatArray, skewness: FloatArray, kurtosis: FloatArray) -> FloatArray:
    """n times the share by which the studentised mean's quantiles ±t move outwards; never inwards.

    The n⁻¹ term of the inverted Edgeworth expansion (Hall 1992, "The Bootstrap and Edgeworth Expansion", chapter 2),
    with that of an estimated skewness, which the mean is correlated with: (κ - 3/2 γ²) (2t² + 1) / 6 (Hall 1988,
    Annals of Statistics 16). Sample moments understate heavy tails, so what the cubic transformation itself adds
    isn't deducted.
    """
    term = kurtosis * (3 * t**2 + 5) / 12 - skewness**2 * (16 * t**2 + 23) / 72
    return np.maximum(term, 0.0)


def alike(value: FloatArray, units: ArrayLike, level: float, low: float, high: float) -> tuple[FloatArray, FloatArray]:
    """The interval of a mean whose units all have the same value: they show no spread to go by.

    At most a share 1 - (1 - level)^(1/n) of units may differ (the rule of three), by as much as the
    metric's range [low, high] allows.
    """
    units = np.maximum(np.asarray(units, np.float64), 1)
    share = 1 - (1 - level) ** (1 / units)
    return value - share * (value - low), value + share * (high - value)


def mover(
    one: FloatArray,
    one_limits: tuple[FloatArray, FloatArray],
    other: FloatArray,
    other_limits: tuple[FloatArray, FloatArray],
    correlation: FloatArray,
    ratio: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """Interval for other - one from the intervals of each and the correlation of the two estimates.

    MOVER, the "method of variance estimates recovery" (Zou 2007, Psychological Methods 12, eq. 15). It adds
    the limits' distances x and y as standard errors, √(x² + y² - 2ρxy), which is too wide for estimates
    that nearly move together: then x - y is their limits' asymmetry, not noise. In proportion to the
    correlation, x / y is therefore replaced by the `ratio` of the standard errors (other's to one's).
    """

    def half(x: FloatArray, y: FloatArray) -> FloatArray:
        apart = (x - y) ** 2
        alike = x * y * (ratio + 1 / ratio - 2)
        together = np.clip(correlation, 0.0, 1.0)
        square = (1 - together) * apart + together * alike + 2 * x * y * (1 - correlation)
        return np.asarray(np.sqrt(np.maximum(square, 0.0)), dtype=np.float64)

    difference = other - one
    low = half(other - other_limits[0], one_limits[1] - one)
    high = half(other_limits[1] - other, one - one_limits[0])
    return difference - low, difference + high


def discordance(better: FloatArray, worse: FloatArray, n: ArrayLike, z: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Score interval for a difference of paired proportions from the counts of discordant pairs.

    Tango (1998, Statistics in Medicine 17): all δ with |better - worse - nδ| ≤ z·√(n (2q̂ + δ - δ²)), q̂ being the
    most likely share of `worse` pairs where the difference is δ. Never without width; [-1, 1] for n = 0.
    """
    n, z = np.asarray(n, np.float64), np.asarray(z, np.float64)
    difference = np.where(n > 0, (better - worse) / np.where(n > 0, n, 1.0), 0.0)

    def accepts(limit: FloatArray) -> NDArray[np.bool_]:
        linear = (2 * n - better + worse) * limit - better - worse
        root = np.sqrt(np.maximum(linear**2 + 8 * n * worse * limit * (1 - limit), 0.0))
        least = (root - linear) / np.where(n > 0, 4 * n, 1.0)
        variance = n * (2 * least + limit * (1 - limit))
        # A little more than equal, lest rounding rejects the estimate itself.
        return np.abs(better - worse - n * limit) <= z * np.sqrt(np.maximum(variance, 0.0)) + 1e-9

    ends = np.full_like(difference, -1.0), np.full_like(difference, 1.0)
    low, high = (np.where(accepts(end), end, solve(accepts, difference, end)) for end in ends)
    return low, high


def solve(accepts: Callable[[FloatArray], NDArray[np.bool_]], inside: FloatArray, outside: FloatArray) -> FloatArray:
    """The limit between an accepted and a rejected value, by bisection, elementwise."""
    inside, outside = np.array(inside, np.float64), np.array(outside, np.float64)
    for _ in range(50):
        middle = (inside + outside) / 2
        ok = accepts(middle)
        inside, outside = np.where(ok, middle, inside), np.where(ok, outside, middle)
    return inside
