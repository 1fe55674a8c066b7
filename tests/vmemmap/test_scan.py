"""What a scan counts, saves and finds on made-up machines whose state is known."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvoinspect.vmemmap.pages import Encoding, PageClass
from hvoinspect.vmemmap.rules import Finding
from hvoinspect.vmemmap.scan import scan
from tests.madeup import (
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

HUGE = 5 << ORDER_2M


def pool(tail: Tail) -> Machine:
    """Twelve sections on two nodes: 2 MiB pages with HVO and without, a 1 GiB page, some slab."""
    machine = Machine(tuple(range(12)), tail=tail)
    machine.hugetlb(0, ORDER_1G, free=True)
    first = 9 * SECTION_PAGES
    for number in range(4):
        machine.hugetlb(first + (number << ORDER_2M), free=number % 2 == 0)
    machine.hugetlb(first + (4 << ORDER_2M), hvo=False)
    machine.slab(8 * SECTION_PAGES, 3)
    return machine


@pytest.mark.parametrize("tail", TAILS)
def test_a_pool_is_counted_and_accounted(tail: Tail) -> None:
    result = scan(pool(tail).kernel())
    hugepages, savings = result.hugepages, result.savings
    assert result.findings == ()
    assert result.total == 12 * SECTION_PAGES
    assert result.classes[PageClass.HEAD] == 7
    assert result.classes[PageClass.FAKE_HEAD] == (4095 + 4 * 7 if tail == "pointer" else 0)
    tails = (1 << 18) - 1 + 5 * 511 + 7
    assert result.classes[PageClass.TAIL] + result.classes[PageClass.FAKE_HEAD] == tails
    assert hugepages.order.tolist() == [ORDER_1G] + [ORDER_2M] * 5
    assert hugepages.node.tolist() == [0] + [1] * 5
    assert hugepages.free.tolist() == [True, True, False, True, False, False]
    assert hugepages.remapped.tolist() == [True] * 5 + [False]
    assert savings.kept.tolist() == [1, 1, 1, 1, 1, 8]
    assert savings.freed.tolist() == [4095, 7, 7, 7, 7, 0]
    assert savings.potential == 7
    assert savings.split_tables == result.pte_tables == 8 + 1
    assert result.mappings.read_only_pages == savings.saved
    seen = result.encodings[Encoding.POINTER if tail == "pointer" else Encoding.MASK]
    assert seen == result.classes[PageClass.TAIL]


@pytest.mark.parametrize("tail", TAILS)
def test_savings_are_what_the_page_tables_lack(tail: Tail) -> None:
    """Distinct frames, less the shared tail frames that stand for many, are what was not saved."""
    machine = pool(tail)
    result = scan(machine.kernel())
    mappings = result.mappings
    frames = mappings.large_pages + len(mappings.frame)
    assert mappings.virtual_pages - frames + len(machine.shared) == result.savings.saved


def test_one_optimized_page_alone_keeps_one_frame() -> None:
    """The shared tail frame is nobody's own, even while just one hugepage uses it."""
    machine = Machine((0,))
    machine.hugetlb(HUGE)
    assert scan(machine.kernel()).savings.freed.tolist() == [7]


def test_shared_frames_count_without_the_zones_word() -> None:
    """Where the zone's frames cannot be found, tails that several hugepages share show them."""
    machine = Machine((0,))
    machine.hugetlb(HUGE)
    machine.hugetlb(HUGE + 512)
    machine.shared.clear()
    assert scan(machine.kernel()).savings.freed.tolist() == [7, 7]


@settings(max_examples=30, deadline=None)
@given(
    tail=st.sampled_from(TAILS),
    sections=st.sets(st.integers(0, 100), min_size=1, max_size=5),
    offline=st.sets(st.integers(0, 100), max_size=3),
    lost=st.sets(st.integers(0, 2000), max_size=20),
    data=st.data(),
)
def test_classes_add_up_whatever_is_missing(
    tail: Tail, sections: set[int], offline: set[int], lost: set[int], data: st.DataObject
) -> None:
    machine = Machine(tuple(sorted(sections)), tail=tail, offline=frozenset(offline))
    for section in sections:
        for slot in data.draw(st.sets(st.integers(0, 63), max_size=4)):
            machine.hugetlb((section << 15) + (slot << 9), hvo=data.draw(st.booleans()))
    machine.unreadable |= {frame for frame in lost if frame > 8}
    result = scan(machine.kernel())
    assert result.total == len(sections) * SECTION_PAGES
    assert result.read + result.inferred + result.classes[PageClass.UNREADABLE] == result.total
    assert result.offline == len(sections & offline) * SECTION_PAGES
    assert sum(result.encodings.values()) == result.classes[PageClass.TAIL]


