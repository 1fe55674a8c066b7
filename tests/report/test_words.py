"""What a result comes to, in words; numbers as people write them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvoinspect.report.words import bytes_text, count_text, percent_text, verdict
from tests.report.situations import own, situation, view

UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
SIZES = st.one_of(st.integers(-(1 << 50), 1 << 50), st.integers(0, 1 << 21))


class TestBytes:
    @pytest.mark.parametrize(
        ("count", "text"),
        [
            (0, "0 B"),
            (1, "1 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            (28 << 10, "28 KiB"),
            (2 << 20, "2 MiB"),
            ((2 << 20) + 1, "2.0 MiB"),
            (1 << 30, "1 GiB"),
            (5 << 40, "5 TiB"),
            (5000 << 40, "5000 TiB"),
            (-4096, "-4 KiB"),
            # What would round to 1024 of a unit is one of the next.
            ((1 << 20) - 1, "1.0 MiB"),
            ((1 << 40) - 1, "1.0 TiB"),
        ],
    )
    def test_examples(self, count: int, text: str) -> None:
        assert bytes_text(count) == text

    @given(SIZES)
    def test_it_says_what_it_was_given_to_within_its_last_digit(self, count: int) -> None:
        found = re.fullmatch(r"(-?)(\d+(?:\.\d)?) (\w+)", bytes_text(count))
        assert found
        sign, number, unit = found.groups()
        assert (sign == "-") == (count < 0)
        if "." in number:
            assert abs(float(number) * UNITS[unit] - abs(count)) <= 0.051 * UNITS[unit]
        else:
            assert int(number) * UNITS[unit] == abs(count), "a whole number is exact"

    @given(SIZES)
    def test_it_takes_the_largest_unit_that_leaves_one(self, count: int) -> None:
        number, unit = bytes_text(abs(count)).split()
        assert float(number) >= 1 or count == 0
        assert float(number) < 1024 or unit == "TiB"


class TestCounts:
    def test_unknown_is_a_dash_and_zero_is_not(self) -> None:
        assert count_text(None) == "-"
        assert count_text(0) == "0"

    @given(st.integers(0, 1 << 52))
    def test_thousands_are_separated(self, count: int) -> None:
        assert re.fullmatch(r"\d{1,3}(,\d{3})*", count_text(count))
        assert int(count_text(count).replace(",", "")) == count


class TestPercents:
    @pytest.mark.parametrize(
        ("fraction", "text"), [(1.0, "100.0%"), (0.99999, "99.9%"), (0.5, "50.0%"), (0.0, "0.0%")]
    )
    def test_examples(self, fraction: float, text: str) -> None:
        assert percent_text(fraction) == text

    @given(st.floats(0, 1, exclude_max=True))
    def test_what_is_not_the_whole_never_reads_as_the_whole(self, fraction: float) -> None:
        assert float(percent_text(fraction).rstrip("%")) < 100


class TestVerdict:
    @pytest.mark.parametrize(
        ("name", "sentence"),
        [
            (
                "pointer",
                "HVO is on; tails share their head's frame (fake heads, up to Linux 7.0); "
                "4 of 5 2 MiB pages optimized; 1 of 1 1 GiB pages optimized; "
                "16.1 MiB saved net; 28 KiB more could be.",
            ),
            (
                "mask",
                "HVO is on; tails share one read-only frame per zone (7.1+ encoding); "
                "4 of 5 2 MiB pages optimized; 1 of 1 1 GiB pages optimized; "
                "16.1 MiB saved net; 28 KiB more could be.",
            ),
            ("off", "HVO is off; there are no hugetlb pages."),
            (
                "was on",
                "HVO is off for new hugepages, but was on; tails share one read-only frame per "
                "zone (7.1+ encoding); 1 of 1 2 MiB pages optimized; 24 KiB saved net.",
            ),
            ("not built", "This kernel is built without HVO; there are no hugetlb pages."),
            (
                "on, unknown",
                "HVO is built in; tails share one read-only frame per zone (7.1+ encoding); "
                "there are no hugetlb pages.",
            ),
            (
                "error",
                "HVO is on; tails share one read-only frame per zone (7.1+ encoding); "
                "1 of 1 2 MiB pages optimized; 24 KiB saved net; "
                "the vmemmap is not intact: 1 error found.",
            ),
            ("own view", "HVO is off; what it really saves cannot be seen from here."),
            (
                "own view, unknown",
                "Whether this kernel has HVO is not known; "
                "what it really saves cannot be seen from here.",
            ),
        ],
    )
    def test_of_a_situation(self, name: str, sentence: str) -> None:
        assert verdict(situation(name)) == sentence

    def test_own_view_of_a_kernel_where_it_is_on(self) -> None:
        assert verdict(own(view(enabled=True, shared=False))) == (
            "HVO is on; tails share their head's frame (fake heads, up to Linux 7.0); "
            "what it really saves cannot be seen from here."
        )

    def test_warnings_leave_the_vmemmap_intact(self) -> None:
        assert "intact" not in verdict(situation("warning"))

    def test_errors_are_counted_with_those_that_are_not_listed_and_warnings_are_not(self) -> None:
        result = situation("error")
        result["findings_count"] = {"error": 1234, "warning": 99}
        assert verdict(result).endswith("not intact: 1,234 errors found.")

    def test_splits_can_cost_more_than_is_saved(self) -> None:
        result = situation("mask")
        result["vmemmap"]["net_saved_bytes"] = -8192
        assert "; split page tables cost 8 KiB more than is saved;" in verdict(result)
        result["vmemmap"]["net_saved_bytes"] = 0
        assert "; 0 B saved net;" in verdict(result)
