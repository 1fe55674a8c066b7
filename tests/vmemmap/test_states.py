"""States of a vmemmap that look odd and are not wrong: nothing is reported for any of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvoinspect.target.layout import Bits, Counters, HugetlbMark, Kernel, PageField
from hvoinspect.vmemmap.scan import Scan, scan
from tests.madeup import (
    ARENA,
    COMPOUND,
    OPTIMIZED,
    ORDER_1G,
    ORDER_2M,
    PAGE_TYPE,
    PGTY_HUGETLB,
    PRIVATE,
    SECTION_PAGES,
    TAILS,
    WRITABLE,
    Machine,
    Tail,
)

HUGE, SECOND = 5 << ORDER_2M, 6 << ORDER_2M
ARENA_SECTION = (ARENA >> 12) // SECTION_PAGES
"""The section of the made-up machine's own frames."""


def give_frame(machine: Machine, pfn: int) -> None:
    """Give the vmemmap page that begins at `pfn` a frame of its own: `vmemmap_restore_pte()`."""
    address, frame = machine.address_of(pfn), machine.allocate()
    machine.frames[frame] = machine.frames[machine.frame_of(address)]
    # What was copied from the head's frame is made a tail again: `reset_struct_pages()`.
    machine._remap(address, 1, frame, WRITABLE)
    if machine.tail == "pointer":
        machine.frames[frame, :8] = machine.frames[frame, 16:24]


def look(kernel: Kernel) -> Scan:
    """Scan all of it: what a head covers is not taken for granted."""
    return scan(kernel, exhaustive=True)


def rules(result: Scan) -> list[str]:
    return [finding.rule for finding in result.findings]


@settings(max_examples=30, deadline=None)
@given(
    tail=st.sampled_from(TAILS),
    restored=st.sets(st.integers(1, 7), min_size=1, max_size=5),
    flagged=st.booleans(),
)
def test_a_partly_remapped_hugepage_is_counted_as_such(
    tail: Tail, restored: set[int], flagged: bool
) -> None:
    """Any of its tails may have frames of their own again, with the flag set or clear."""
    machine = Machine((0,), tail=tail)
    machine.hugetlb(HUGE)
    machine.hugetlb(SECOND)
    for at in restored:
        give_frame(machine, HUGE + 64 * at)
    machine.set_word(HUGE, PRIVATE, OPTIMIZED if flagged else 0)
    machine.optimized = 2
    result = look(machine.kernel())
    assert rules(result) == []
    assert result.hugepages.partly.tolist() == [True, False]
    assert result.savings.freed.tolist() == [7 - len(restored), 7]


@pytest.mark.parametrize("tail", TAILS)
def test_a_partly_remapped_gigantic_page(tail: Tail) -> None:
    machine = Machine(tuple(range(8)), tail=tail)
    machine.hugetlb(0, ORDER_1G)
    for at in (1, 2, 4095):
        give_frame(machine, 64 * at)
    result = look(machine.kernel())
    assert rules(result) == []
    assert result.hugepages.partly.tolist() == [True]
    assert result.savings.freed.tolist() == [4092]


@pytest.mark.parametrize("tail", TAILS)
def test_what_is_wrong_with_a_partly_remapped_hugepage_is_still_found(tail: Tail) -> None:
    machine = Machine((0,), tail=tail)
    machine.hugetlb(HUGE)
    give_frame(machine, HUGE + 3 * 64)
    machine.set_word(HUGE + 3 * 64 + 5, COMPOUND, machine.address_of(SECOND) | 1)
    assert rules(look(machine.kernel())) == ["tail-decodes-to-head"]


@pytest.mark.parametrize("tail", TAILS)
def test_a_hugepage_that_was_rolled_back_keeps_the_copied_head(tail: Tail) -> None:
    """All its tails have frames of their own again, and the flag is clear: it is not optimized."""
    machine = Machine((0,), tail=tail)
    machine.hugetlb(HUGE)
    for at in range(1, 8):
        give_frame(machine, HUGE + 64 * at)
    machine.set_word(HUGE, PRIVATE, 0)
    machine.optimized = 0
    result = look(machine.kernel())
    assert rules(result) == []
    assert not (result.hugepages.remapped | result.hugepages.partly).any()
    assert result.savings.freed.tolist() == [0]


@pytest.mark.parametrize("tail", TAILS)
def test_a_rollback_over_the_head_loses_the_hugepage(tail: Tail) -> None:
    """Fixes c0b495b91a47: the frame of the head was filled with tails."""
    machine = Machine((0,), tail=tail)
    machine.hugetlb(HUGE, hvo=False)
    frame = machine.frame_of(machine.address_of(HUGE))
    machine.frames[frame] = machine.frames[machine.frame_of(machine.address_of(HUGE + 64))]
    assert set(rules(look(machine.kernel()))) == {"tail-decodes-to-head", "pool-counters-agree"}


