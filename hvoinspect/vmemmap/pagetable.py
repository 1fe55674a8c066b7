"""The walk of the page tables behind the vmemmap: which frame is mapped where, and how.

x86-64, four or five levels (Intel SDM volume 3A, chapter "Paging"). Two steps, so that memory
stays bounded: `walk_directory` reads the upper levels of a range down to one entry a 2 MiB block;
`map_pages` reads the page tables of some of those blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from hvoinspect.target.layout import VMEMMAP_PAGE, Paging
from hvoinspect.target.memory import Memory
from hvoinspect.vmemmap.frames import read_frames

PRESENT = np.uint64(1 << 0)
WRITABLE = np.uint64(1 << 1)
LEAF = np.uint64(1 << 7)
ADDRESS = np.uint64(0x000F_FFFF_FFFF_F000)
ENTRIES = 512
BLOCK = VMEMMAP_PAGE * ENTRIES
"""Bytes that one entry of a page middle directory maps: 2 MiB."""

PMD_SHIFT, PUD_SHIFT = 21, 30


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


@dataclass(frozen=True)
class PageMap:
    """The vmemmap pages of some blocks, one row of 512 a block.

    `address` uint64[b]: as in Directory; `maps` uint8[b] too. `frame` uint64[b, 512]: the pfn
    behind each vmemmap page. `present`, `writable`, `unreadable`: bool[b, 512]; unreadable means
    that the page table itself could not be read, so whether a page is mapped is not known.
    """

    address: NDArray[np.uint64]
    maps: NDArray[np.uint8]
    frame: NDArray[np.uint64]
    present: NDArray[np.bool_]
    writable: NDArray[np.bool_]
    unreadable: NDArray[np.bool_]


def walk_directory(memory: Memory, paging: Paging, start: int, end: int) -> Directory:
    """Walk the upper levels for the addresses from `start` to before `end`.

    `start` and `end` are canonical kernel addresses. A table that cannot be read becomes blocks
    marked UNREADABLE, only as many as the table below it would have had: it is never a hole.
    """
    top = PUD_SHIFT + 9 * (paging.levels - 3)
    table = np.array([paging.root_physical], np.uint64)
    base = np.array([start >> (top + 9) << (top + 9)], np.uint64)
    writable = np.ones(1, np.bool_)
    leaves: list[Directory] = []
    for shift in range(top, PMD_SHIFT - 1, -9):
        entries, readable = _read_tables(memory, table)
        leaves.append(_unreadable_blocks(base[~readable], shift + 9, start, end))
        entries, base, writable = entries[readable], base[readable], writable[readable]
        address = base[:, None] + (np.arange(ENTRIES, dtype=np.uint64) << np.uint64(shift))
        last = address + np.uint64((1 << shift) - 1)
        used = ((entries & PRESENT) != 0) & (last >= np.uint64(start)) & (address < np.uint64(end))
        may_write = (writable[:, None] & ((entries & WRITABLE) != 0))[used]
        entries, address = entries[used], address[used]
        leaf = (entries & LEAF) != 0
        if shift > PUD_SHIFT:
            leaf = np.zeros_like(leaf)
        target = physical_address(entries, paging)
        if shift == PMD_SHIFT:
            maps = np.where(leaf, Maps.PMD_LEAF, Maps.PTE_TABLE).astype(np.uint8)
            target = np.where(leaf, target & ~np.uint64(BLOCK - 1), target)
            leaves.append(Directory(address, maps, target, may_write))
        elif shift == PUD_SHIFT:
            leaves.append(_gigantic_blocks(address[leaf], target[leaf], may_write[leaf]))
        table, base, writable = target[~leaf], address[~leaf], may_write[~leaf]
    return _merged(leaves, start, end)


def map_pages(memory: Memory, paging: Paging, directory: Directory) -> PageMap:
    """Read the page tables of the blocks in `directory` and return what each vmemmap page maps."""
    maps = directory.maps
    blocks = len(maps)
    first = (directory.target >> np.uint64(12))[:, None]
    frame = np.add(first, np.arange(ENTRIES, dtype=np.uint64), dtype=np.uint64)
    present = np.ones((blocks, ENTRIES), np.bool_)
    writable = np.repeat(directory.writable[:, None], ENTRIES, axis=1)
    unreadable = np.zeros((blocks, ENTRIES), np.bool_)

    split = np.flatnonzero(maps == Maps.PTE_TABLE)
    entries, readable = _read_tables(memory, directory.target[split])
    frame[split] = physical_address(entries, paging) >> np.uint64(12)
    present[split] = (entries & PRESENT) != 0
    writable[split] &= (entries & WRITABLE) != 0

    lost = np.concatenate([split[~readable], np.flatnonzero(maps == Maps.UNREADABLE)])
    present[lost] = False
    unreadable[lost] = True
    frame[~present] = 0
    return PageMap(directory.address, maps, frame, present, writable & present, unreadable)


def physical_address(entries: NDArray[np.uint64], paging: Paging) -> NDArray[np.uint64]:
    """Return the physical addresses in page-table entries, without flags and encryption bit."""
    return entries & ADDRESS & ~np.uint64(paging.encryption_mask)


def _read_tables(
    memory: Memory, tables: NDArray[np.uint64]
) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
    return read_frames(memory, tables >> np.uint64(12))


def _gigantic_blocks(
    address: NDArray[np.uint64], target: NDArray[np.uint64], writable: NDArray[np.bool_]
) -> Directory:
    """Split 1 GiB mappings of the vmemmap into their 512 blocks of 2 MiB."""
    offset = np.arange(ENTRIES, dtype=np.uint64) << np.uint64(PMD_SHIFT)
    base = target & ~np.uint64((1 << PUD_SHIFT) - 1)
    return Directory(
        (address[:, None] + offset).ravel(),
        np.full(address.size * ENTRIES, Maps.PUD_LEAF, np.uint8),
        (base[:, None] + offset).ravel(),
        np.repeat(writable, ENTRIES),
    )


def _unreadable_blocks(base: NDArray[np.uint64], shift: int, start: int, end: int) -> Directory:
    """Return the blocks of the range that tables at `base`, each mapping 2^shift bytes, hide."""
    spans = []
    for first in base.tolist():
        low, high = max(first, start & ~(BLOCK - 1)), min(first + (1 << shift), end)
        spans.append(np.arange(low, high, BLOCK, dtype=np.uint64))
    address = np.concatenate(spans) if spans else np.zeros(0, np.uint64)
    return Directory(
        address,
        np.full(address.size, Maps.UNREADABLE, np.uint8),
        np.zeros(address.size, np.uint64),
        np.zeros(address.size, np.bool_),
    )


def _merged(parts: list[Directory], start: int, end: int) -> Directory:
    address = np.concatenate([part.address for part in parts])
    maps = np.concatenate([part.maps for part in parts])
    target = np.concatenate([part.target for part in parts])
    writable = np.concatenate([part.writable for part in parts])
    inside = (address + np.uint64(BLOCK - 1) >= np.uint64(start)) & (address < np.uint64(end))
    order = np.flatnonzero(inside)[np.argsort(address[inside], kind="stable")]
    return Directory(address[order], maps[order], target[order], writable[order])
