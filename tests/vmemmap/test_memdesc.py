"""The rule about memdescs against a slow model of it, struct page by struct page."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvoinspect.vmemmap import descriptors
from hvoinspect.vmemmap.memdesc import DAMAGE, FALSE_TAILS, MISSED_TAILS, MODELS, Model, Verdict
from hvoinspect.vmemmap.pages import Encoding
from hvoinspect.vmemmap.survey import survey
from tests.madeup import (
    ARENA,
    COMPOUND,
    MAPPING,
    ORDER_1G,
    ORDER_2M,
    PAGE_TYPE,
    PG_HEAD,
    PG_SLAB,
    PGTY_BUDDY,
    PGTY_HUGETLB,
    PGTY_TABLE,
    PRIVATE,
    SECTION_PAGES,
    TAILS,
    Machine,
    Tail,
)
from tests.model import class_of, compound_head
from tests.vmemmap.test_quick import free_block

USED = 1024
"""Struct pages of each section in which a made-up machine holds anything but singles."""
SIZES = [64, 128, 56]
every_model = pytest.mark.parametrize("model", MODELS.values(), ids=lambda model: model.name)


class Slow:
    """What each struct page is and holds, in plain integers, one at a time."""

    def __init__(self, machine: Machine, model: Model) -> None:
        self.machine, self.model = machine, model
        self.pfns = [
            section * SECTION_PAGES + at for section in machine.sections for at in range(USED)
        ]
        self.kinds = {pfn: self._class(pfn) for pfn in self.pfns}
        self.blocks: list[tuple[int, int]] = []
        for pfn in self.pfns:
            if self.kinds[pfn] == "single" and self._type(pfn) == PGTY_BUDDY:
                order = min(machine.word(pfn, PRIVATE) or 0, 20)
                if pfn // SECTION_PAGES not in machine.offline:
                    self.blocks.append((pfn, pfn + (1 << order)))

    def _class(self, pfn: int) -> str:
        if pfn // SECTION_PAGES in self.machine.offline:
            return "single"
        return class_of(self.machine, pfn)

    def _type(self, pfn: int) -> int:
        return (self.machine.word(pfn, PAGE_TYPE) or 0) >> 24 & 0xFF

    def is_tail(self, pfn: int) -> bool:
        return self.kinds.get(pfn, "single") in ("tail", "fake_head")

    def holds(self, pfn: int) -> int | None:
        """The memdesc of a struct page, None for NULL."""
        if pfn not in self.kinds:
            return pfn
        if self.is_tail(pfn):
            head = compound_head(self.machine, pfn)
            assert head is not None
            itself = self.model.others == "itself" and self._is_unnamed(head)
            return pfn if itself else head
        offline = pfn // SECTION_PAGES in self.machine.offline
        if self.model.free != "itself" and self.kinds[pfn] == "single" and not offline:
            for start, end in self.blocks:
                if start <= pfn < end:
                    return None if self.model.free == "null" else start
        return pfn

    def _is_unnamed(self, head: int) -> bool:
        if self.kinds.get(head) != "head":
            return False
        flags, mapping = self.machine.word(head, 0) or 0, self.machine.word(head, MAPPING)
        return (
            self._type(head) not in (PGTY_HUGETLB, PGTY_TABLE)
            and not flags & PG_SLAB
            and mapping == 0
        )

    def verdict(self, pfn: int) -> Verdict:
        before = pfn - 1
        begins = before // SECTION_PAGES not in self.machine.sections
        held, held_before = self.holds(pfn), None if begins else self.holds(before)
        same, tail = held == held_before, self.is_tail(pfn)
        if same == tail:
            return Verdict.AGREES
        if tail:
            if begins:
                return Verdict.RUN_START
            itself = self.model.others == "itself" and held == pfn
            return Verdict.UNNAMED if itself else Verdict.ASTRAY
        if begins:
            return Verdict.GUARD
        return Verdict.LED_TO if held == pfn else Verdict.FREE

    def counts(self) -> Counter[Verdict]:
        """Of each Verdict how many; what is not in `pfns` is single, and agrees, but for ends."""
        pfns = {*self.pfns, *(section * SECTION_PAGES + USED for section in self.machine.sections)}
        counts = Counter(self.verdict(pfn) for pfn in pfns)
        counts[Verdict.AGREES] += len(self.machine.sections) * SECTION_PAGES - len(pfns)
        return counts


@st.composite
def machines(draw: st.DrawFn, sizes: list[int] = SIZES) -> Machine:
    """Machines with folios, hugepages, slabs, page tables, kernel memory and free memory."""
    sections = draw(st.sets(st.sampled_from([0, 1, 2, 31, 32, 40]), min_size=1, max_size=2))
    machine = Machine(
        tuple(sorted(sections)),
        tail=(tail := draw(st.sampled_from(TAILS))),
        page_size=draw(st.sampled_from(sizes if tail == "pointer" else sizes[:2])),
        offline=frozenset(draw(st.sets(st.sampled_from([0, 1, 40]), max_size=1))),
    )
    for section in sections:
        for at in range(section * SECTION_PAGES, section * SECTION_PAGES + USED, 512):
            what = draw(st.sampled_from(["nothing", "hugetlb", "folio", "free", "small", "small"]))
            if what == "hugetlb":
                hvo = machine.page_size != 56 and draw(st.booleans())
                machine.hugetlb(at, hvo=hvo, free=draw(st.booleans()))
            elif what == "folio":
                machine.compound(at, ORDER_2M)
                machine.set_word(at, MAPPING, draw(st.sampled_from([0, 0xFFFF_8880_0000_1001])))
            elif what == "free":
                free_block(machine, at, draw(st.integers(0, 9)))
            elif what == "small":
                draw(small_blocks(machine, at))
    return machine


@st.composite
def small_blocks(draw: st.DrawFn, machine: Machine, start: int) -> None:
    """Fill 512 struct pages from `start` on with blocks of up to 128, one after the other."""
    at = start
    for order in draw(st.lists(st.integers(0, 7), max_size=8)):
        at = -(-at >> order) << order
        at = -(-at // (1 << order)) * (1 << order)
        if at + (1 << order) > start + 512:
            break
        kind = draw(st.sampled_from(["slab", "table", "kernel", "folio", "free"]))
        if kind == "free":
            free_block(machine, at, order)
        elif order:
            machine.compound(at, order, flags=PG_SLAB if kind == "slab" else 0)
            if kind == "table":
                machine.set_word(at, PAGE_TYPE, PGTY_TABLE << 24)
            if kind == "folio":
                machine.set_word(at, MAPPING, 0xFFFF_8880_0000_2000)
        at += 1 << order


def found(machine: Machine, model: Model, **options: Any) -> Counter[Verdict]:
    return +Counter(dict(survey(machine.kernel(), model, **options).verdicts))


@every_model
@settings(max_examples=12, deadline=None)
@given(machine=machines())
def test_what_a_machine_holds_is_counted_exactly(model: Model, machine: Machine) -> None:
    assert found(machine, model) == +Slow(machine, model).counts()


@every_model
@settings(max_examples=12, deadline=None)
@given(machine=machines(sizes=[64, 128]), data=st.data())
def test_so_is_damage(model: Model, machine: Machine, data: st.DataObject) -> None:
    """A tail that is none, one that leads elsewhere, free memory where none is, a flag too much."""
    for _ in range(data.draw(st.integers(1, 4), label="times")):
        section = data.draw(st.sampled_from(machine.sections))
        pfn = section * SECTION_PAGES + data.draw(st.integers(0, USED - 1))
        to = section * SECTION_PAGES + data.draw(st.integers(0, USED - 1))
        what = data.draw(st.sampled_from(["no tail", "other head", "free", "head"]))
        if what == "no tail":
            machine.set_word(pfn, COMPOUND, 0)
        elif what == "other head":
            order = data.draw(st.integers(1, 10))
            shift = order + machine.page_size.bit_length() - 1
            is_mask = machine.tail == "mask"
            word = (1 << 64) - (1 << shift) if is_mask else machine.address_of(to)
            machine.set_word(pfn, COMPOUND, word | 1)
        elif what == "free":
            most = min(8, (USED - pfn % SECTION_PAGES).bit_length() - 1)
            free_block(machine, pfn, data.draw(st.integers(0, most)))
        else:
            machine.set_word(pfn, 0, (machine.word(pfn, 0) or 0) | PG_HEAD)
    assert found(machine, model) == +Slow(machine, model).counts()


@every_model
@settings(max_examples=12, deadline=None)
@given(machine=machines(sizes=[64, 128]), lost=st.sets(st.integers(9, 3000), max_size=5))
def test_it_is_the_same_by_frame_and_by_struct_page(
    model: Model, machine: Machine, lost: set[int]
) -> None:
    """With frames that cannot be read, too."""
    machine.unreadable |= lost
    with pytest.MonkeyPatch.context() as patch:
        by_frame = survey(machine.kernel(), model)
        patch.setattr(descriptors, "can_be_quick", lambda _kernel: False)
        by_struct_page = survey(machine.kernel(), model)
    assert by_frame.verdicts == by_struct_page.verdicts
    assert by_frame.offline == by_struct_page.offline
    assert by_frame.encodings == by_struct_page.encodings
    for name in ("page", "pages", "place"):
        ours, theirs = (getattr(s.runs.spans, name) for s in (by_frame, by_struct_page))
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("tail", TAILS)
@every_model
def test_what_hvo_shares_is_resolved_and_agrees(tail: Tail, model: Model) -> None:
    """Up to 7.0 the fake heads too: each leads to the head, as all of its hugepage."""
    machine = Machine(tuple(range(8)), tail=tail)
    machine.hugetlb(0, ORDER_1G)
    result = survey(machine.kernel(), model)
    assert result.judged == result.verdicts[Verdict.AGREES] == 8 * SECTION_PAGES
    assert result.encodings == {Encoding.MASK if tail == "mask" else Encoding.POINTER}


@pytest.mark.parametrize("tail", TAILS)
@every_model
def test_what_is_wrong_in_a_shared_frame_is_wrong_wherever_it_is_mapped(
    tail: Tail, model: Model
) -> None:
    """Free blocks, and heads of what is no folio, in the frame behind all tails."""
    machine = Machine((0,), tail=tail)
    machine.hugetlb(0)
    for pfn, order in ((100, 1), (104, 0)):
        machine.set_word(pfn, COMPOUND, 0)
        free_block(machine, pfn, order)
    machine.set_word(110, COMPOUND, 0)
    machine.set_word(110, 0, PG_HEAD)
    machine.set_word(110, MAPPING, 0)
    of_two = -128 if tail == "mask" else machine.address_of(110)
    machine.set_word(111, COMPOUND, of_two | 1)
    assert found(machine, model) == +Slow(machine, model).counts()


def test_a_page_that_cannot_be_read_leaves_it_and_the_next_unjudged() -> None:
    machine = Machine((0,))
    frame = machine.frame_of(machine.address_of(640))
    assert frame is not None
    machine.unreadable.add(frame)
    result = survey(machine.kernel(), MODELS["self"])
    assert result.verdicts[Verdict.UNJUDGED] == 65
    assert result.examples[Verdict.UNJUDGED] == ()


@every_model
def test_a_machine_none_of_whose_frames_can_be_read_is_unjudged(model: Model) -> None:
    machine = Machine((0,))
    first = machine.frame_of(machine.vmemmap)
    assert first is not None
    machine.unreadable |= set(range(first, first + 512))
    assert found(machine, model) == {Verdict.UNJUDGED: SECTION_PAGES}


def test_examples_are_struct_pages_of_that_verdict() -> None:
    machine = Machine((0,))
    machine.compound(512, ORDER_2M)
    machine.set_word(700, COMPOUND, 0)
    result = survey(machine.kernel(), MODELS["self"])
    # 700 is no tail any more, and agrees: but 701 leads past it.
    assert result.verdicts[Verdict.ASTRAY] == 1
    assert result.examples[Verdict.ASTRAY] == (701,)


def test_several_processes_come_to_the_same() -> None:
    machine = Machine((0, 1, 40, 41))
    machine.compound(512, ORDER_2M)
    free_block(machine, 41 * SECTION_PAGES, 9)
    one, two = (survey(machine.kernel(), MODELS["null-free"], jobs=jobs) for jobs in (1, 2))
    assert one.verdicts == two.verdicts
    assert one.examples == two.examples


def test_the_first_of_a_run_is_told_from_what_follows_a_chunk() -> None:
    """Free memory that begins a run reads as the zeros in front of it; in a chunk it does not."""
    machine = Machine((31, 32))
    free_block(machine, 31 * SECTION_PAGES, 0)
    free_block(machine, 32 * SECTION_PAGES, 0)
    result = survey(machine.kernel(), MODELS["null-free"])
    assert {v: n for v, n in result.verdicts.items() if n and v != Verdict.AGREES} == {
        Verdict.GUARD: 1
    }
    free_block(machine, 32 * SECTION_PAGES - 1, 0)
    result = survey(machine.kernel(), MODELS["null-free"])
    assert result.examples[Verdict.FREE] == (32 * SECTION_PAGES,)


def test_device_memory_is_read_though_it_is_never_online() -> None:
    machine = Machine((0, 1), device=frozenset({1}))
    machine.compound(SECTION_PAGES, ORDER_2M)
    machine.set_word(SECTION_PAGES + 9, COMPOUND, 0)
    result = survey(machine.kernel(), MODELS["self"])
    assert result.offline == 0
    assert result.examples[Verdict.ASTRAY] == (SECTION_PAGES + 10,)
    offline = Machine((0, 1), offline=frozenset({1}))
    assert survey(offline.kernel(), MODELS["self"]).offline == SECTION_PAGES


class Moving(Machine):
    """A live machine: until `settles` reads were made, the word of a tail is not there yet."""

    late: int = 0
    settles: int = 0
    reads: int = 0

    def read(self, address: int, size: int) -> bytes:
        data = bytearray(super().read(address, size))
        self.reads += 1
        if address <= self.late < address + size and self.reads < self.settles:
            data[self.late - address : self.late - address + 8] = bytes(8)
        return bytes(data)


@pytest.mark.parametrize(("settles", "damaged"), [(0, 0), (12, 0), (1 << 30, 1)])
def test_what_looks_damaged_on_a_live_kernel_is_read_again(settles: int, damaged: int) -> None:
    """A compound page that is made while it is read."""
    machine = Moving((0,), live=True)
    machine.compound(512, ORDER_2M)
    frame = machine.frame_of(machine.address_of(640))
    assert frame is not None
    machine.late, machine.settles = ARENA + (frame << 12) + COMPOUND, settles
    result = survey(machine.kernel(), MODELS["self"])
    assert sum(result.verdicts[verdict] for verdict in DAMAGE) == damaged
    assert result.unstable == (settles == 12)


def test_each_verdict_is_of_one_side() -> None:
    sides = [Verdict.UNJUDGED, Verdict.AGREES, *FALSE_TAILS, *MISSED_TAILS]
    assert sorted(sides) == list(Verdict)


def test_a_kernel_that_does_not_tell_marks_is_surveyed_without() -> None:
    machine = Machine((0,))
    machine.compound(512, 2)
    kernel = replace(machine.kernel(), descriptors=type(machine.kernel().descriptors()))
    assert survey(kernel, MODELS["slab-table"]).verdicts[Verdict.UNNAMED] == 3
