"""The walk finds the frame behind every vmemmap page, however it is mapped."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvoinspect.vmemmap.pagetable import BLOCK, Maps, map_pages, walk_directory
from tests.madeup import ARENA, Machine


def walk(machine: Machine) -> dict[int, tuple[int, bool]]:
    """Every mapped vmemmap page's address, with its frame in the arena, and is it writable."""
    kernel = machine.kernel()
    directory = walk_directory(machine, kernel.paging, kernel.vmemmap, kernel.vmemmap_end)
    pages = map_pages(machine, kernel.paging, directory)
    address = pages.address[:, None] + np.arange(0, BLOCK, 4096, dtype=np.uint64)
    return {
        int(at): (int(frame) - (ARENA >> 12), bool(writable))
        for at, frame, writable, present in zip(
            address.ravel(),
            pages.frame.ravel(),
            pages.writable.ravel(),
            pages.present.ravel(),
            strict=True,
        )
        if present
    }


@settings(max_examples=40, deadline=None)
@given(
    sections=st.sets(st.integers(0, 1200), min_size=1, max_size=5),
    levels=st.sampled_from([4, 5]),
    encrypted=st.booleans(),
    small=st.booleans(),
    hugepage=st.booleans(),
)
def test_every_page_as_the_tables_say(
    sections: set[int], levels: int, encrypted: bool, small: bool, hugepage: bool
) -> None:
    machine = Machine(
        tuple(sorted(sections)),
        levels=5 if levels == 5 else 4,
        vmemmap=0xFFD4_0000_0000_0000 if levels == 5 else 0xFFFF_EA00_0000_0000,
        encryption_mask=1 << 47 if encrypted else 0,
        base_pages=frozenset(list(sections)[:1]) if small else frozenset(),
    )
    if hugepage:
        machine.hugetlb(min(sections) << 15)
    mapped = walk(machine)
    expected = {
        at
        for section in sections
        for at in range(
            machine.address_of(section << 15), machine.address_of((section + 1) << 15), 4096
        )
    }
    assert set(mapped) == expected
    for at, (frame, writable) in mapped.items():
        assert frame == machine.frame_of(at)
        tail = hugepage and 0 < at - machine.address_of(min(sections) << 15) < 8 * 4096
        assert writable is not tail


def test_a_gibibyte_mapping_is_512_blocks() -> None:
    machine = Machine(tuple(range(512)), huge_leaves=True)
    kernel = machine.kernel()
    directory = walk_directory(machine, kernel.paging, kernel.vmemmap, kernel.vmemmap_end)
    assert len(directory) == 512
    assert set(directory.maps.tolist()) == {Maps.PUD_LEAF}
    pages = map_pages(machine, kernel.paging, directory)
    assert pages.present.all()
    for at in (0, 1, 77_777, (1 << 18) - 1):
        assert pages.frame.ravel()[at] - (ARENA >> 12) == machine.frame_of(
            machine.vmemmap + at * 4096
        )


@pytest.mark.parametrize("level", [1, 2])
def test_a_table_that_cannot_be_read_is_no_hole(level: int) -> None:
    """What lies under it is unknown: marked so, and as wide as the table is."""
    machine = Machine((0, 1, 2))
    table, _ = machine._table_for(machine.vmemmap, level)
    machine.unreadable.add(table)
    kernel = machine.kernel()
    directory = walk_directory(machine, kernel.paging, kernel.vmemmap, kernel.vmemmap_end)
    assert directory.maps.tolist() == [Maps.UNREADABLE] * 3
    pages = map_pages(machine, kernel.paging, directory)
    assert pages.unreadable.all()
    assert not pages.present.any()


def test_a_page_table_that_cannot_be_read_hides_its_own_block_only() -> None:
    machine = Machine((0, 1), base_pages=frozenset({0, 1}))
    table, _ = machine.entry(0)
    machine.unreadable.add(table)
    kernel = machine.kernel()
    directory = walk_directory(machine, kernel.paging, kernel.vmemmap, kernel.vmemmap_end)
    pages = map_pages(machine, kernel.paging, directory)
    assert pages.unreadable.all(axis=1).tolist() == [True, False]
    assert pages.present.all(axis=1).tolist() == [False, True]
