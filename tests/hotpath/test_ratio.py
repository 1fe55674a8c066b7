"""Ratios of rates: what an interval holds, and how often chance passes for a change."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvoinspect.hotpath.ratio import (
    Floats,
    Ratios,
    Side,
    benjamini_hochberg,
    ratios,
    t_both_tails,
    t_quantile,
)

DISTANCES = st.floats(0, 1e9)


def side(*hits: float, exposure: float = 10.0) -> Side:
    """Runs of one row, each as long as the others."""
    return Side(np.array(hits, np.float64)[:, None], np.full(len(hits), exposure))


def only(values: Floats) -> float:
    (value,) = values
    return float(value)


class TestStudent:
    """Against its closed forms, a published table, and the normal distribution."""

    @given(DISTANCES)
    def test_one_degree_of_freedom_is_cauchys(self, t: float) -> None:
        tails = only(t_both_tails(np.array([t]), np.array([1.0])))
        assert tails == pytest.approx(2 / math.pi * math.atan2(1, t), rel=1e-9)

    @given(DISTANCES)
    def test_two_degrees_of_freedom(self, t: float) -> None:
        tails = only(t_both_tails(np.array([t]), np.array([2.0])))
        root = math.sqrt(2 + t * t)
        assert tails == pytest.approx(2 / (root * (root + t)), rel=1e-9)

    @given(st.floats(0, 4), st.floats(1000, 1e9))
    def test_many_are_nearly_normal(self, t: float, freedom: float) -> None:
        tails = only(t_both_tails(np.array([t]), np.array([freedom])))
        assert tails == pytest.approx(2 * NormalDist().cdf(-t), rel=0.08)

    @pytest.mark.parametrize(
        ("freedom", "quantile"),
        [(1, 12.7062), (2, 4.30265), (3, 3.18245), (5, 2.57058), (10, 2.22814), (30, 2.04227)],
    )
    def test_the_table(self, freedom: int, quantile: float) -> None:
        assert only(t_quantile(0.05, np.array([float(freedom)]))) == pytest.approx(
            quantile, abs=1e-5 * quantile
        )

    @given(st.floats(1, 40))
    def test_between_whole_degrees_by_the_density_itself(self, freedom: float) -> None:
        quantile = only(t_quantile(0.05, np.array([freedom])))
        x = np.linspace(0, quantile, 20001)
        density = (1 + x**2 / freedom) ** (-(freedom + 1) / 2)
        scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2))
        inside = 2 * np.trapezoid(density, x) * scale / math.sqrt(freedom * math.pi)
        assert inside == pytest.approx(0.95, abs=1e-6)


class TestInterval:
    def test_by_hand(self) -> None:
        """10,000 and 20,000 hits in 20 s each, with Pearson's X2 of 4 and of 32."""
        found = ratios(side(4900, 5100), side(10400, 9600))
        variances = 4 / 20 / 4, 32 / 20 / 4
        freedom = (2 * variances[0] + variances[1]) ** 2 / (
            (2 * variances[0]) ** 2 + variances[1] ** 2
        )
        t = only(t_quantile(0.05, np.array([freedom])))
        assert only(found.ratio) == 2.0
        for end in (only(found.low), only(found.high)):
            apart = abs(math.sqrt(1000) - math.sqrt(end * 500))
            assert apart == pytest.approx(t * math.sqrt(end * variances[0] + variances[1]))

    def test_runs_that_agree_are_not_taken_for_certain(self) -> None:
        found = ratios(side(400, 400), side(400, 400))
        assert only(found.ratio) == 1.0
        assert only(found.low) == pytest.approx(1 - 4.30265 * math.sqrt(2 / 800), abs=0.03)
        assert only(found.high) == pytest.approx(1 / only(found.low))
        assert only(found.p_value) == 1.0

    def test_a_longer_run_weighs_more(self) -> None:
        before = Side(np.array([[100.0], [900.0]]), np.array([1.0, 9.0]))
        assert only(ratios(before, side(1000, 1000)).ratio) == 1.0

    @given(st.lists(st.integers(0, 10**6), min_size=4, max_size=4))
    def test_holds_the_ratio_and_turns_over_with_the_sides(self, hits: list[int]) -> None:
        before, after = side(*hits[:2]), side(*hits[2:])
        there, back = ratios(before, after), ratios(after, before)
        if not math.isnan(only(there.ratio)):
            assert only(there.low) <= only(there.ratio) <= only(there.high)
        assert only(there.p_value) == pytest.approx(only(back.p_value))
        if any(hits):
            assert only(there.low) == pytest.approx(1 / only(back.high))

    @given(st.lists(st.integers(0, 10**5), min_size=6, max_size=6))
    def test_leaves_out_1_where_chance_is_below_one_in_20(self, hits: list[int]) -> None:
        found = ratios(side(*hits[:3]), side(*hits[3:]))
        if any(hits):
            outside = not only(found.low) <= 1 <= only(found.high)
            assert outside == (only(found.p_value) < 0.05)

    def test_nothing_after_is_ratio_0_with_an_upper_end(self) -> None:
        hit, never = side(50, 60, 55), side(0, 0, 0)
        gone, new = ratios(hit, never), ratios(never, hit)
        assert (only(gone.ratio), only(gone.low)) == (0, 0)
        assert 0 < only(gone.high) < 1
        assert (only(new.ratio), only(new.high)) == (math.inf, math.inf)
        assert only(new.low) == pytest.approx(1 / only(gone.high))

    def test_a_burst_in_one_run_is_no_change(self) -> None:
        found = ratios(side(3000, 0, 0), side(0, 0, 0))
        assert (only(found.low), only(found.high)) == (0, math.inf)
        assert only(found.p_value) > 0.05

    @pytest.mark.parametrize("runs", [(1, 1), (1, 5), (5, 1)])
    def test_of_a_single_run_nothing_is_claimed(self, runs: tuple[int, int]) -> None:
        found = ratios(side(*[100] * runs[0]), side(*[300] * runs[1]))
        assert only(found.ratio) == 3.0
        for unknown in (found.low, found.high, found.p_value, found.adjusted):
            assert math.isnan(only(unknown))


