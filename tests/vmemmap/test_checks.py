"""Where rules find what breaks them, when they say nothing, and that intact machines are clean.

`tests/damages/` has all that a vmemmap can suffer, and which rule finds it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvoinspect.target.layout import Counters
from hvoinspect.vmemmap.checks import RULES
from hvoinspect.vmemmap.scan import scan
from tests.madeup import (
    ARENA,
    COMPOUND,
    FREED,
    OPTIMIZED,
    ORDER_2M,
    PAGE_TYPE,
    PG_HEAD,
    PGTY_BUDDY,
    PRIVATE,
    SECTION_PAGES,
    TAILS,
    WRITABLE,
    Machine,
    Tail,
)

HUGE, SECOND, PLAIN = 5 << ORDER_2M, 6 << ORDER_2M, 7 << ORDER_2M
OFFLINE = 1
ARENA_SECTION = (ARENA >> 12) // SECTION_PAGES
"""The section of the made-up machine's own frames."""
UNTYPED = 0xFFFF_FFFF


def intact(tail: Tail) -> Machine:
    """Two optimized hugepages and one that is not, a slab; a section that is offline."""
    machine = Machine((0, OFFLINE), tail=tail, offline=frozenset({OFFLINE}))
    machine.hugetlb(HUGE)
    machine.hugetlb(SECOND)
    machine.hugetlb(PLAIN, hvo=False)
    machine.slab(64, 3)
    return machine


def found(machine: Machine, ignored: tuple[str, ...] = ()) -> list[tuple[str, str, int]]:
    findings = scan(machine.kernel(), ignored=ignored, exhaustive=True).findings
    return [(finding.rule, finding.severity, finding.pfn) for finding in findings]


def or_word(machine: Machine, pfn: int, offset: int, bits: int) -> None:
    machine.set_word(pfn, offset, (machine.word(pfn, offset) or 0) | bits)


def protect(machine: Machine, pfn: int) -> None:
    machine.split(machine.address_of(pfn) & -(1 << 21))
    table, index = machine.entry(pfn)
    machine.frames[table, index] &= ~np.uint64(WRITABLE)


def read_only_head(machine: Machine) -> None:
    protect(machine, HUGE)


def read_only_tail_of_its_own(machine: Machine) -> None:
    protect(machine, PLAIN + 3 * 64)


def head_frame_mapped_again(machine: Machine) -> None:
    """Behind offline memory, whose struct pages mean nothing."""
    address = machine.address_of(OFFLINE * SECTION_PAGES)
    machine.split(address)
    head = machine.frame_of(machine.address_of(HUGE))
    assert head is not None
    machine._remap(address, 1, head, WRITABLE)


def head_flag_in_a_tail(machine: Machine) -> None:
    or_word(machine, HUGE + 5, 0, PG_HEAD)


def head_flag_in_a_plain_tail(machine: Machine) -> None:
    or_word(machine, PLAIN + 500, 0, PG_HEAD)


def head_flag_in_the_shared_frame(machine: Machine) -> None:
    or_word(machine, HUGE + 64 + 7, 0, PG_HEAD)


def flag_without_remap(machine: Machine) -> None:
    or_word(machine, PLAIN, PRIVATE, OPTIMIZED)


def wrong_frame(machine: Machine) -> None:
    """Behind the last vmemmap page, a copy that is read-only."""
    copy = machine.allocate()
    machine.frames[copy] = machine.frames[machine.frame_of(machine.address_of(HUGE + 448))]
    machine._remap(machine.address_of(HUGE + 448), 1, copy, 0)


def two_pages_not_present(machine: Machine) -> None:
    table, index = machine.entry(HUGE + 3 * 64)
    machine.frames[table, index : index + 2] = 0


def tail_of_no_head(machine: Machine) -> None:
    machine.set_word(66, COMPOUND, machine.address_of(80) | 1)


def half_a_slab(machine: Machine) -> None:
    for pfn in range(68, 72):
        machine.set_word(pfn, COMPOUND, 0)


def mark_lost(machine: Machine) -> None:
    or_word(machine, HUGE, PAGE_TYPE, UNTYPED)


def head_flag_lost(machine: Machine) -> None:
    machine.set_word(PLAIN, 0, (machine.word(PLAIN, 0) or 0) & ~PG_HEAD)


