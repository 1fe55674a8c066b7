"""The upper levels of the page tables behind the vmemmap, down to one entry a 2 MiB block.

x86-64, four or five levels (Intel SDM volume 3A, chapter "Paging"). They are hostile until walked:
they may point at themselves, at one another and at what is no memory, so each table is followed
once, and there is a most of everything.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hvoinspect.errors import HvoinspectError
from hvoinspect.target.facts import DAMAGED
from hvoinspect.target.layout import VMEMMAP_PAGE, Paging
from hvoinspect.target.memory import Memory

PRESENT = np.uint64(1 << 0)
WRITABLE = np.uint64(1 << 1)
LEAF = np.uint64(1 << 7)
ADDRESS = np.uint64(0x000F_FFFF_FFFF_F000)
ENTRIES = 512
BLOCK = VMEMMAP_PAGE * ENTRIES
"""Bytes that one entry of a page middle directory maps: 2 MiB."""

PMD_SHIFT, PUD_SHIFT = 21, 30

MAPPED, NOT_KNOWN = -1, -2
"""In place of a number of missing tables."""

MAX_BLOCKS = 1 << 20
"""Most blocks of a vmemmap: those of 128 TiB of memory. No machine has more than 64 TiB."""
MAX_UNKNOWN = 1 << 11
"""Most blocks of which nothing is known, or that 1 GiB mappings are made of, which no kernel has:
those of 128 GiB of memory. Beyond that they may be four times as many as the others."""
MAX_TABLES = 1 << 12
"""Most tables of one level. Each of the lowest has the struct pages of up to 64 GiB of physical
addresses, so with these memory may lie as far apart as 256 TiB."""


class Maps(IntEnum):
    """What maps a 2 MiB block."""

    NOTHING = 0
    PTE_TABLE = 1
    PMD_LEAF = 2
    PUD_LEAF = 3
    UNREADABLE = 4


@dataclass(frozen=True)
class Directory:
    """The 2 MiB blocks of a range, in ascending order; blocks that nothing maps are left out.

    `address` uint64[n]: the block's virtual address. `maps` uint8[n]: a Maps. `target` uint64[n]:
    the physical address of the page table, or of the block's first frame. `writable` bool[n]: all
    levels down to here allow writing.
    """

    address: NDArray[np.uint64]
    maps: NDArray[np.uint8]
    target: NDArray[np.uint64]
    writable: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.address)

    def between(self, start: int, end: int) -> Directory:
        """Return the blocks that overlap the addresses from `start` to before `end`."""
        low = np.searchsorted(self.address, np.uint64(start & ~(BLOCK - 1)))
        high = np.searchsorted(self.address, np.uint64(end))
        return Directory(
            self.address[low:high],
            self.maps[low:high],
            self.target[low:high],
            self.writable[low:high],
        )


_NO_BLOCKS = Directory(
    np.zeros(0, np.uint64), np.zeros(0, np.uint8), np.zeros(0, np.uint64), np.zeros(0, np.bool_)
)


def walk_directory(memory: Memory, paging: Paging, start: int, end: int) -> Directory:
    """Walk the upper levels for the addresses from `start` to before `end`.

    `start` and `end` are canonical kernel addresses. A table that cannot be read becomes blocks
    marked UNREADABLE, only as many as the table below it would have had: it is never a hole. So
    does one that another entry has led to already: no kernel shares the tables of its vmemmap, and
    what is damaged or made up could make much of little so. Raises HvoinspectError if it comes to
    more than MAX_BLOCKS or MAX_TABLES, or if too little of it is known.
    """
    top = PUD_SHIFT + 9 * (paging.levels - 3)
    table = np.array([paging.root_physical], np.uint64)
    base = np.array([start >> (top + 9) << (top + 9)], np.uint64)
    writable = np.ones(1, np.bool_)
    leaves: list[Directory] = []
    for shift in range(top, PMD_SHIFT - 1, -9):
        once = _first_of_each(table)
        leaves.append(_unreadable_blocks(base[~once], shift + 9, start, end))
        table, base, writable = table[once], base[once], writable[once]
        _check_count(len(table), MAX_TABLES, "tables of one level")
        entries, readable = _read_tables(memory, table)
        leaves.append(_unreadable_blocks(base[~readable], shift + 9, start, end))
        entries, base, writable = entries[readable], base[readable], writable[readable]
        row, place = (entries & PRESENT).nonzero()
        entries = entries[row, place]
        address = base[row] + (place.astype(np.uint64) << np.uint64(shift))
        may_write = writable[row] & ((entries & WRITABLE) != 0)
        last = address + np.uint64((1 << shift) - 1)
        used = (last >= np.uint64(start)) & (address < np.uint64(end))
        entries, address, may_write = entries[used], address[used], may_write[used]
        leaf = (entries & LEAF) != 0
        if shift > PUD_SHIFT:
            leaf = np.zeros_like(leaf)
        target = physical_address(entries, paging)
        if shift == PMD_SHIFT:
            maps = np.where(leaf, Maps.PMD_LEAF, Maps.PTE_TABLE).astype(np.uint8)
            maps[~leaf] = np.where(_first_of_each(target[~leaf]), Maps.PTE_TABLE, Maps.UNREADABLE)
            target = np.where(leaf, target & ~np.uint64(BLOCK - 1), target)
            leaves.append(Directory(address, maps, target, may_write))
        elif shift == PUD_SHIFT:
            leaves += _gigantic_blocks(address[leaf], target[leaf], may_write[leaf], start, end)
        _check_count(sum(len(part) for part in leaves), MAX_BLOCKS, "blocks of 2 MiB")
        table, base, writable = target[~leaf], address[~leaf], may_write[~leaf]
    found = _merged(leaves, start, end)
    _check_known(found)
    return found


class Missing(NamedTuple):
    """What is not there to map each of n addresses.

    `tables` int8[n]: how many levels of page tables; 0 where only the entry of the page itself is
    missing, MAPPED where it is mapped, NOT_KNOWN where a table cannot be read. `frame` uint64[n]:
    the pfn behind what is mapped.
    """

    tables: NDArray[np.int8]
    frame: NDArray[np.uint64]


def missing_tables(memory: Memory, paging: Paging, address: NDArray[np.uint64]) -> Missing:
    """Walk the page tables for each `address`, uint64[n].

    Raises HvoinspectError if these lie in more than MAX_TABLES tables of one level.
    """
    missing = np.full(len(address), NOT_KNOWN, np.int8)
    frame = np.zeros(len(address), np.uint64)
    at = np.arange(len(address))
    table = np.full(len(address), paging.root_physical, np.uint64)
    for level in range(paging.levels - 1, -1, -1):
        tables, which = np.unique(table, return_inverse=True)
        _check_count(len(tables), MAX_TABLES, "tables of one level")
        entries, readable = _read_tables(memory, tables)
        index = (address[at] >> np.uint64(12 + 9 * level)).astype(np.intp) % ENTRIES
        entry, known = entries[which, index], readable[which]
        present = (entry & PRESENT) != 0
        leaf = present & ((level == 0) | (((entry & LEAF) != 0) & (level <= 2)))
        missing[at[known & ~present]] = level
        mapped = at[known & leaf]
        missing[mapped] = MAPPED
        within = (address[mapped] >> np.uint64(12)) % np.uint64(1 << 9 * level)
        first = physical_address(entry[known & leaf], paging) >> np.uint64(12 + 9 * level)
        frame[mapped] = (first << np.uint64(9 * level)) + within
        on = known & present & ~leaf
        at, table = at[on], physical_address(entry[on], paging)
    return Missing(missing, frame)


def physical_address(entries: NDArray[np.uint64], paging: Paging) -> NDArray[np.uint64]:
    """Return the physical addresses in page-table entries, without flags and encryption bit."""
    return entries & ADDRESS & ~np.uint64(paging.encryption_mask)


def _read_tables(
    memory: Memory, tables: NDArray[np.uint64]
) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
    """Return the entries of `tables`, uint64[n, 512], and which could be read, bool[n].

    `tables` uint64[n]: the physical address of each, all different.
    """
    entries = np.zeros((len(tables), ENTRIES), np.uint64)
    order = tables.argsort()
    readable = memory.read_frames(tables[order] >> np.uint64(12), entries)
    place = order.argsort()
    return entries[place], readable[place]


def _first_of_each(values: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Tell of each value whether it is there for the first time: bool, as long."""
    if len(values) < 2:
        return np.ones(len(values), np.bool_)
    first = np.zeros(len(values), np.bool_)
    first[np.unique(values, return_index=True)[1]] = True
    return first


