"""The page tables behind the vmemmap: which frame each vmemmap page is mapped to, and how.

In two steps, so that memory stays bounded: `walk_directory` reads the upper levels of a range down
to one entry a 2 MiB block; `map_pages` reads the page tables of some of those blocks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hvoinspect.target.directory import (
    BLOCK,
    ENTRIES,
    PRESENT,
    WRITABLE,
    Directory,
    Maps,
    physical_address,
    walk_directory,
)
from hvoinspect.target.layout import Paging
from hvoinspect.target.memory import Memory
from hvoinspect.vmemmap.frames import read_frames

__all__ = ["BLOCK", "ENTRIES", "Directory", "Maps", "PageMap", "map_pages", "walk_directory"]


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
    entries, readable = read_frames(memory, directory.target[split] >> np.uint64(12))
    frame[split] = physical_address(entries, paging) >> np.uint64(12)
    present[split] = (entries & PRESENT) != 0
    writable[split] &= (entries & WRITABLE) != 0

    lost = np.concatenate([split[~readable], np.flatnonzero(maps == Maps.UNREADABLE)])
    present[lost] = False
    unreadable[lost] = True
    frame[~present] = 0
    return PageMap(directory.address, maps, frame, present, writable & present, unreadable)
