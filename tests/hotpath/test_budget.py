"""What is given up so that counting takes no more of a CPU than it may."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hvoinspect.hotpath.backend import Cost
from hvoinspect.hotpath.budget import Load, load_of, too_dear


def test_the_load_is_the_time_taken_of_the_time_gone_by() -> None:
    load = load_of(Cost(1_000, 10), Cost(21_000_000, 1_010), 0.5)
    assert load == Load(nanoseconds=20_999.0, percent=4.1998)


def test_no_runs_are_no_load() -> None:
    assert load_of(Cost(5, 5), Cost(5, 5), 0.0) == Load(0.0, 0.0)


def test_within_the_budget_nothing_is_given_up() -> None:
    assert too_dear({1: 100, 2: 1}, Load(50.0, 2.0), 2.0) == {}


def test_the_hottest_go_first_and_as_few_as_do_it() -> None:
    hits = {1: 10, 2: 60, 3: 30}
    assert too_dear(hits, Load(50.0, 10.0), 5.0) == {2: 6.0}
    assert too_dear(hits, Load(50.0, 10.0), 3.0) == {2: 6.0, 3: 3.0}


@given(
    hits=st.dictionaries(st.integers(1, 50), st.integers(0, 10**9), min_size=1),
    percent=st.floats(0, 100),
    allowed=st.floats(0.001, 100),
)
def test_what_is_left_keeps_to_the_budget(
    hits: dict[int, int], percent: float, allowed: float
) -> None:
    given_up = too_dear(hits, Load(50.0, percent), allowed)
    total = sum(hits.values())
    left = sum(number for at, number in hits.items() if at not in given_up)
    if total:
        assert percent * left / total <= allowed + 1e-6
        # And the last one was needed.
        if given_up:
            last = min(given_up.values())
            assert percent * left / total + last > allowed - 1e-6