def _check_count(count: int, most: int, what: str) -> None:
    if count > most:
        raise HvoinspectError(
            f"the page tables of the vmemmap have {count} {what}, more than any machine", DAMAGED
        )


def _check_known(found: Directory) -> None:
    """Raise HvoinspectError if few entries stand for many blocks, all of which a scan looks at."""
    unknown = int(((found.maps == Maps.UNREADABLE) | (found.maps == Maps.PUD_LEAF)).sum())
    if unknown > max(MAX_UNKNOWN, 4 * (len(found) - unknown)):
        raise HvoinspectError(
            f"of {unknown << 1:,} MiB of the vmemmap the page tables do not tell what is mapped, "
            f"and of {len(found) - unknown << 1:,} MiB they do",
            DAMAGED,
        )


def _gigantic_blocks(
    address: NDArray[np.uint64],
    target: NDArray[np.uint64],
    writable: NDArray[np.bool_],
    start: int,
    end: int,
) -> list[Directory]:
    """Split 1 GiB mappings of the vmemmap into their 512 blocks of 2 MiB."""
    if not len(target):
        return []
    once = _first_of_each(target)
    again = _unreadable_blocks(address[~once], PUD_SHIFT, start, end)
    address, target, writable = address[once], target[once], writable[once]
    _check_count(len(address) * ENTRIES, MAX_BLOCKS, "blocks of 2 MiB")
    offset = np.arange(ENTRIES, dtype=np.uint64) << np.uint64(PMD_SHIFT)
    base = target & ~np.uint64((1 << PUD_SHIFT) - 1)
    blocks = Directory(
        (address[:, None] + offset).ravel(),
        np.full(address.size * ENTRIES, Maps.PUD_LEAF, np.uint8),
        (base[:, None] + offset).ravel(),
        np.repeat(writable, ENTRIES),
    )
    return [again, blocks]