@pytest.mark.parametrize("tail", TAILS)
def test_device_dax_keeps_two_frames_and_writable_tails(tail: Tail) -> None:
    """`vmemmap_populate_compound_pages()`: from the third on, all are on the second's frame."""
    machine = Machine((0,), tail=tail, base_pages=frozenset({0}))
    for order, pfn in ((ORDER_2M, HUGE), (ORDER_2M, SECOND)):
        machine.compound(pfn, order)
        second = machine.frame_of(machine.address_of(pfn + 64))
        assert second is not None
        machine._remap(machine.address_of(pfn + 128), 6, second, WRITABLE)
    result = look(machine.kernel())
    assert rules(result) == []
    assert len(result.hugepages) == 0


@pytest.mark.parametrize("tail", TAILS)
def test_memory_that_holds_its_own_memmap(tail: Tail) -> None:
    """memmap_on_memory: the kernel never optimizes hugepages there."""
    machine = Machine((ARENA_SECTION,), tail=tail)
    start = ARENA_SECTION * SECTION_PAGES
    machine.hugetlb(start + SECOND, hvo=False)
    frame = machine.frame_of(machine.address_of(start))
    assert frame is not None
    assert start <= frame + (ARENA >> 12) < start + SECTION_PAGES
    assert rules(look(machine.kernel())) == []


def mark(machine: Machine, pfn: int) -> None:
    """Mark a head as a hugetlb page's."""
    machine.set_word(pfn, PAGE_TYPE, PGTY_HUGETLB << 24)


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize(("pfn", "order"), [(64, 3), (7424, ORDER_2M - 1), (8192, 10)])
def test_a_mark_on_what_is_no_hugepage_is_an_error(tail: Tail, pfn: int, order: int) -> None:
    """And all that is said of it: neither are its tails judged nor the kernel's counts."""
    machine = Machine((0,), tail=tail)
    machine.slab(pfn, order)
    mark(machine, pfn)
    machine.hugetlb(HUGE)
    machine.total[ORDER_2M, 0] = 2
    (finding,) = look(machine.kernel()).findings
    assert (finding.rule, finding.severity, finding.pfn) == ("mark-is-of-hugepages", "error", pfn)


def test_a_mark_that_is_a_flag_of_the_second_struct_page_may_be_a_page_that_is_split() -> None:
    """6.6 to 6.8: a warning."""
    machine = Machine((0,), tail="pointer")
    machine.slab(64, 3)
    machine.set_word(65, 0, (machine.word(65, 0) or 0) | 1 << 8)
    flag = HugetlbMark(PageField(1, 0, 8), Bits(8, 1), 1)
    kernel = machine.kernel()
    (finding,) = look(replace(kernel, page=replace(kernel.page, hugetlb=flag))).findings
    assert (finding.rule, finding.severity) == ("mark-is-of-hugepages", "warning")
    assert "split" in finding.meaning


def test_nothing_is_said_of_marks_where_the_sizes_of_hugepages_are_not_known() -> None:
    machine = Machine((0,))
    machine.hugetlb(HUGE)
    assert rules(look(replace(machine.kernel(), hstates=(), counters=Counters))) == []


def test_the_frame_for_gigantic_pages_set_up_at_boot() -> None:
    """Measured on 7.3: reference counts of 1, and lists of one that name themselves."""
    machine = Machine(tuple(range(8)))
    machine.hugetlb(0, ORDER_1G)
    for tail in range(64, 128):
        machine.set_word(tail, COMPOUND + 8, machine.address_of(SECTION_PAGES + tail) + COMPOUND)
        machine.set_word(tail, PAGE_TYPE, 1 << 32 | 0xFFFF_FFFF)
    assert rules(look(machine.kernel())) == []
    machine.set_word(70, COMPOUND + 8, machine.address_of(SECTION_PAGES + 71) + COMPOUND)
    assert rules(look(machine.kernel())) == ["zones-tail-frame"]


@pytest.mark.parametrize("page_size", [56, 80])
def test_struct_pages_that_cross_frames(page_size: int) -> None:
    """HVO cannot be had there, and tails hold pointers."""
    machine = Machine((0,), page_size=page_size)
    machine.hugetlb(HUGE, hvo=False)
    machine.slab(64, 3)
    assert rules(look(machine.kernel())) == []
    machine.set_word(66, COMPOUND, machine.address_of(HUGE) | 1)
    machine.set_word(HUGE + 300, COMPOUND, machine.address_of(64) | 1)
    assert rules(look(machine.kernel())) == ["tail-decodes-to-head"] * 2


def test_the_frame_behind_most_tails_is_the_shared_one() -> None:
    """Also where the second vmemmap page has a frame of its own, and others are wrong."""
    machine = Machine((0,))
    machine.hugetlb(HUGE)
    shared = machine.frame_of(machine.address_of(HUGE + 64))
    give_frame(machine, HUGE + 64)
    for at in (2, 3):
        machine._remap(machine.address_of(HUGE + 64 * at), 1, 0, 0)
    pages = look(machine.kernel()).hugepages
    assert pages.tail_frame.tolist() == [(ARENA >> 12) + (shared or 0)]
    assert (pages.wrong.tolist(), pages.wrong_page.tolist()) == ([2], [2])
    assert pages.wrong_frame.tolist() == [ARENA >> 12]
    assert np.array_equal(pages.strays, [3])