def taken_for_free(machine: Machine) -> None:
    or_word(machine, SECOND, PRIVATE, FREED)


def counted_too_often(machine: Machine) -> None:
    machine.total[ORDER_2M, 1] = 1


def key_too_high(machine: Machine) -> None:
    machine.optimized += 1


def key_too_low(machine: Machine) -> None:
    machine.optimized = 0


BOTH = [
    (read_only_head, [("own-frames-writable", "error", HUGE)]),
    (read_only_tail_of_its_own, [("own-frames-writable", "error", PLAIN)]),
    (head_frame_mapped_again, [("head-frame-unshared", "error", HUGE)]),
    (head_flag_in_a_tail, [("no-head-flag-in-tails", "error", HUGE + 5)]),
    (head_flag_in_a_plain_tail, [("no-head-flag-in-tails", "error", PLAIN + 500)]),
    (flag_without_remap, [("flag-agrees-with-page-tables", "error", PLAIN)]),
    (wrong_frame, [("tails-share-one-frame", "error", HUGE + 448)]),
    (two_pages_not_present, [("online-memory-mapped", "error", HUGE + 3 * 64)]),
    (tail_of_no_head, [("tail-decodes-to-head", "error", 66)]),
    (half_a_slab, [("tail-decodes-to-head", "error", 68)]),
    (mark_lost, [("pool-counters-agree", "warning", SECOND)]),
    (taken_for_free, [("pool-counters-agree", "warning", HUGE)]),
    (counted_too_often, [("pool-counters-agree", "warning", 0)]),
]
MASKS = [
    (head_flag_in_the_shared_frame, [("zones-tail-frame", "error", HUGE + 64 + 7)]),
]
POINTERS = [
    (key_too_high, [("static-key-counts-optimized", "warning", 0)]),
    (key_too_low, [("static-key-counts-optimized", "warning", 0)]),
]
CASES = [
    *((tail, corrupt, expected) for tail in TAILS for corrupt, expected in BOTH),
    *(("mask", corrupt, expected) for corrupt, expected in MASKS),
    *(("pointer", corrupt, expected) for corrupt, expected in POINTERS),
]


@pytest.mark.parametrize(
    ("tail", "corrupt", "expected"), CASES, ids=lambda value: getattr(value, "__name__", None)
)
def test_each_corruption_is_found_by_its_rule_and_by_no_other(
    tail: Tail, corrupt: Callable[[Machine], None], expected: list[tuple[str, str, int]]
) -> None:
    machine = intact(tail)
    assert found(machine) == []
    corrupt(machine)
    assert found(machine) == expected
    assert found(machine, ignored=(expected[0][0],)) == []


def test_a_hugepage_whose_head_is_lost_is_missed_by_the_pool() -> None:
    machine = intact("mask")
    head_flag_lost(machine)
    assert ("pool-counters-agree", "warning", HUGE) in found(machine)


@pytest.mark.parametrize(("tail", "rules"), [("mask", ["vmemmap-aligned"]), ("pointer", [])])
def test_masks_need_a_vmemmap_that_is_aligned(tail: Tail, rules: list[str]) -> None:
    """To 16 MiB, for 1 GiB pages; nothing is wrong with smaller ones at 2 MiB."""
    machine = Machine((0,), tail=tail, vmemmap=0xFFFF_EA00_0020_0000)
    machine.hugetlb(HUGE)
    assert [rule for rule, _, _ in found(machine)] == rules


def free_block(machine: Machine, pfn: int, order: int) -> None:
    """`set_buddy_order()`."""
    machine.set_word(pfn, PAGE_TYPE, PGTY_BUDDY << 24)
    machine.set_word(pfn, PRIVATE, order)


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize(
    ("start", "order", "expected"),
    [
        (5, 0, [128]),
        (4, 2, [128]),
        (0, 3, [128]),
        (0, 4, [128]),
        (0, 2, []),
        (6, 1, []),
    ],
)
def test_a_frame_of_the_vmemmap_lies_in_no_free_block(
    start: int, order: int, expected: list[int], live: bool
) -> None:
    """The sixth of sixteen frames is in use; free are 2^order of them from `start` on."""
    machine = Machine((0, ARENA_SECTION), live=live)
    first = machine.allocate(16, align=16)
    old, address = machine.frame_of(machine.address_of(128)), machine.address_of(128)
    machine.frames[first + 5] = machine.frames[old]
    machine.split(machine.vmemmap)
    machine._remap(address, 1, first + 5, WRITABLE)
    free_block(machine, (ARENA >> 12) + first + start, order)
    assert found(machine) == [("vmemmap-frames-in-use", "error", pfn) for pfn in expected]