def _unreadable_blocks(base: NDArray[np.uint64], shift: int, start: int, end: int) -> Directory:
    """Return the blocks of the range that tables at `base`, each mapping 2^shift bytes, hide."""
    if not len(base):
        return _NO_BLOCKS
    low = np.maximum(base, np.uint64(start & ~(BLOCK - 1)))
    last = np.minimum(base + np.uint64((1 << shift) - 1), np.uint64(end - 1))
    counts = (last - low).astype(np.int64) // BLOCK + 1
    total = int(counts.sum())
    _check_count(total, MAX_BLOCKS, "blocks of 2 MiB of which nothing is known")
    rank = np.arange(total, dtype=np.uint64) - np.repeat(np.cumsum(counts) - counts, counts).astype(
        np.uint64
    )
    return Directory(
        np.repeat(low, counts) + rank * np.uint64(BLOCK),
        np.full(total, Maps.UNREADABLE, np.uint8),
        np.zeros(total, np.uint64),
        np.zeros(total, np.bool_),
    )


def _merged(parts: list[Directory], start: int, end: int) -> Directory:
    address = np.concatenate([part.address for part in parts])
    maps = np.concatenate([part.maps for part in parts])
    target = np.concatenate([part.target for part in parts])
    writable = np.concatenate([part.writable for part in parts])
    inside = (address + np.uint64(BLOCK - 1) >= np.uint64(start)) & (address < np.uint64(end))
    order = np.flatnonzero(inside)[np.argsort(address[inside], kind="stable")]
    return Directory(address[order], maps[order], target[order], writable[order])
