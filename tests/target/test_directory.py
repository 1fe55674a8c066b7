"""Page tables that no kernel makes: each is followed once, and there is a most of everything."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from hvoinspect.errors import HvoinspectError
from hvoinspect.target.directory import (
    BLOCK,
    MAX_UNKNOWN,
    Directory,
    Maps,
    walk_directory,
)
from hvoinspect.target.layout import Paging
from hvoinspect.target.memory import ByRanges, UnreadableMemoryError

START = 0xFFFF_EA00_0000_0000
TABLE, LARGE = 3, 0x83
GIB = 1 << 30


class Tables(ByRanges):
    """Four page tables, the first of them the root, which leads to the second; entries are set."""

    def __init__(self) -> None:
        self.content = bytearray(4 << 12)
        self.put(0, START >> 39 & 511, 1 << 12 | TABLE)

    def put(self, table: int, index: int, entry: int) -> None:
        struct.pack_into("<Q", self.content, (table << 12) + 8 * index, entry)

    def read(self, address: int, size: int) -> bytes:
        if address + size > len(self.content):
            raise UnreadableMemoryError(address, size)
        return bytes(self.content[address : address + size])

    def walk(self, size: int) -> Directory:
        return walk_directory(self, Paging(0, 4), START, START + size)


def test_a_table_that_two_entries_lead_to_is_followed_for_the_first_only() -> None:
    tables = Tables()
    for index in (0, 1):
        tables.put(1, index, 2 << 12 | TABLE)
    tables.put(2, 7, 5 << 21 | LARGE)
    found = tables.walk(2 * GIB)
    assert found.maps.tolist() == [Maps.PMD_LEAF] + [Maps.UNREADABLE] * 512
    assert found.address[0] == START + 7 * BLOCK
    assert found.address[1:].tolist() == list(range(START + GIB, START + 2 * GIB, BLOCK))


def test_a_page_table_that_two_entries_lead_to_is_known_for_the_first_only() -> None:
    tables = Tables()
    tables.put(1, 0, 2 << 12 | TABLE)
    for index in (3, 4, 9):
        tables.put(2, index, 3 << 12 | TABLE)
    found = tables.walk(GIB)
    assert found.maps.tolist() == [Maps.PTE_TABLE, Maps.UNREADABLE, Maps.UNREADABLE]


def test_a_1_gib_mapping_that_two_entries_make_is_known_for_the_first_only() -> None:
    tables = Tables()
    for index in (0, 1):
        tables.put(1, index, 5 << 30 | LARGE)
    found = tables.walk(2 * GIB)
    assert found.maps.tolist() == [Maps.PUD_LEAF] * 512 + [Maps.UNREADABLE] * 512


def test_too_much_of_which_nothing_is_known_is_refused() -> None:
    tables = Tables()
    gone = [(1 << 40) + (index << 12) | TABLE for index in range(512)]
    within = MAX_UNKNOWN // 512
    for index in range(within):
        tables.put(1, index, gone[index])
    assert len(tables.walk(512 * GIB)) == MAX_UNKNOWN
    tables.put(1, within, gone[within])
    with pytest.raises(HvoinspectError, match="do not tell what is mapped"):
        tables.walk(512 * GIB)


def test_where_a_fifth_is_known_the_rest_may_be_lost() -> None:
    tables = Tables()
    for index in range(MAX_UNKNOWN // 512 + 1):
        tables.put(1, index, (1 << 40) + (index << 12) | TABLE)
    known = (MAX_UNKNOWN + 512) // 4
    tables.content += bytes(4 << 12)
    for rank in range(known):
        tables.put(4 + rank // 512, rank % 512, rank << 21 | LARGE)
    for rank in range(-(-known // 512)):
        tables.put(1, 100 + rank, (4 + rank) << 12 | TABLE)
    assert (tables.walk(512 * GIB).maps == Maps.PMD_LEAF).sum() == known
    tables.put(4, 0, 0)
    with pytest.raises(HvoinspectError, match="do not tell"):
        tables.walk(512 * GIB)


@pytest.mark.parametrize("levels", [4, 5])
def test_a_root_that_cannot_be_read_hides_all_of_a_range_up_to_its_last_byte(levels: int) -> None:
    paging = Paging(1 << 40, 5 if levels == 5 else 4)
    size = 3 * BLOCK + 1
    found = walk_directory(Tables(), paging, (1 << 64) - size, (1 << 64) - 1)
    assert np.diff(found.address).tolist() == [BLOCK] * 3
    assert found.maps.tolist() == [Maps.UNREADABLE] * 4
