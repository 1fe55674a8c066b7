"""One struct page explained: as the kernel's rules have it, on made-up machines."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvoinspect.errors import HvoinspectError
from hvoinspect.vmemmap.explain import Explanation, Zone, explain
from hvoinspect.vmemmap.pages import PageClass
from tests.madeup import (
    ARENA,
    COMPOUND,
    OPTIMIZED,
    ORDER_1G,
    ORDER_2M,
    PRIVATE,
    SECTION_PAGES,
    TAILS,
    WRITABLE,
    Machine,
    Tail,
)
from tests.model import class_of, compound_head
from tests.vmemmap.test_pages import CLASS_NAMES, machines

HUGE = 5 << ORDER_2M


@settings(max_examples=60, deadline=None)
@given(made=machines(), data=st.data())
def test_class_and_head_of_any_page_are_the_kernels(
    made: tuple[Machine, list[int]], data: st.DataObject
) -> None:
    machine, looked_at = made
    kernel = machine.kernel()
    pfns = [pfn for pfn in looked_at if pfn // SECTION_PAGES in machine.sections]
    for pfn in data.draw(st.lists(st.sampled_from(pfns), min_size=1, max_size=40)):
        found = explain(kernel, pfn)
        assert found.resolved.kind == CLASS_NAMES[class_of(machine, pfn)]
        assert found.resolved.head == compound_head(machine, pfn)
        assert (found.problem, found.missing) == (None, None)
        backing = found.backing
        frame = machine.frame_of(found.address)
        assert frame is not None
        assert backing.frame == frame + (ARENA >> 12)
        assert 1 <= backing.shared_by <= backing.looked_at


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("order", [ORDER_2M, ORDER_1G])
def test_every_vmemmap_page_of_an_optimized_hugepage(tail: Tail, order: int) -> None:
    machine = Machine(tuple(range(16)), tail=tail)
    head = 1 << order
    machine.hugetlb(head, order, free=True)
    machine.hugetlb(0, order)
    kernel = machine.kernel()
    pages = (1 << order) // 64
    for index in sorted({0, 1, 63, 64, 65, 77, (1 << order) - 64, (1 << order) - 1}):
        found = explain(kernel, head + index)
        assert found.hugepage is not None
        assert found.resolved.head == found.hugepage.pfn == head
        assert found.order == found.hugepage.order == order
        assert (found.hugepage.free, found.hugepage.flagged) == (True, True)
        assert found.hugepage.optimized is True
        assert found.hugepage.zone == Zone(0, 1)
        assert found.hugepage.frames == (2 if tail == "mask" else 1)
        in_head_page = index < 64
        backing = found.backing
        assert backing.writable is in_head_page
        assert backing.looked_at == pages
        if tail == "pointer":
            assert (backing.shared_by, backing.tail_of) == (pages, None)
        elif in_head_page:
            assert (backing.shared_by, backing.tail_of) == (1, None)
        else:
            assert (backing.shared_by, backing.tail_of) == (pages - 1, Zone(0, 1))


@pytest.mark.parametrize("tail", TAILS)
def test_a_hugepage_without_hvo(tail: Tail) -> None:
    machine = Machine((0,), tail=tail)
    machine.hugetlb(HUGE, hvo=False)
    found = explain(machine.kernel(), HUGE + 100)
    assert found.hugepage is not None
    assert (found.hugepage.optimized, found.hugepage.flagged) == (False, False)
    assert (found.hugepage.frames, found.hugepage.free) == (8, False)
    assert (found.backing.shared_by, found.backing.looked_at) == (1, 8)
    assert found.backing.large


def test_pages_that_are_no_hugepages() -> None:
    machine = Machine((0,))
    machine.slab(64, 3)
    machine.compound(512, ORDER_2M)  # as a transparent hugepage: no mark of hugetlb
    kernel = machine.kernel()
    for pfn, kind, order in (
        (3, PageClass.SINGLE, 0),
        (64, PageClass.HEAD, 3),
        (67, PageClass.TAIL, 3),
        (700, PageClass.TAIL, 9),
    ):
        found = explain(kernel, pfn)
        assert (found.resolved.kind, found.order, found.hugepage) == (kind, order, None)
        assert (found.backing.shared_by, found.backing.looked_at) == (1, 512)


def steps(machine: Machine, pfn: int) -> list[str]:
    return list(explain(machine.kernel(), pfn).resolved.steps)


def test_steps_from_a_tail_that_holds_a_mask() -> None:
    machine = Machine((0,), tail="mask")
    machine.hugetlb(HUGE)
    assert steps(machine, HUGE + 77) == [
        "page is 0xffffea0000029340, the struct page of pfn 0xa4d: page->compound_info is "
        "0xffffffffffff8001, page->flags is 0x8000000000000.",
        "Bit 0 of compound_info is set: a tail, and the word is the mask that leads to the head. "
        "Its low 15 bits are clear (bit 0 aside), 6 of them for the 64 bytes of a struct page: "
        "order 9.",
        "head = page & compound_info = 0xffffea0000029340 & 0xffffffffffff8001 = "
        "0xffffea0000028000.",
        "That is the struct page of pfn 0xa00.",
    ]
    assert steps(machine, HUGE)[1:] == [
        "Bit 0 of compound_info is clear: not a tail, so the head is page itself."
    ]


def test_steps_from_a_tail_that_holds_a_pointer() -> None:
    machine = Machine((0,), tail="pointer")
    machine.hugetlb(HUGE)
    assert steps(machine, HUGE + 77) == [
        "page is 0xffffea0000029340, the struct page of pfn 0xa4d: page->compound_head is "
        "0xffffea0000028001, page->flags is 0x8000000000000.",
        "Bit 0 of compound_head is set: a tail, and the other bits are the address of the head.",
        "head = compound_head - 1 = 0xffffea0000028001 - 1 = 0xffffea0000028000.",
        "That is the struct page of pfn 0xa00.",
    ]


def test_steps_from_a_fake_head_and_from_the_real_one() -> None:
    machine = Machine((0,), tail="pointer", key=97)
    machine.hugetlb(HUGE)
    fake = steps(machine, HUGE + 128)
    assert fake == [
        "page is 0xffffea000002a000, the struct page of pfn 0xa80: page->compound_head is 0x0, "
        "page->flags is 0x8000000000040.",
        "Bit 0 of compound_head is clear: not an ordinary tail.",
        "The static key hugetlb_optimize_vmemmap_key is on (its count is 97): there may be fake "
        "heads.",
        "page is aligned to 4096 bytes and PG_head (0x40) is set in page->flags: a head, real or "
        "fake, which page[1] tells.",
        "page[1].compound_head is 0xffffea0000028001: bit 0 is set, so head = "
        "0xffffea0000028001 - 1 = 0xffffea0000028000.",
        "That is another page, pfn 0xa00: page is a fake head. The frame that it reads is that of "
        "the real head, so it looks the same.",
    ]
    real = steps(machine, HUGE)
    assert real[1:-1] == fake[1:-1]
    assert real[-1] == "That is page itself: a real head."


@pytest.mark.parametrize(
    ("pfn", "end"),
    [
        (129, "page is not aligned to 4096 bytes, so it cannot be one: the head is page itself."),
        (128, "PG_head (0x40) is clear in page->flags: no head of any kind, so the head is page "),
        (192, "page[1].compound_head is 0x0: bit 0 is clear, so the head is page itself."),
    ],
)
def test_steps_from_pages_that_are_no_fake_heads(pfn: int, end: str) -> None:
    machine = Machine((0,), tail="pointer")
    machine.set_word(192, 0, 0x40)
    found = explain(machine.kernel(), pfn)
    assert found.resolved.head == pfn
    assert end in found.resolved.steps[-1]


def test_the_static_key_decides_as_it_does_in_the_kernel() -> None:
    machine = Machine((0,), tail="pointer", key=0)
    machine.hugetlb(HUGE)
    off = explain(machine.kernel(), HUGE + 64).resolved
    assert (off.kind, off.head) == (PageClass.HEAD, HUGE + 64)
    assert "hugetlb_optimize_vmemmap_key is off" in off.steps[-1]
    machine.key = None
    unknown = explain(machine.kernel(), HUGE + 64).resolved
    assert (unknown.kind, unknown.head) == (PageClass.FAKE_HEAD, HUGE)
    assert "not known here" in unknown.steps[2]
    kernel = machine.kernel()
    without = replace(kernel, hvo=replace(kernel.hvo, supported=False))
    assert "has no fake heads" in explain(without, 3).resolved.steps[-1]


def problem_of(machine: Machine, pfn: int) -> Explanation:
    found = explain(machine.kernel(), pfn)
    assert found.problem is not None
    return found


@pytest.mark.parametrize("tail", TAILS)
def test_what_is_not_intact_says_so(tail: Tail) -> None:
    machine = Machine((0,), tail=tail)
    machine.slab(64, 3)
    machine.set_word(66, COMPOUND, 0x1235)
    machine.set_word(67, COMPOUND, machine.address_of(80) | 1)
    machine.set_word(69, COMPOUND, machine.address_of(96) | 1)
    machine.compound(96, 2)
    undecodable = problem_of(machine, 66)
    assert (undecodable.resolved.head, undecodable.order) == (None, None)
    assert "there is no head to be found" in undecodable.resolved.steps[-1]
    assert problem_of(machine, 67).problem == "pfn 0x50, to which it leads, is not a head"
    assert "order 2 does not include it" in (problem_of(machine, 69).problem or "")


def test_the_flag_and_the_page_tables_are_told_apart() -> None:
    machine = Machine((0,))
    machine.hugetlb(HUGE, hvo=False)
    machine.set_word(HUGE, PRIVATE, OPTIMIZED)
    hugepage = explain(machine.kernel(), HUGE).hugepage
    assert hugepage is not None
    assert (hugepage.flagged, hugepage.optimized) == (True, False)


def test_a_writable_tail_is_told() -> None:
    """6.18 to 7.1 leave most tails of a boot-time 1 GiB page writable."""
    machine = Machine((0,))
    machine.hugetlb(HUGE)
    table, index = machine.entry(HUGE + 200)
    machine.frames[table, index] |= np.uint64(WRITABLE)
    assert explain(machine.kernel(), HUGE + 200).backing.writable
    assert not explain(machine.kernel(), HUGE + 300).backing.writable


def test_offline_memory_is_not_interpreted() -> None:
    machine = Machine((0, 1), offline=frozenset({1}))
    machine.set_word(SECTION_PAGES + 5, COMPOUND, 0xDEAD_BEEF)
    found = explain(machine.kernel(), SECTION_PAGES + 5)
    assert (found.resolved.kind, found.resolved.head) == (PageClass.SINGLE, SECTION_PAGES + 5)
    assert not found.online
    assert "offline" in found.resolved.steps[0]


def test_a_hole_is_an_error() -> None:
    machine = Machine((0,), base_pages=frozenset({0}))
    table, index = machine.entry(640)
    machine.frames[table, index] = 0
    with pytest.raises(HvoinspectError, match="nothing is mapped at 0xffffea000000a000"):
        explain(machine.kernel(), 640)


def test_what_cannot_be_read_is_an_error_or_told_as_missing() -> None:
    machine = Machine((0,), base_pages=frozenset({0}))
    machine.hugetlb(HUGE, hvo=False)
    lost = machine.frame_of(machine.address_of(HUGE))
    assert lost is not None
    machine.unreadable.add(lost)
    with pytest.raises(HvoinspectError, match=r"cannot be read: frame 0x\w+ is missing"):
        explain(machine.kernel(), HUGE)
    tail = explain(machine.kernel(), HUGE + 100)
    assert (tail.resolved.head, tail.order, tail.hugepage) == (HUGE, None, None)
    assert "is missing" in (tail.missing or "")
    table, _ = machine.entry(0)
    machine.unreadable.add(table)
    with pytest.raises(HvoinspectError, match="a page table is missing"):
        explain(machine.kernel(), 3)


class Counting(Machine):
    """Counts the bytes that are read."""

    count = 0

    def read(self, address: int, size: int) -> bytes:
        self.count += size
        return super().read(address, size)


def test_little_is_read() -> None:
    """Page tables and some words: not the 16 MiB of struct pages of the hugepage."""
    machine = Counting(tuple(range(9)))
    machine.hugetlb(0, ORDER_1G)
    kernel = machine.kernel()
    machine.count = 0
    explain(kernel, 100_000)
    assert machine.count < 128 << 10


class Healing(Machine):
    """A live machine whose tail becomes right after it has been looked at."""

    mend_after = 40

    def read(self, address: int, size: int) -> bytes:
        data = super().read(address, size)
        self.mend_after -= 1
        if self.mend_after == 0:
            self.set_word(66, COMPOUND, self.word(67, COMPOUND) or 0)
        return data


def test_on_a_live_kernel_what_looks_wrong_is_read_again() -> None:
    machine = Healing((0,), live=True)
    machine.slab(64, 3)
    machine.set_word(66, COMPOUND, 0x1235)
    machine.mend_after = 10
    assert explain(machine.kernel(), 66).problem is None
