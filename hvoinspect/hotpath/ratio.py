"""Ratios of two rates, from a few runs of counts a side: how large, how sure, and which to trust.

One row is one thing that was counted in every run; all rows are computed at once.

**Interval.** A side's rate is its hits in all runs by its exposure (seconds, or units of work) in
all runs. Hits come in bursts and runs differ, so a side's variance is that of Poisson counts times
a dispersion, estimated from how the runs scatter about the side's rate (Pearson's X2 by its degrees
of freedom; McCullagh and Nelder, Generalized Linear Models, 2nd edition, 4.5 and 6.2), and taken
for 1 where it comes out less: few runs that agree by chance, or a workload that repeats to the last
hit, must not give an interval of no width. The logarithm of the ratio then has the sum of both
sides' relative variances, and its interval is Student's with the degrees of freedom of Welch
(Biometrika 34, 1947, 28-35), since nothing says that two kernels scatter alike. The interval holds
the ratio 95 times in 100 from some five runs a side on, about 98 with two, and more often where
counts scatter as little as Poisson's or less: it errs to the wide side.

**Significance.** Hundreds of functions are looked at, and one in 20 would be outside its interval
by chance. P-values are adjusted for all rows by the procedure of Benjamini and Hochberg (Journal of
the Royal Statistical Society B 57, 1995, 289-300): of the rows called significant, one in 20 is so
by chance; where nothing has changed at all, one comparison in 20 has any. Holm's procedure promises
the second only, and where much has changed finds less of it.

Student's distribution is integrated here rather than taken from SciPy, which would be by far the
largest thing that is installed with the project, for these few lines.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LEVEL = 0.95
"""Confidence of the intervals."""

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(40)
_NODES, _WEIGHTS = (_NODES + 1) / 2, _WEIGHTS / 2


@dataclass(frozen=True)
class Side:
    """Counts of one side: `hits` of shape (runs, rows), `exposure` of each run, above 0."""

    hits: Floats
    exposure: Floats

    @property
    def rate(self) -> Floats:
        """Hits by exposure of all runs, a row each."""
        rate: Floats = self.hits.sum(axis=0) / self.exposure.sum()
        return rate


@dataclass(frozen=True)
class Ratios:
    """After by before, a row each; `low` to `high` is the interval.

    `p_value` is the chance of a ratio as far from 1 where nothing changed, `adjusted` the same for
    all rows together. All three are NaN where a side has a single run: how runs scatter is not
    known then. A ratio is infinite, or NaN, where nothing was hit before.
    """

    ratio: Floats
    low: Floats
    high: Floats
    p_value: Floats
    adjusted: Floats


def ratios(before: Side, after: Side) -> Ratios:
    """Return the ratios of the rates of `after` to those of `before`."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = after.rate / before.rate
    if min(len(before.exposure), len(after.exposure)) < 2:
        unknown = np.full(ratio.shape, np.nan)
        return Ratios(ratio, unknown, unknown, unknown, unknown)
    variances = np.stack([_variance(before), _variance(after)])
    freedom = np.array([[len(before.exposure) - 1], [len(after.exposure) - 1]])
    variance = variances.sum(axis=0)
    welch = variance**2 / (variances**2 / freedom).sum(axis=0)
    distance = np.log(_log_able(after) / _log_able(before))
    half = t_quantile(1 - LEVEL, welch) * np.sqrt(variance)
    p_value = t_both_tails(np.abs(distance) / np.sqrt(variance), welch)
    with np.errstate(over="ignore"):
        low, high = np.exp(distance - half), np.exp(distance + half)
    # Where a side has no hits, how far the ratio may be from its end is known, and the end is.
    low = np.where(ratio == 0, 0.0, low)
    high = np.where(np.isinf(ratio), np.inf, high)
    return Ratios(ratio, low, high, p_value, benjamini_hochberg(p_value))


def _hits(side: Side) -> Floats:
    """Return the hits of all runs; half a hit for none, which has no logarithm (Haldane, 1956)."""
    hits: Floats = np.maximum(side.hits.sum(axis=0), 0.5)
    return hits


def _log_able(side: Side) -> Floats:
    rate: Floats = _hits(side) / side.exposure.sum()
    return rate


def _variance(side: Side) -> Floats:
    """Return the variance of the logarithm of a side's rate."""
    expected = _log_able(side) * side.exposure[:, None]
    pearson = ((side.hits - expected) ** 2 / expected).sum(axis=0)
    dispersion = np.maximum(pearson / (len(side.exposure) - 1), 1.0)
    variance: Floats = dispersion / _hits(side)
    return variance


def benjamini_hochberg(p_values: Floats) -> Floats:
    """Return `p_values` adjusted for being as many: the least rate of chance finds to find each."""
    count = len(p_values)
    order = np.argsort(p_values)
    steps = p_values[order] * count / np.arange(1, count + 1)
    adjusted: Floats = np.empty(count)
    adjusted[order] = np.minimum(np.minimum.accumulate(steps[::-1])[::-1], 1.0)
    return adjusted


def t_both_tails(distance: Floats, freedom: Floats) -> Floats:
    """Return the chance that Student's t is at least `distance` from 0 (`distance` >= 0)."""
    with np.errstate(divide="ignore"):
        return _tails(np.arctan(np.sqrt(freedom) / distance), freedom)


def t_quantile(chance: float, freedom: Floats) -> Floats:
    """Return the distance from 0 that Student's t exceeds with `chance`, either way."""
    low, high = np.zeros(freedom.shape), np.full(freedom.shape, math.pi / 2)
    for _ in range(48):
        middle = (low + high) / 2
        above = _tails(middle, freedom) > chance
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    quantile: Floats = np.sqrt(freedom) / np.tan((low + high) / 2)
    return quantile


def _tails(angle: Floats, freedom: Floats) -> Floats:
    """Return both tails of Student's t beyond sqrt(freedom) / tan(angle), for `freedom` >= 1.

    With t = sqrt(freedom) / tan(x) its density becomes sin(x)^(freedom - 1) on 0 to pi, by
    sqrt(pi) gamma(freedom / 2) / gamma((freedom + 1) / 2); Gauss and Legendre's rule integrates
    it in u with x = angle * u^2, where it is smooth at 0 too.
    """
    angle, freedom = angle[..., None], freedom[..., None]
    density = np.sin(angle * _NODES**2) ** (freedom - 1) * 2 * angle * _NODES
    lgamma = np.vectorize(math.lgamma, otypes=[np.float64])
    whole = math.sqrt(math.pi) * np.exp(lgamma(freedom / 2) - lgamma((freedom + 1) / 2))
    tails: Floats = 2 * (density * _WEIGHTS).sum(axis=-1) / whole[..., 0]
    return np.minimum(tails, 1.0)
