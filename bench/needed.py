"""Which frames an exhaustive scan cannot do without, and how long merely getting at them takes.

Every distinct frame behind the vmemmap, and the page tables that tell which those are. This is a
bound and no scan: nothing is looked at.
"""

from __future__ import annotations

import functools
import mmap
import multiprocessing
import os
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import deflate
import numpy as np
from numpy.typing import NDArray

from hvoinspect.target.kcore import read_program_headers
from hvoinspect.target.layout import Kernel, StructPage
from hvoinspect.target.memory import FRAME, RUN, Memory, runs
from hvoinspect.target.openfile import OpenFile
from hvoinspect.target.segments import Segments
from hvoinspect.vmemmap.pagetable import Directory, Maps, map_pages, walk_directory
from hvoinspect.vmemmap.scan import scan

Run = tuple[int, int]
"""Bytes that are read at once: their offset in a file, and how many."""
BLOCKS = 4096
"""How many blocks of 2 MiB are looked at at a time."""
_STATUS_END = 428
_ZLIB = 1
_DESC = np.dtype([("offset", "<u8"), ("size", "<u4"), ("flags", "<u4"), ("page_flags", "<u8")])


def needed_frames(kernel: Kernel) -> NDArray[np.uint64]:
    """Return the pfns of those frames, each once and ascending: uint64[n]."""
    directory = walk_directory(kernel.memory, kernel.paging, kernel.vmemmap, kernel.vmemmap_end)
    tables = directory.target[directory.maps == Maps.PTE_TABLE] >> np.uint64(12)
    found = [np.unique(tables)]
    for first in range(0, len(directory), BLOCKS):
        piece = Directory(*(array[first : first + BLOCKS] for array in _arrays(directory)))
        pages = map_pages(kernel.memory, kernel.paging, piece)
        found.append(np.unique(pages.frame[pages.present]))
    return np.unique(np.concatenate(found))


def _arrays(directory: Directory) -> tuple[NDArray[Any], ...]:
    return directory.address, directory.maps, directory.target, directory.writable


def default_frames(kernel: Kernel) -> NDArray[np.uint64]:
    """Return the pfns of the frames that a default scan of `kernel` reads, as `needed_frames`."""
    noting = _Noting(kernel.memory)
    scan(replace(kernel, memory=noting), jobs=1)
    return np.unique(np.concatenate(noting.pfns))


class _Noting:
    """Reads `memory`, and notes the pfns of what it reads."""

    forkable = False

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self.pfns: list[NDArray[np.uint64]] = []

    def read(self, address: int, size: int) -> bytes:
        first, last = address // FRAME, (address + size - 1) // FRAME
        self.pfns.append(np.arange(first, last + 1, dtype=np.uint64))
        return self._memory.read(address, size)

    def read_frames(self, pfns: NDArray[np.uint64], words: NDArray[np.uint64]) -> NDArray[np.bool_]:
        self.pfns.append(pfns.copy())
        return self._memory.read_frames(pfns, words)


def core_reader(
    path: Path, frames: NDArray[np.uint64], jobs: int, page: StructPage | None = None
) -> Callable[[], int]:
    """Return what reads `frames` from an ELF core, in `jobs` processes, and returns how many bytes.

    Consecutive frames are read at once, up to RUN, always to the same place. With `page` NumPy also
    copies those bytes of each struct page that it has to look at to tell what it is.
    """
    where, _ = Segments.of(read_program_headers(OpenFile(path))).places(frames)
    where = where[where >= 0]
    pieces = [
        (int(where[first]), (last - first) * FRAME) for first, last in runs(np.diff(where) == FRAME)
    ]
    gathered, each = (_looked_at(page), page.size) if page else ([], FRAME)
    work = functools.partial(_read, path, gathered, each)
    return functools.partial(_in_processes, work, pieces, jobs)


def _looked_at(page: StructPage) -> list[int]:
    """Return the offsets of the bytes without which nobody knows what a struct page is.

    Whether it is a tail, whether a head, and whether the first of a free block.
    """
    offsets = [page.compound, page.flags + (page.head_bit.bit_length() - 1) // 8]
    if page.buddy is not None:
        offsets.append(page.buddy.where.offset + page.buddy.bits.shift // 8)
    return offsets


def kdump_reader(path: Path, frames: NDArray[np.uint64], jobs: int) -> Callable[[], int]:
    """Return what unpacks `frames` from a kdump file packed by zlib, as `core_reader`."""
    head = _start(path)
    block, sub_headers, bitmaps = struct.unpack_from("<III", head, _STATUS_END)
    half = bitmaps // 2 * block
    bitmap = np.fromfile(path, np.uint8, half, offset=(1 + sub_headers) * block + half)
    bits = np.unpackbits(bitmap, bitorder="little")
    rank = np.cumsum(bits, dtype=np.int64) - 1
    start = (1 + sub_headers + bitmaps) * block
    descriptors = np.fromfile(path, _DESC, int(bits.sum()), offset=start)
    pages = descriptors[rank[frames[bits[frames] != 0]]]
    pieces = list(zip(*(pages[name].tolist() for name in ("offset", "size", "flags")), strict=True))
    return functools.partial(_in_processes, functools.partial(_unpack, path), pieces, jobs)


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(FRAME)


def _in_processes(work: Callable[[list[Any]], int], pieces: list[Any], jobs: int) -> int:
    if jobs == 1:
        return work(pieces)
    each = -(-len(pieces) // jobs)
    # By fork, so that what is to be done need not be sent.
    context = multiprocessing.get_context("fork")
    done: multiprocessing.SimpleQueue[int] = context.SimpleQueue()
    workers = [
        context.Process(target=lambda share=pieces[at : at + each]: done.put(work(share)))
        for at in range(0, len(pieces), each)
    ]
    for worker in workers:
        worker.start()
    total = sum(done.get() for _ in workers)
    for worker in workers:
        worker.join()
    return total


def _read(path: Path, gathered: list[int], each: int, runs: list[Run]) -> int:
    place = np.zeros(RUN * FRAME, np.uint8)
    view = place.data
    done = 0
    with path.open("rb", buffering=0) as file:
        descriptor = file.fileno()
        for offset, size in runs:
            done += os.preadv(descriptor, [view[:size]], offset)
            for at in gathered:
                done += len(place[at:size:each].copy())
    return done


def _unpack(path: Path, pages: list[tuple[int, int, int]]) -> int:
    done = 0
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as data:
        for offset, size, flags in pages:
            page = data[offset : offset + size]
            done += len(deflate.zlib_decompress(page, FRAME) if flags & _ZLIB else page)
    return done