def test_nor_within_those_mapped_many_at_a_time() -> None:
    machine = Machine((0, ARENA_SECTION))
    frame = machine.frame_of(machine.address_of(0))
    assert frame is not None
    free_block(machine, (ARENA >> 12) + frame + 7, 1)
    assert found(machine) == [("vmemmap-frames-in-use", "error", 7 * 64)]


def test_rules_have_names_of_their_own_and_one_line_each() -> None:
    names = [rule.name for rule in RULES]
    assert len(set(names)) == len(names)
    for rule in RULES:
        assert rule.name == rule.name.lower().replace("_", "-")
        assert rule.holds.endswith(".")
        assert rule.meaning.endswith(".")
        assert len((rule.look.__doc__ or "").splitlines()) > 2, "why, and on which kernels"


@pytest.mark.parametrize("tail", TAILS)
def test_findings_say_what_they_mean(tail: Tail) -> None:
    machine = intact(tail)
    read_only_head(machine)
    counted_too_often(machine)
    meanings = {
        finding.rule: finding.meaning
        for finding in scan(machine.kernel(), exhaustive=True).findings
    }
    assert set(meanings) == {"own-frames-writable", "pool-counters-agree"}
    assert meanings == {rule.name: rule.meaning for rule in RULES if rule.name in meanings}


@pytest.mark.parametrize("tail", TAILS)
def test_the_kernels_counts_mean_nothing_where_not_all_was_seen(tail: Tail) -> None:
    machine = intact(tail)
    counted_too_often(machine)
    key_too_high(machine)
    lost = machine.frame_of(machine.address_of(1000 + PLAIN))
    assert lost is not None
    machine.unreadable.add(lost)
    assert found(machine) == []


def test_counters_that_are_not_known_are_no_counters_of_none() -> None:
    machine = intact("pointer")
    machine.counters = Counters  # type: ignore[method-assign]
    assert found(machine) == []


class Growing(Machine):
    """A live machine whose pool goes through `counts`, one each time that it is asked."""

    counts: tuple[int, ...] = ()

    def counters(self) -> Counters:
        now, *later = self.counts
        self.counts = tuple(later) or (now,)
        self.total[ORDER_2M, 0] = now
        return super().counters()


@pytest.mark.parametrize(
    ("counts", "rules"),
    [
        ((1,), []),
        ((2,), ["pool-counters-agree"]),
        ((1, 2), []),
        ((2, 1), []),
        ((2, 2, 1), []),
        ((2, 2, 2, 1, 2), []),
    ],
)
def test_on_a_live_kernel_only_counters_that_stand_still_count(
    counts: tuple[int, ...], rules: list[str]
) -> None:
    machine = Growing((0,), live=True)
    machine.hugetlb(HUGE)
    machine.counts = counts
    assert [rule for rule, _, _ in found(machine)] == rules


@settings(max_examples=40, deadline=None)
@given(
    tail=st.sampled_from(TAILS),
    levels=st.sampled_from([4, 5]),
    sections=st.sets(st.integers(0, 100), min_size=1, max_size=4),
    offline=st.sets(st.integers(0, 100), max_size=3),
    live=st.booleans(),
    data=st.data(),
)
def test_intact_machines_are_clean(
    tail: Tail,
    levels: int,
    sections: set[int],
    offline: set[int],
    live: bool,
    data: st.DataObject,
) -> None:
    machine = Machine(
        tuple(sorted(sections)),
        tail=tail,
        levels=4 if levels == 4 else 5,
        offline=frozenset(offline),
        live=live,
    )
    for section in sections - offline:
        for slot in data.draw(st.sets(st.integers(0, 63), max_size=4)):
            pfn = (section << 15) + (slot << ORDER_2M)
            if data.draw(st.booleans()):
                machine.slab(pfn, data.draw(st.integers(1, ORDER_2M)))
            else:
                machine.hugetlb(pfn, hvo=data.draw(st.booleans()), free=data.draw(st.booleans()))
    assert found(machine) == []
