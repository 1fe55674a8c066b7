"""The runs of a vmemmap and what guarding them takes, against sets of pages and tables."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvoinspect.target.directory import MAPPED, NOT_KNOWN, missing_tables
from hvoinspect.vmemmap.memdesc import MODELS
from hvoinspect.vmemmap.runs import LEVELS, Guard, guard_of, missing_after, worst_split
from hvoinspect.vmemmap.survey import Survey, in_front_of, survey
from tests.madeup import ARENA, PRESENT, SECTION_PAGES, Machine

GIB = 512
"""Sections whose struct pages, of 64 bytes, fill a GiB of vmemmap."""


def surveyed(machine: Machine) -> Survey:
    return survey(machine.kernel(), MODELS["self"])


def runs(result: Survey) -> list[tuple[int, int]]:
    """Start, from the vmemmap on, and bytes of each."""
    start = (result.runs.start - np.uint64(result.kernel.vmemmap)).tolist()
    return list(zip(start, result.runs.bytes.tolist(), strict=True))


def tables_of(pages: set[int], level: int) -> set[int]:
    """The tables of a level (0 is PTE) that mapping the addresses `pages` takes."""
    return {page >> LEVELS[level] for page in pages}


def slow_guard(mapped: set[int], starts: list[int], levels: int) -> Guard:
    """What guards take where tables are there for the 4 KiB pages `mapped` alone."""
    guards = {start - 4096 for start in starts} - mapped
    new = [
        len(tables_of(guards, level) - tables_of(mapped, level)) if level < levels - 1 else 0
        for level in range(4)
    ]
    return Guard(len(guards), *new)


def pages_of(machine: Machine, sections: set[int]) -> set[int]:
    size = SECTION_PAGES * machine.page_size
    return {
        page
        for section in sections
        for page in range(
            machine.vmemmap + section * size, machine.vmemmap + (section + 1) * size, 4096
        )
    }


@settings(max_examples=30, deadline=None)
@given(
    sections=st.sets(st.sampled_from([0, 1, 2, 5, 31, 32, GIB - 1, GIB, 3 * GIB]), min_size=1),
    levels=st.sampled_from([4, 5]),
    size=st.sampled_from([64, 128]),
    block=st.sampled_from([1, 2, 16]),
    vmemmap=st.sampled_from([0xFFFF_EA00_0000_0000, 0xFFFF_EA12_4000_0000]),
)
def test_runs_and_guards_of_sections(
    sections: set[int], levels: int, size: int, block: int, vmemmap: int
) -> None:
    machine = Machine(
        tuple(sorted(sections)),
        page_size=size,
        levels=4 if levels == 4 else 5,
        block_sections=block,
        vmemmap=vmemmap,
    )
    result = surveyed(machine)
    mapped = pages_of(machine, sections)
    starts = sorted(page for page in mapped if page - 4096 not in mapped)
    assert result.runs.start.tolist() == starts
    assert int(result.runs.bytes.sum()) == 4096 * len(mapped)
    assert result.guard == slow_guard(mapped, starts, levels)

    blocks = sorted({section // block for section in sections})
    kept: set[int] = set()
    for number in blocks:  # the first of those that follow one another, the third, the fifth
        if number - 1 not in kept:
            kept.add(number)
    left = {section for section in sections if section // block in kept}
    mapped = pages_of(machine, left)
    starts = sorted(page for page in mapped if page - 4096 not in mapped)
    assert result.worst == slow_guard(mapped, starts, levels)


@settings(max_examples=50, deadline=None)
@given(blocks=st.sets(st.integers(0, 9), min_size=1))
def test_no_choice_of_memory_blocks_leaves_more_runs(blocks: set[int]) -> None:
    """Of all that could be left of a few blocks, each is looked at."""
    machine = Machine(tuple(sorted(blocks)))
    start, end = worst_split(machine.kernel(), 1)
    some = sorted(blocks)
    most = max(
        sum(block - 1 not in left for block in left)
        for chosen in range(1, 1 << len(some))
        for left in [{b for at, b in enumerate(some) if chosen >> at & 1}]
    )
    assert len(start) == len(end) == most


def test_a_hole_in_a_page_table_divides_a_run() -> None:
    """As one of ZONE_DEVICE's subsections does, 2 MiB of memory, eight vmemmap pages."""
    machine = Machine((0, 1), base_pages=frozenset({0, 1}))
    for at in range(8):
        table, index = machine.entry(512 + 64 * at)
        machine.frames[table, index] = np.uint64(0)
    result = surveyed(machine)
    assert runs(result) == [(0, 8 * 4096), (16 * 4096, (1024 - 16) * 4096)]
    # In front of the second one the page table is there already.
    assert result.before.tables.tolist() == [3, 0]
    assert result.guard == Guard(2, 1, 1, 1, 0)


