"""Ratios of two rates, from a few runs of counts a side: how large, how sure, and which to trust.

One row is one thing that was counted in every run; all rows are computed at once.

**Interval.** A side's rate is its hits in all runs by its exposure (seconds, or units of work) in
all runs. Hits come in bursts and runs differ, so a side's variance is that of Poisson counts times
a dispersion, estimated from how the runs scatter about the side's rate (Pearson's X2 by its degrees
of freedom; McCullagh and Nelder, Generalized Linear Models, 2nd edition, 4.5 and 6.2), and taken
for 1 where it comes out less: few runs that agree by chance, or a workload that repeats to the last
hit, must not give an interval of no width. The square root of such a rate has a variance that does
not depend on the rate (Bartlett, Supplement to the Journal of the Royal Statistical Society 3,
1936, 68-78), and is near normal for small counts too, 0 among them. So the interval is that of a
ratio of two such roots, squared, by the theorem of Fieller (Journal of the Royal Statistical
Society B 16, 1954, 175-185): all ratios with which both sides agree, by Student's t with the
degrees of freedom of Welch (Biometrika 34, 1947, 28-35), since nothing says that two kernels
scatter alike. It holds the ratio 95 times in 100 from some five runs a side on, about 98 with two,
and more often where counts scatter as little as Poisson's or less: it errs to the wide side.

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

MAX_FREEDOM = 1000.0
"""Degrees of freedom beyond which Student's distribution is taken to change no more."""

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
    with np.errstate(all="ignore"):  # to nothing, or beyond what a float holds
        return _ratios(before, after)


def _ratios(before: Side, after: Side) -> Ratios:
    ratio = after.rate / before.rate
    runs = len(before.exposure), len(after.exposure)
    if min(runs) < 2:
        unknown = np.full(ratio.shape, np.nan)
        return Ratios(ratio, unknown, unknown, unknown, unknown)
    roots = np.sqrt(before.rate), np.sqrt(after.rate)
    dispersions = _dispersion(before), _dispersion(after)
    variances = (
        dispersions[0] / before.exposure.sum() / 4,
        dispersions[1] / after.exposure.sum() / 4,
    )
    # Welch's for the variances as they are at `ratio`, both multiplied by the hits of both sides.
    parts = dispersions[0] * after.hits.sum(axis=0), dispersions[1] * before.hits.sum(axis=0)
    freedom = (parts[0] + parts[1]) ** 2 / (
        parts[0] ** 2 / (runs[0] - 1) + parts[1] ** 2 / (runs[1] - 1)
    )
    freedom = np.where(np.isfinite(freedom), freedom, min(runs) - 1)
    distance = np.abs(roots[1] - roots[0]) / np.sqrt(variances[0] + variances[1])
    p_value = t_both_tails(np.where(np.isnan(distance), 0.0, distance), freedom)
    low, high = _fieller(roots, variances, t_quantile(1 - LEVEL, freedom))
    return Ratios(ratio, low**2, high**2, p_value, benjamini_hochberg(p_value))


def _dispersion(side: Side) -> Floats:
    """Return how many times a Poisson count's the variance of each row is, 1 at least."""
    expected = side.rate * side.exposure[:, None]
    pearson = ((side.hits - expected) ** 2 / expected).sum(axis=0)
    dispersion: Floats = np.fmax(pearson / (len(side.exposure) - 1), 1.0)  # of no hits it is NaN
    return dispersion


def _fieller(
    means: tuple[Floats, Floats], variances: tuple[Floats, Floats], distance: Floats
) -> tuple[Floats, Floats]:
    """Return the least and the greatest x with |means[1] - x means[0]| within its errors.

    These are `distance` standard deviations: x is between the zeros of a x^2 - 2 b x + c. Where
    the first mean may be 0, x has no end, and where both may be, none at all.
    """
    a = means[0] ** 2 - distance**2 * variances[0]
    b = means[0] * means[1]
    c = means[1] ** 2 - distance**2 * variances[1]
    root = np.sqrt(np.maximum(b**2 - a * c, 0.0))
    # c / (b + root) is (b - root) / a where a is not 0, without the loss of digits.
    low = np.where(c > 0, c / (b + root), 0.0)
    high = np.where(a > 0, (b + root) / a, np.inf)
    return low, high


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
    freedom = np.minimum(freedom, MAX_FREEDOM)
    return _tails(np.arctan2(np.sqrt(freedom), distance), freedom)


def t_quantile(chance: float, freedom: Floats) -> Floats:
    """Return the distance from 0 that Student's t exceeds with `chance`, either way."""
    freedom = np.minimum(freedom, MAX_FREEDOM)
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
