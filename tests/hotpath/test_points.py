"""What is probed, and what a hit there counts for."""

from __future__ import annotations

from pathlib import Path

import pytest

from hvoinspect.hotpath.callers import Caller, read_callers
from hvoinspect.hotpath.files import Functions, read_functions
from hvoinspect.hotpath.points import (
    counts_of_hits,
    counts_of_samples,
    points_of_callers,
    points_of_sites,
    ranges_of_callers,
    ranges_of_sites,
    samples_inside,
)
from hvoinspect.hotpath.run import Count
from hvoinspect.hotpath.sitesfile import Copy, Sites
from tests.hotpath.kernel import BASE, make_kernel

LINKED = 0xFFFFFFFF80200000
"""Where the made-up kernel was linked; it runs elsewhere."""


def copy(helper: str, function: str, offset: int, *ranges: tuple[int, int]) -> Copy:
    pieces = tuple((LINKED + start, size) for start, size in ranges or ((offset, 8),))
    size = sum(length for _, length in pieces)
    return Copy(helper, function, LINKED + offset, size, 1, pieces, in_loop=False)


def sites(*copies: Copy) -> Sites:
    return Sites("ab", "made-up", LINKED, copies)


@pytest.fixture
def functions(tmp_path: Path) -> Functions:
    return read_functions(make_kernel(tmp_path))


class TestSites:
    def test_addresses_are_shifted_by_where_stext_is(self, functions: Functions) -> None:
        points = points_of_sites(sites(copy("h", "first", 0x20)), functions)
        assert list(points.keys) == [BASE + 0x20]

    def test_copies_that_begin_at_one_address_share_its_hits(self, functions: Functions) -> None:
        """One inlined into the other: both ran."""
        points = points_of_sites(
            sites(copy("inner", "first", 0x20), copy("outer", "first", 0x20)), functions
        )
        assert points.total == points.attached({BASE + 0x20: 7}) == 2
        assert counts_of_hits(points, {BASE + 0x20: 7}) == (
            Count("first", "inner", 1, 7),
            Count("first", "outer", 1, 7),
        )

    def test_the_copies_of_a_function_add_up_and_the_hottest_comes_first(
        self, functions: Functions
    ) -> None:
        points = points_of_sites(
            sites(*(copy("h", name, at) for name, at in (("a", 1), ("b", 2), ("b", 3)))), functions
        )
        hits = {BASE + 1: 5, BASE + 2: 4, BASE + 3: 3}
        assert counts_of_hits(points, hits) == (Count("b", "h", 2, 7), Count("a", "h", 1, 5))

    def test_what_was_not_attached_is_no_site(self, functions: Functions) -> None:
        points = points_of_sites(sites(copy("h", "a", 1), copy("h", "a", 2)), functions)
        assert counts_of_hits(points, {BASE + 1: 5}) == (Count("a", "h", 1, 5),)
        assert (points.total, points.attached({BASE + 1: 5})) == (2, 1)


class TestCallers:
    CALLERS = (Caller("twice", 3, True), Caller("first", 1, False), Caller("gone", 1, False))

    def test_functions_that_this_kernel_lacks_are_named(self, functions: Functions) -> None:
        points = points_of_callers(self.CALLERS, functions)
        assert list(points.absent) == [("gone", "")]
        assert points.total == 4
        assert points.loops == ("twice",)

    def test_functions_of_one_name_add_up(self, functions: Functions) -> None:
        points = points_of_callers(self.CALLERS, functions)
        hits = {BASE + 0x10: 1, BASE + 0x100: 20, BASE + 0x200: 300}
        assert counts_of_hits(points, hits) == (
            Count("twice", "", 2, 320),
            Count("first", "", 1, 1),
        )

    @pytest.mark.parametrize("kind", ["pointer", "mask"])
    def test_the_table_has_the_callers_of_either_encoding(self, kind: str) -> None:
        callers = {caller.function: caller for caller in read_callers(kind)}
        zap = {"pointer": "unmap_page_range", "mask": "__zap_vma_range"}
        assert zap[kind] in callers
        assert not set(zap.values()) <= set(callers)
        assert len(callers) > 300
        assert all(caller.copies for caller in callers.values())

    def test_without_an_encoding_it_has_all(self) -> None:
        every = {caller.function for caller in read_callers(None)}
        parts = [{c.function for c in read_callers(kind)} for kind in ("pointer", "mask")]
        assert every == parts[0] | parts[1]


class TestSamples:
    def test_a_sample_counts_once_for_each_copy_it_lies_in(self, functions: Functions) -> None:
        ranges = ranges_of_sites(
            sites(
                copy("outer", "first", 0x20, (0x20, 16), (0x80, 4)),
                copy("inner", "first", 0x28, (0x28, 4)),
            ),
            functions,
        )
        samples = {BASE + 0x20: 1, BASE + 0x2B: 10, BASE + 0x2C: 100, BASE + 0x83: 1000}
        assert counts_of_samples(ranges, samples) == (
            Count("first", "outer", 1, 1111),
            Count("first", "inner", 1, 10),
        )
        assert samples_inside(ranges, samples) == 1111

    def test_the_end_of_a_range_is_outside(self, functions: Functions) -> None:
        ranges = ranges_of_sites(sites(copy("h", "first", 0x20, (0x20, 16))), functions)
        samples = {BASE + 0x1F: 1, BASE + 0x30: 1}
        assert counts_of_samples(ranges, samples) == (Count("first", "h", 1, 0),)

    def test_without_sites_the_callers_whole_code_counts(self, functions: Functions) -> None:
        ranges = ranges_of_callers((Caller("first", 1, False),), functions)
        assert counts_of_samples(ranges, {BASE + 0xFF: 3, BASE + 0x100: 5}) == (
            Count("first", "", 1, 3),
        )