def test_spans_are_of_one_node_and_zone_each() -> None:
    machine = Machine((7, 8, 9), device=frozenset({9}), offline=frozenset({7}))
    spans = surveyed(machine).runs.spans
    section = SECTION_PAGES // 64
    assert spans.page.tolist() == [7 * section, 8 * section, 9 * section]
    assert spans.pages.tolist() == [section] * 3
    assert spans.place.tolist() == [-1, 0 << 8 | 1, 1 << 8 | 4]


def test_a_page_table_that_cannot_be_read_is_no_hole() -> None:
    machine = Machine((0, 1), base_pages=frozenset({1}))
    table, _ = machine.entry(SECTION_PAGES)
    machine.unreadable.add(table)
    result = surveyed(machine)
    assert runs(result) == [(0, 1024 * 4096)]
    assert result.runs.spans.place.tolist() == [1, -2]


def test_what_is_in_front_of_a_run_is_told() -> None:
    """Mapped, by what; or which tables are missing; or that they cannot be read."""
    machine = Machine((0, 2), levels=5, base_pages=frozenset({0}))
    at = [machine.address_of(pfn) for pfn in (100, 2 * SECTION_PAGES + 640, SECTION_PAGES)]
    at += [machine.vmemmap - 4096, 0xFF80_0000_0000_0000]
    found = missing_tables(machine, machine.kernel().paging, np.array(at, np.uint64))
    assert found.tables.tolist() == [MAPPED, MAPPED, 1, 3, 4]
    frames = [machine.frame_of(address) for address in at[:2]]
    assert [frame - (ARENA >> 12) for frame in found.frame[:2].tolist()] == frames
    table, _ = machine.entry(0)
    machine.unreadable.add(table)
    start = np.array([machine.address_of(SECTION_PAGES)], np.uint64)
    assert in_front_of(machine.kernel(), start).tables.tolist() == [NOT_KNOWN]
    assert guard_of(start, np.array([NOT_KNOWN], np.int8)) == Guard(0, 0, 0, 0, 0, 1)


def test_what_is_mapped_in_front_of_the_vmemmap_needs_no_guard() -> None:
    machine = Machine((0,))
    table, index = machine._table_for(machine.vmemmap - 4096, 0)
    machine.frames[table, index] = np.uint64(ARENA | PRESENT)
    result = surveyed(machine)
    assert result.before.tables.tolist() == [MAPPED]
    assert result.guard == result.worst == Guard(0, 0, 0, 0, 0)


@pytest.mark.parametrize("levels", [4, 5])
def test_tables_that_others_use_are_not_counted_twice(levels: int) -> None:
    """Two guards in one 2 MiB block share its page table."""
    first = 0xFFFF_EA00_0000_0000
    start = np.array([first + (8 << 12), first + (64 << 12)], np.uint64)
    end = start + np.uint64(4096)
    missing = missing_after(start, end, levels)
    assert missing.tolist() == [0, 0]
    assert guard_of(start, np.array([1, 1], np.int8)) == Guard(2, 1, 0, 0, 0)
