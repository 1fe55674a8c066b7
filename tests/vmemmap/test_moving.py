"""A live machine: no mixture of two sound states is a finding, nor is what is half done.

Time is what is read, a tick a page, and a pause lasts until the machine is where it was before: so
each look at all of it may show the very same mixture. Only looks at a place that are not far apart
tell what is there.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest

from hvoinspect.target.layout import VMEMMAP_PAGE, Counters, Kernel, Sections, TailFrames
from hvoinspect.target.memory import ByRanges
from hvoinspect.vmemmap.pages import PageClass
from hvoinspect.vmemmap.scan import scan
from tests.madeup import (
    ARENA,
    OPTIMIZED,
    ORDER_2M,
    PAGE_TYPE,
    PGTY_BUDDY,
    PGTY_HUGETLB,
    PRIVATE,
    SECTION_PAGES,
    TAILS,
    Machine,
    Tail,
)

HUGE = 5 << ORDER_2M
SECTIONS = (0, 1, 8)
"""The last has the frames of the machine itself, those behind its vmemmap among them."""
PACES = (60, 90, 140, 440, 500, 1280)
"""Ticks between two changes. A look at all takes some 1,600; one at a hugepage, less than the
fewest of these."""

Change = Callable[[Machine], None]


@dataclass
class Alternating(ByRanges):
    """The memory of a machine that is in one of two states, and changes every `pace` ticks."""

    states: tuple[Machine, Machine]
    pace: int
    clock: int = 0

    def __post_init__(self) -> None:
        # What only one of them has allocated is there in both.
        for machine in self.states:
            machine.allocate(max(state.used for state in self.states) - machine.used)

    @property
    def now(self) -> Machine:
        return self.states[self.clock // self.pace % 2]

    def read(self, address: int, size: int) -> bytes:
        machine = self.now
        self.clock += -(-size // VMEMMAP_PAGE)
        return machine.read(address, size)

    def counters(self) -> Counters:
        counters = replace(self.now.counters(), allocated=self.clock // self.pace)
        self.clock += 1
        return counters

    def tail_frames(self) -> TailFrames:
        return self.now.kernel().tail_frames()

    def sleep(self, _seconds: float) -> None:
        self.clock = -(-self.clock // (2 * self.pace)) * 2 * self.pace

    def kernel(self) -> Kernel:
        return replace(
            self.states[0].kernel(),
            memory=self,
            live=True,
            counters=self.counters,
            tail_frames=self.tail_frames,
        )


def a_pool(tail: Tail, *, live: bool = False) -> Machine:
    """A machine with two hugepages, whose vmemmap is split around them."""
    machine = Machine(SECTIONS, tail=tail, live=live)
    for place in (1, 2):
        machine.hugetlb(HUGE + (place << ORDER_2M), free=place == 1)
    return machine


def no_more(_machine: Machine) -> None:
    """The pool as it is."""


def one_more(machine: Machine) -> None:
    machine.hugetlb(HUGE, free=True)


def elsewhere(machine: Machine) -> None:
    """As many, but not the same: one was freed and another allocated, or one was migrated."""
    machine.hugetlb(SECTION_PAGES + HUGE, free=True)


def not_optimized(machine: Machine) -> None:
    machine.hugetlb(HUGE, hvo=False, free=True)


def optimized(machine: Machine) -> None:
    """The same hugepage, and the page allocator has the frames that were behind its tails."""
    before = len(machine.freed)
    machine.hugetlb(HUGE, free=True)
    for frame in machine.freed[before:]:
        machine.set_word((ARENA >> 12) + frame, PAGE_TYPE, PGTY_BUDDY << 24)
        machine.set_word((ARENA >> 12) + frame, PRIVATE, 0)


def slab(machine: Machine) -> None:
    """A compound page in two vmemmap pages, which may be read at different times."""
    machine.slab(HUGE, 7)


STATES = [
    (no_more, one_more),
    (one_more, no_more),
    (one_more, elsewhere),
    (not_optimized, optimized),
    (optimized, not_optimized),
    (no_more, slab),
]


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("states", STATES, ids=lambda pair: "-or-".join(s.__name__ for s in pair))
def test_a_mixture_of_two_sound_states_is_no_finding(
    tail: Tail, states: tuple[Change, Change], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {}
    for pace in PACES:
        both = a_pool(tail), a_pool(tail)
        for machine, change in zip(both, states, strict=True):
            change(machine)
        moving = Alternating(both, pace)
        monkeypatch.setattr(time, "sleep", moving.sleep)
        found[pace] = {finding.rule for finding in scan(moving.kernel()).findings}
    assert {pace: rules for pace, rules in found.items() if rules} == {}


@pytest.mark.parametrize("tail", TAILS)
def test_a_hugepage_that_is_being_made_is_no_finding(tail: Tail) -> None:
    """Frozen, and in no list: the kernel alone has it, and may keep it so for a long time.

    A pool that grows by many pages is allocated, and then optimized, before any of it is counted
    (mm/hugetlb.c, `alloc_pool_huge_folio()` and `prep_and_add_allocated_folios()`, since 6.8). The
    flag is set first, and the frame for the head is allocated then, which may have to wait for
    memory (`__hugetlb_vmemmap_optimize_folio()`). The same goes for one that is being dissolved.
    """
    machine = a_pool(tail, live=True)
    machine.compound(HUGE, ORDER_2M)
    machine.set_word(HUGE, PAGE_TYPE, PGTY_HUGETLB << 24 | 0xFFFFFF)
    machine.set_word(HUGE, PRIVATE, OPTIMIZED)
    assert scan(machine.kernel()).findings == ()


@pytest.mark.parametrize("tail", TAILS)
def test_one_that_is_used_or_in_the_pool_is_judged_however_it_came_to_be(tail: Tail) -> None:
    machine = a_pool(tail, live=True)
    for number, free in enumerate((True, False)):
        pfn = HUGE + (3 + number << ORDER_2M)
        machine.hugetlb(pfn, hvo=False, free=free)
        machine.set_word(pfn, PRIVATE, (machine.word(pfn, PRIVATE) or 0) | OPTIMIZED)
    found = [(finding.rule, finding.pfn) for finding in scan(machine.kernel()).findings]
    rule = "flag-agrees-with-page-tables"
    assert found == [(rule, HUGE + (3 << ORDER_2M)), (rule, HUGE + (4 << ORDER_2M))]


class Pulled(Machine):
    """Memory that is taken out while it is scanned: its page table is used for something else."""

    victim = 0
    table: int | None = None

    def read(self, address: int, size: int) -> bytes:
        first = (address - ARENA) >> 12
        if self.table is None and first <= self.victim < first + -(-size // VMEMMAP_PAGE):
            address_of_map = self.address_of(SECTION_PAGES)
            self.table, index = self._table_for(address_of_map, 1)
            self.frames[self.table, index] = 0
            self.sections = (0,)
            junk = np.random.default_rng(0).integers(0, 1 << 40, 512, np.uint64)
            self.frames[self.victim] = junk | np.uint64(1)
        return super().read(address, size)


@pytest.mark.parametrize("tail", TAILS)
def test_memory_that_is_taken_out_meanwhile_is_not_there_and_nothing_else(tail: Tail) -> None:
    """mm/memory_hotplug.c, `arch_remove_memory()`: x86 clears the entry and frees the table."""
    machine = Pulled((0, 1), tail=tail, live=True, base_pages=frozenset({1}))
    machine.victim = machine.entry(SECTION_PAGES)[0]
    result = scan(machine.kernel())
    assert machine.table is not None
    assert result.findings == ()
    assert result.classes[PageClass.UNREADABLE] == 0
    assert result.total == SECTION_PAGES


@pytest.mark.parametrize("tail", TAILS)
def test_memory_that_was_plugged_in_since_the_kernel_was_opened_is_scanned(tail: Tail) -> None:
    """Its hugepages are in the kernel's counters: without it, they would be missed."""
    machine = Machine((0, 1), tail=tail, live=True)
    machine.hugetlb(SECTION_PAGES + HUGE, free=True)
    now = machine.kernel()
    before = Sections(SECTION_PAGES, np.zeros(1, np.uint64), np.ones(1, np.bool_))
    opened = replace(now, sections=before, sections_now=lambda: now.sections)
    result = scan(opened)
    assert result.findings == ()
    assert result.total == 2 * SECTION_PAGES
