"""Physical memory in a kdump-compressed file."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable

import cramjam
import deflate
import numpy as np
from lzallright import LZOCompressor, LZOError
from numpy.typing import NDArray

from hvoinspect.target.kdump import KdumpPages
from hvoinspect.target.memory import FRAME, WORDS, ByFrames, runs
from hvoinspect.target.openfile import MAX_OFFSET, OpenFile

ZLIB, LZO, SNAPPY, ZSTD = 0x1, 0x2, 0x4, 0x20
"""page_desc.flags: how a page is packed; without any it is not (diskdump_mod.h)."""
PACKED = np.uint32(ZLIB | LZO | SNAPPY | ZSTD)
MAX_GAP = 1 << 14
"""Bytes that are read though nobody wants them, rather than to read twice."""

Unpack = Callable[[memoryview], bytes | bytearray]
"""Returns the page that is packed in some bytes; raises one of DAMAGED."""


def _into(unpack: Callable[[memoryview, bytearray], int], data: memoryview) -> bytes | bytearray:
    page = bytearray(FRAME)
    return page if unpack(data, page) == FRAME else b""


# None of these gives more than a page, or little more, whatever the file says. libdeflate unpacks
# 1.5 times as fast as zlib.
UNPACK: dict[int, Unpack] = {
    ZLIB: lambda data: deflate.zlib_decompress(data, FRAME),
    LZO: lambda data: LZOCompressor.decompress(data, FRAME),
    SNAPPY: lambda data: _into(cramjam.snappy.decompress_raw_into, data),
    ZSTD: lambda data: _into(cramjam.zstd.decompress_into, data),
}
DAMAGED = (deflate.DeflateError, LZOError, cramjam.DecompressionError)


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
        for first, last in runs(near):
            places = list(zip(offset[first:last].tolist(), end[first:last].tolist(), strict=True))
            content = self._content(places, int(end[first:last].max()), unpack)
            whole = [len(page) == FRAME for page in content]
            done = rows[first:last][whole]
            joined = b"".join(itertools.compress(content, whole))
            words[done] = np.frombuffer(joined, "<u8").reshape(-1, WORDS)
            readable[done] = True

    def _content(
        self, places: list[tuple[int, int]], end: int, unpack: Unpack
    ) -> list[bytes | bytearray]:
        """Return the pages that are packed between some offsets, empty where one cannot be had."""
        start = places[0][0]
        data = memoryview(self._file.read(start, end - start))
        if len(data) == end - start:
            with contextlib.suppress(*DAMAGED):
                return [unpack(data[low - start : high - start]) for low, high in places]
        # The file ends, fails or is damaged in the midst of it: page by page what is left.
        return [self._page(low, high, unpack) for low, high in places]

    def _page(self, low: int, high: int, unpack: Unpack) -> bytes | bytearray:
        data = self._file.read(low, high - low)
        if len(data) == high - low:
            with contextlib.suppress(*DAMAGED):
                return unpack(memoryview(data))
        return b""
