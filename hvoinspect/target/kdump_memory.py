"""Physical memory in a kdump-compressed file."""

from __future__ import annotations

from collections.abc import Callable

import cramjam
import deflate
import numpy as np
from lzallright import LZOCompressor, LZOError
from numpy.typing import NDArray

from hvoinspect.target.kdump import KdumpPages
from hvoinspect.target.memory import FRAME, ByFrames, runs
from hvoinspect.target.openfile import MAX_OFFSET, OpenFile

ZLIB, LZO, SNAPPY, ZSTD = 0x1, 0x2, 0x4, 0x20
"""page_desc.flags: how a page is packed; without any it is not (diskdump_mod.h)."""
PACKED = np.uint32(ZLIB | LZO | SNAPPY | ZSTD)
MAX_GAP = 1 << 14
"""Bytes that are read though nobody wants them, rather than to read twice."""

Unpack = Callable[[memoryview, memoryview], object]
"""Fills the second from what is packed in the first; raises one of DAMAGED if that does not fit."""


def _zlib(data: memoryview, page: memoryview) -> None:
    # libdeflate is 1.5 times as fast as zlib, and unpacks no more than it is asked for.
    page[:] = deflate.zlib_decompress(data, FRAME)


def _lzo(data: memoryview, page: memoryview) -> None:
    page[:] = LZOCompressor.decompress(data, FRAME)


def _snappy(data: memoryview, page: memoryview) -> None:
    if cramjam.snappy.decompress_raw_into(data, page) != FRAME:
        raise ValueError


def _zstd(data: memoryview, page: memoryview) -> None:
    if cramjam.zstd.decompress_into(data, page) != FRAME:
        raise ValueError


UNPACK: dict[int, Unpack] = {ZLIB: _zlib, LZO: _lzo, SNAPPY: _snappy, ZSTD: _zstd}
DAMAGED = (deflate.DeflateError, LZOError, cramjam.DecompressionError, ValueError)


class KdumpMemory(ByFrames):
    """Physical memory in `file`. What the dump leaves out is unreadable, also pages of zeros."""

    forkable = True

    def __init__(self, file: OpenFile) -> None:
        """Read its headers. Raises ValueError if they are not of a kind that is known."""
        self._file = file
        self._pages = KdumpPages(file)
        self._start = self._pages.layout.descriptors

    def read_frames(self, pfns: NDArray[np.uint64], words: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Read frames, as Memory says."""
        pages = self._pages.find(pfns)
        offset, size, how = pages["offset"], pages["size"], pages["flags"] & PACKED
        # A descriptor that is not there is zeros, and so before any content.
        sound = (offset > np.uint64(self._start)) & (offset < np.uint64(MAX_OFFSET))
        sound &= (size > 0) & (size <= FRAME)
        raw = sound & (how == 0) & (size == FRAME)
        readable = self._file.read_frames(np.where(raw, offset, -1).astype(np.int64), words)
        for kind, unpack in UNPACK.items():
            rows = np.flatnonzero(sound & (how == kind))
            if len(rows):
                self._unpack(rows, pages, unpack, words, readable)
        words[~readable] = 0
        return readable

    def _unpack(
        self,
        rows: NDArray[np.intp],
        pages: NDArray[np.void],
        unpack: Unpack,
        words: NDArray[np.uint64],
        readable: NDArray[np.bool_],
    ) -> None:
        """Read and unpack the pages of some rows, whose descriptors are sound, in few reads."""
        rows = rows[np.argsort(pages["offset"][rows], kind="stable")]
        offset = pages["offset"][rows].astype(np.int64)
        end = offset + pages["size"][rows]
        near = offset[1:] <= np.maximum.accumulate(end)[:-1] + MAX_GAP
        content = words.data.cast("B")
        for first, last in runs(near):
            start = int(offset[first])
            data = memoryview(self._file.read(start, int(end[first:last].max()) - start))
            places = (rows[first:last] * FRAME).tolist()
            lows, highs = (offset[first:last] - start).tolist(), (end[first:last] - start).tolist()
            try:
                for low, high, place in zip(lows, highs, places, strict=True):
                    unpack(data[low:high], content[place : place + FRAME])
                # What is cut off is unpacked to something only by chance.
                readable[rows[first:last]] = end[first:last] <= start + len(data)
            except DAMAGED:
                for row in range(first, last):
                    readable[rows[row]] = self._unpack_one(
                        int(offset[row]), int(end[row]), unpack, words[rows[row]]
                    )

    def _unpack_one(self, offset: int, end: int, unpack: Unpack, words: NDArray[np.uint64]) -> bool:
        data = self._file.read(offset, end - offset)
        try:
            unpack(memoryview(data), words.data.cast("B"))
        except DAMAGED:
            return False
        return len(data) == end - offset
