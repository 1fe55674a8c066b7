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
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]

LEVEL = 0.95
"""Confidence of the intervals."""


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
    student = stats.t(freedom)
    p_value = np.asarray(2 * student.sf(np.where(np.isnan(distance), 0.0, distance)))
    low, high = _fieller(roots, variances, np.asarray(student.ppf((1 + LEVEL) / 2)))
    adjusted = np.asarray(stats.false_discovery_control(p_value, method="bh"))
    return Ratios(ratio, low**2, high**2, p_value, adjusted)


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
