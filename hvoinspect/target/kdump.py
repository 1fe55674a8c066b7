"""Where a kdump-compressed file has each page, as makedumpfile and QEMU write it.

The format is that of makedumpfile's IMPLEMENTATION and diskdump_mod.h: `struct disk_dump_header`,
`struct kdump_sub_header`, two bitmaps of a bit a page, and for each page that the second one
has, in the order of pages, a `struct page_desc`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hvoinspect.target.memory import FRAME, PHYSICAL_BITS, runs
from hvoinspect.target.openfile import OpenFile

MAGIC = b"KDUMP   "
HEADER = struct.Struct("<8sI412xIIIII")
"""struct disk_dump_header: signature, header_version, utsname and timestamp, status, block_size,
sub_hdr_size, bitmap_blocks, max_mapnr. All but the first and the third are 32 bits wide."""
SUB_HEADER = struct.Struct("<12xi80xQ")
"""struct kdump_sub_header: split, and max_mapnr_64 since header_version 6."""
PAGE_DESC = np.dtype([("offset", "<u8"), ("size", "<u4"), ("flags", "<u4"), ("page_flags", "<u8")])
MAX_PFN = 1 << (PHYSICAL_BITS - 12)

BLOCK = 4096
"""Bytes of a bitmap that are looked at together: 2^15 pages, 128 MiB of memory."""
PFNS = BLOCK * 8
MAX_BLOCKS = 1 << 21
"""Of a bitmap: 256 TiB of memory, and 8 GiB of bitmap."""
PIECE = 256
"""Blocks that are counted at once."""
GAP = 64
"""Descriptors that are read though nobody wants them, rather than to read twice."""


@dataclass(frozen=True)
class Layout:
    """Offsets of the second bitmap and of the descriptors in the file; how many pfns there are."""

    bitmap: int
    descriptors: int
    pfns: int


def read_layout(file: OpenFile) -> Layout:
    """Read the headers. Raises ValueError if this is no such file, or of a kind that is not known.

    A part of a dump that was split is one of these: its bitmap is the whole dump's.
    """
    header, sub_header = file.read(0, HEADER.size), file.read(BLOCK, SUB_HEADER.size)
    if len(header) < HEADER.size or len(sub_header) < SUB_HEADER.size:
        raise ValueError("its headers are cut short")
    magic, version, _, block, sub_headers, bitmap_blocks, pfns = HEADER.unpack(header)
    split, pfns_64 = SUB_HEADER.unpack(sub_header)
    if magic != MAGIC or block != FRAME or split:
        raise ValueError("not a whole kdump file with pages of 4 KiB")
    if version >= 6:
        pfns = pfns_64
    half = bitmap_blocks // 2
    if pfns > half * PFNS or half > MAX_BLOCKS:
        raise ValueError("its bitmap does not fit its memory")
    bitmap = (1 + sub_headers) * block
    return Layout(bitmap + half * block, bitmap + bitmap_blocks * block, pfns)


class KdumpPages:
    """The descriptors of a file's pages; of them it keeps 8 bytes for each 128 MiB of memory."""

    def __init__(self, file: OpenFile) -> None:
        """Count the pages of `file`. Raises ValueError as `read_layout`."""
        self._file = file
        self.layout = read_layout(file)
        self._pfns = self.layout.pfns
        blocks = -(-self._pfns // PFNS)
        counts = np.zeros(blocks + 1, np.int64)
        for first in range(0, blocks, PIECE):
            last = min(first + PIECE, blocks)
            bits = self._bits(first, last)
            counts[first + 1 : first + 1 + len(bits)] = np.bitwise_count(bits).sum(axis=1)
            if len(bits) < last - first:
                # It is not known how many pages are there, and so where those behind them are.
                self._pfns = (first + len(bits)) * PFNS
                break
        self._before = np.cumsum(counts)

    def find(self, pfns: NDArray[np.uint64]) -> NDArray[np.void]:
        """Return the descriptors of `pfns`, uint64[n], ascending: PAGE_DESC[n].

        Zeros, as no page has them, for what the dump does not hold or cannot be read.
        """
        found = np.zeros(len(pfns), PAGE_DESC)
        ranks = self._ranks(pfns)
        held = np.flatnonzero(ranks >= 0)
        ranks = ranks[held]
        size = PAGE_DESC.itemsize
        for first, last in runs(np.diff(ranks) <= GAP) if len(held) else ():
            low, high = int(ranks[first]), int(ranks[last - 1]) + 1
            data = self._file.read(self.layout.descriptors + low * size, (high - low) * size)
            there = np.frombuffer(data[: len(data) // size * size], PAGE_DESC)
            at = ranks[first:last] - low
            found[held[first:last][at < len(there)]] = there[at[at < len(there)]]
        return found

    def _ranks(self, pfns: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return how many pages the dump holds before each of `pfns`; -1 for those it does not."""
        ranks = np.full(len(pfns), -1, np.int64)
        known = int(np.searchsorted(pfns, np.uint64(self._pfns)))
        blocks = pfns[:known] // np.uint64(PFNS)
        edges = np.append(np.flatnonzero(np.diff(blocks, prepend=np.uint64(MAX_PFN))), known)
        for low, high in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            block = int(blocks[low])
            bits = self._bits(block, block + 1)
            if not len(bits):
                continue
            bits = bits[0]
            counts = np.bitwise_count(bits).astype(np.int64)
            before = self._before[block] + np.cumsum(counts) - counts
            within = pfns[low:high] % np.uint64(PFNS)
            word, bit = within // np.uint64(64), within % np.uint64(64)
            below = bits[word] & ((np.uint64(1) << bit) - np.uint64(1))
            held = bits[word] >> bit & np.uint64(1) == 1
            ranks[low:high] = np.where(held, before[word] + np.bitwise_count(below), -1)
        return ranks

    def _bits(self, first: int, last: int) -> NDArray[np.uint64]:
        """Return the bitmap's blocks from `first` to before `last`, uint64[n, 512].

        Fewer where the file ends or cannot be read.
        """
        data = self._file.read(self.layout.bitmap + first * BLOCK, (last - first) * BLOCK)
        return np.frombuffer(data[: len(data) // BLOCK * BLOCK], "<u8").reshape(-1, BLOCK // 8)