def test_what_cannot_be_read_is_never_taken_for_single_pages() -> None:
    machine = Machine((0, 1))
    lost = machine.frame_of(machine.address_of(SECTION_PAGES))
    assert lost is not None
    machine.unreadable.add(lost)
    result = scan(machine.kernel())
    assert result.classes[PageClass.UNREADABLE] == 64
    assert result.classes[PageClass.SINGLE] == 2 * SECTION_PAGES - 64


def test_offline_sections_are_single_and_not_read() -> None:
    """A section that was never onlined holds whatever was in its frames before."""
    machine = Machine((0, 1), offline=frozenset({1}))
    machine._set_words(SECTION_PAGES, 5000, COMPOUND, 0xDEAD_BEEF)
    result = scan(machine.kernel())
    assert result.classes[PageClass.SINGLE] == 2 * SECTION_PAGES
    assert result.offline == SECTION_PAGES
    assert result.findings == ()


def rules_of(findings: tuple[Finding, ...]) -> set[tuple[str, str, int]]:
    return {(finding.rule, finding.severity, finding.pfn) for finding in findings}


@pytest.mark.parametrize("tail", TAILS)
def test_a_kernel_that_protects_too_little_gets_one_warning_a_size(tail: Tail) -> None:
    """6.18 to 7.1 write-protect 63 of the 4,095 tail vmemmap pages of a boot-time 1 GiB page."""
    machine = Machine(tuple(range(40)), tail=tail)
    for number in (0, 1, 4):  # in two chunks
        pfn = number << ORDER_1G
        machine.hugetlb(pfn, ORDER_1G)
        for block in range(8):
            table, index = machine.entry(pfn + block * SECTION_PAGES)
            first = 64 if block == 0 else 0
            machine.frames[table, index + first : index + 512] |= np.uint64(WRITABLE)
    findings = scan(machine.kernel()).findings
    assert rules_of(findings) == {("tails-read-only", "warning", 0)}
    assert str(3 * (4095 - 63)) in findings[0].found


class Flickering(Machine):
    """A live machine on which a hugepage is caught between its flag and its remap, once."""

    def read(self, address: int, size: int) -> bytes:
        data = super().read(address, size)
        self.reads += 1
        if self.reads == self.mend_after:
            self.set_word(HUGE, PRIVATE, OPTIMIZED)
        return data

    reads = 0
    mend_after = -1


def test_on_a_live_kernel_only_what_stays_wrong_is_reported() -> None:
    machine = Flickering((0,), live=True)
    machine.hugetlb(HUGE)
    machine.set_word(HUGE, PRIVATE, 0)
    scan(machine.kernel())
    reads_of_a_scan = machine.reads
    assert {finding.rule for finding in scan(machine.kernel()).findings} == {
        "flag-agrees-with-page-tables"
    }
    machine.mend_after = machine.reads + reads_of_a_scan // 4 + 1
    assert scan(machine.kernel()).findings == ()


def test_what_does_not_hold_still_is_unstable_and_no_finding(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Machine((0,), live=True)
    machine.hugetlb(HUGE)
    machine.set_word(HUGE, PRIVATE, 0)
    monkeypatch.setattr(time, "sleep", lambda _seconds: machine.set_word(HUGE, PRIVATE, OPTIMIZED))
    result = scan(machine.kernel())
    assert result.findings == ()
    assert result.unstable == {"flag-agrees-with-page-tables": 1}
    assert scan(machine.kernel()).unstable == {}


def test_only_the_very_same_is_confirmed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not another breach of the same rule at the same struct page."""
    machine = Machine((0,), live=True, tail="pointer")
    machine.slab(64, 3)
    wrong = iter(range(200, 300))

    def changed(_seconds: float) -> None:
        machine.set_word(66, COMPOUND, machine.address_of(next(wrong)) | 1)

    changed(0)
    monkeypatch.setattr(time, "sleep", changed)
    result = scan(machine.kernel())
    assert (result.findings, list(result.unstable)) == ((), ["tail-decodes-to-head"])
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)
    (finding,) = scan(machine.kernel()).findings
    assert finding.confirmed