class TestManyRows:
    def test_adjusted_by_hand(self) -> None:
        p_values = np.array([0.04, 0.001, 0.03, 0.9])
        assert benjamini_hochberg(p_values) == pytest.approx([0.16 / 3, 0.004, 0.16 / 3, 0.9])

    @given(st.lists(st.floats(0, 1), min_size=1, max_size=50))
    def test_adjusted_is_no_smaller_and_keeps_the_order(self, p_values: list[float]) -> None:
        values = np.array(p_values)
        adjusted = benjamini_hochberg(values)
        assert np.all(adjusted >= values * (1 - 1e-12))
        assert np.all(adjusted <= 1)
        assert np.all(np.diff(adjusted[np.argsort(values)]) >= -1e-12)


ROWS = 100


def scattered(random: np.random.Generator, scatter: str, runs: int) -> Floats:
    if scatter == "own":
        return random.gamma(50, 1 / 50, (runs, ROWS))
    off = 0.05 if scatter == "common" else 0.0
    return np.repeat(random.lognormal(0, off, (runs, 1)), ROWS, axis=1)


SCATTER = ("poisson", "own", "common")
"""How a run's rates are off: not at all, each row by 14 % by itself, or all rows by 5 % together,
as when the machine is slower."""


def trial(random: np.random.Generator, scatter: str, runs: int, ratio: Floats) -> Ratios:
    rates = 10 ** random.uniform(1, 5, ROWS)
    sides = [
        Side(
            random.poisson(rates * change * scattered(random, scatter, runs)).astype(np.float64),
            np.ones(runs),
        )
        for change in (np.ones(ROWS), ratio)
    ]
    return ratios(*sides)


class TestBySimulation:
    """What the docstring promises, on made-up machines; the seeds make it the same every time."""

    @pytest.mark.parametrize("scatter", SCATTER)
    @pytest.mark.parametrize("runs", [2, 3, 5, 10])
    def test_intervals_hold_the_ratio_19_times_in_20(self, scatter: str, runs: int) -> None:
        random = np.random.default_rng([runs, len(scatter)])
        held = 0
        for _ in range(60):
            ratio = np.exp(random.normal(0, 0.5, ROWS))
            found = trial(random, scatter, runs, ratio)
            held += int(np.sum((found.low <= ratio) & (ratio <= found.high)))
        # Rows that are off together are 60 draws, not 6,000, so their share is less certain.
        assert held / (60 * ROWS) >= (0.90 if scatter == "common" else 0.94)
        if scatter == "own" and runs >= 5:
            assert held / (60 * ROWS) <= 0.97  # and no wider than they must be

    @pytest.mark.parametrize("scatter", SCATTER)
    @pytest.mark.parametrize("runs", [2, 3, 5, 10])
    def test_a_kernel_against_itself_shows_no_change(self, scatter: str, runs: int) -> None:
        """One comparison in 20 may: of 100, more than 13 have a chance of 1 in 1,000."""
        random = np.random.default_rng([runs, len(scatter), 1])
        trials = (trial(random, scatter, runs, np.ones(ROWS)) for _ in range(100))
        assert sum(bool(np.any(found.adjusted < 0.05)) for found in trials) <= 13

    @pytest.mark.parametrize(("runs", "least"), [(3, 0.3), (5, 0.9)])
    def test_what_changed_is_found_and_little_else(self, runs: int, least: float) -> None:
        random = np.random.default_rng(runs)
        ratio = np.where(np.arange(ROWS) < 30, 2.0, 1.0)
        right = wrong = 0
        for _ in range(50):
            significant = trial(random, "own", runs, ratio).adjusted < 0.05
            right += int(significant[:30].sum())
            wrong += int(significant[30:].sum())
        assert right / (50 * 30) >= least
        assert wrong / (right + wrong) <= 0.05
