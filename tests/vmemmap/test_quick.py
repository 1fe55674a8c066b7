"""The quick look gives what the detailed look gives, or gives up: on any machine, in any state."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvoinspect.vmemmap.chunks import chunk_starts, map_chunk
from hvoinspect.vmemmap.detail import detailed_look
from hvoinspect.vmemmap.pagetable import walk_directory
from hvoinspect.vmemmap.part import Part
from hvoinspect.vmemmap.quick import can_be_quick, quick_look
from hvoinspect.vmemmap.scan import scan
from tests.madeup import (
    COMPOUND,
    ORDER_1G,
    ORDER_2M,
    PAGE_TYPE,
    PGTY_BUDDY,
    PRIVATE,
    SECTION_PAGES,
    TAILS,
    WRITABLE,
    Machine,
    Tail,
)


def looks(machine: Machine, start: int, *, exhaustive: bool) -> tuple[Part | None, Part]:
    """The chunk at `start`, looked at quickly and in detail."""
    kernel = machine.kernel()
    directory = walk_directory(machine, kernel.paging, kernel.vmemmap, kernel.vmemmap_end)
    mapped = map_chunk(kernel, directory, start)
    quick = quick_look(kernel, mapped, start, exhaustive=exhaustive)
    return quick, detailed_look(kernel, mapped, start)


def differences(one: Any, other: Any, name: str = "") -> list[str]:
    """Where two values of arrays and numbers differ."""
    if is_dataclass(one) and not isinstance(one, type):
        return [
            difference
            for field in fields(one)
            for difference in differences(
                getattr(one, field.name), getattr(other, field.name), f"{name}.{field.name}"
            )
        ]
    return [] if np.array_equal(one, other) else [f"{name}: {one} is not {other}"]


def free_block(machine: Machine, pfn: int, order: int) -> None:
    """`__free_one_page()`: the mark and the order, in the first page."""
    machine.set_word(pfn, PAGE_TYPE, PGTY_BUDDY << 24 | 0xFF_FFFF)
    machine.set_word(pfn, PRIVATE, order)


bits = st.integers(0, 63)


@st.composite
def machines(draw: st.DrawFn) -> Machine:
    """Machines whose memory holds compound pages of all orders, hugepages and free blocks."""
    sections = draw(st.sets(st.integers(0, 40), min_size=1, max_size=4))
    machine = Machine(
        tuple(sorted(sections)),
        tail=draw(st.sampled_from(TAILS)),
        page_size=draw(st.sampled_from([64, 128])),
        levels=draw(st.sampled_from([4, 5])),
        offline=frozenset(draw(st.sets(st.integers(0, 40), max_size=2))),
        base_pages=frozenset(draw(st.sets(st.sampled_from(sorted(sections)), max_size=1))),
    )
    for section in sections:
        for slot in draw(st.sets(st.integers(0, 31), max_size=6)):
            pfn = section * SECTION_PAGES + (slot << 10)
            what = draw(st.sampled_from(["hvo", "plain", "thp", "free", "small", "tiny"]))
            if what in ("hvo", "plain"):
                machine.hugetlb(pfn, hvo=what == "hvo", free=draw(st.booleans()))
            elif what == "thp":
                machine.compound(pfn, ORDER_2M)
            elif what == "free":
                free_block(machine, pfn, draw(st.integers(0, 10)))
            else:
                at = pfn
                for order in draw(st.lists(st.integers(0, 8), max_size=6)):
                    at = (
                        -(-at >> order << order)
                        if at % (1 << order) == 0
                        else at + (-at % (1 << order))
                    )
                    if at + (1 << order) > pfn + 1024:
                        break
                    if order:
                        machine.slab(at, order)
                    at += 1 << order
    return machine


@settings(max_examples=60, deadline=None)
@given(machine=machines(), lost=st.sets(st.integers(0, 3000), max_size=5), data=st.data())
def test_what_is_quick_is_right(machine: Machine, lost: set[int], data: st.DataObject) -> None:
    """With frames that cannot be read, and with one word or entry of the memory changed."""
    if data.draw(st.booleans(), label="corrupt"):
        section = data.draw(st.sampled_from(machine.sections))
        pfn = section * SECTION_PAGES + data.draw(st.integers(0, SECTION_PAGES - 1))
        offset = data.draw(st.sampled_from([0, COMPOUND, PRIVATE, PAGE_TYPE]))
        machine.set_word(pfn, offset, (machine.word(pfn, offset) or 0) ^ 1 << data.draw(bits))
    machine.unreadable |= {frame for frame in lost if frame > 8}
    assert can_be_quick(machine.kernel())
    for start in chunk_starts(machine.kernel()):
        quick, detailed = looks(machine, start, exhaustive=True)
        if quick is not None:
            assert differences(quick, detailed) == []


@settings(max_examples=40, deadline=None)
@given(machine=machines())
def test_what_is_regular_is_quick(machine: Machine) -> None:
    """And comes to the same whether all is read, or what heads and free blocks cover is inferred.

    Free blocks inside of compound pages cannot be, and none is made here.
    """
    for start in chunk_starts(machine.kernel()):
        every, detailed = looks(machine, start, exhaustive=True)
        some, _ = looks(machine, start, exhaustive=False)
        assert every is not None
        assert some is not None
        assert differences(every, detailed) == []
        apart = differences(some, every)
        assert [where for where in apart if not where.startswith(".inferred")] == []


@pytest.mark.parametrize("tail", TAILS)
def test_a_hugepage_without_hvo_is_inferred_from_its_first_vmemmap_page(tail: Tail) -> None:
    machine = Machine((0,), tail=tail)
    machine.hugetlb(512, hvo=False)
    free_block(machine, 1024, 10)
    result, every = scan(machine.kernel()), scan(machine.kernel(), exhaustive=True)
    assert (result.covered, every.covered) == (7 * 64 + 14 * 64, 0)
    assert result.read + result.covered == result.total == every.read
    assert result.classes == every.classes
    assert result.savings.potential == every.savings.potential == 7


@pytest.mark.parametrize("tail", TAILS)
def test_hvo_is_read_whole_by_reading_each_frame_once(tail: Tail) -> None:
    machine = Machine(tuple(range(8)), tail=tail)
    machine.hugetlb(0, ORDER_1G)
    result = scan(machine.kernel())
    assert (result.covered, result.read) == (0, result.total)


def test_what_contradicts_itself_is_looked_at_in_detail() -> None:
    """A compound page inside of another, as a live kernel may show in a moment of change."""
    machine = Machine((0,))
    machine.compound(1024, 10)
    machine.compound(1536, ORDER_2M)
    quick, _ = looks(machine, 0, exhaustive=False)
    assert quick is None


@pytest.mark.parametrize(("size", "quick"), [(64, True), (128, True), (56, False), (80, False)])
def test_only_struct_pages_that_fill_frames_evenly_can_be_quick(size: int, quick: bool) -> None:
    assert can_be_quick(Machine((0,), tail="pointer", page_size=size).kernel()) is quick


@pytest.mark.parametrize("tail", TAILS)
def test_odd_mappings_need_no_detail(tail: Tail) -> None:
    """What only page tables show is in the records, whichever look made them."""
    machine = Machine((0,), tail=tail)
    machine.hugetlb(512)
    table, index = machine.entry(512)
    machine.frames[table, index + 3] |= np.uint64(WRITABLE)
    quick, detailed = looks(machine, 0, exhaustive=False)
    assert quick is not None
    assert differences(quick.hugepages, detailed.hugepages) == []
