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
from pathlib import Path
from typing import Any

import deflate
import numpy as np
from numpy.typing import NDArray

from hvoinspect.target.dumpfile import PROGRAM_HEADER, PT_LOAD
from hvoinspect.target.layout import Kernel
from hvoinspect.target.memory import FRAME, RUN
from hvoinspect.vmemmap.pagetable import Directory, Maps, map_pages, walk_directory

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


def elf_reader(path: Path, frames: NDArray[np.uint64], jobs: int) -> Callable[[], int]:
    """Return what reads `frames` from an ELF dump, in `jobs` processes, and returns how many bytes.

    Consecutive frames are read at once, up to RUN, always to the same place.
    """
    head = _start(path)
    (table,), (count,) = struct.unpack_from("<Q", head, 32), struct.unpack_from("<H", head, 56)
    headers = np.fromfile(path, PROGRAM_HEADER, count, offset=table)
    loads = headers[(headers["type"] == PT_LOAD) & (headers["file_size"] > 0)]
    loads = loads[np.argsort(loads["physical"], kind="stable")]
    address = frames << np.uint64(12)
    at = np.searchsorted(loads["physical"], address, side="right") - 1
    where = address - loads["physical"][at] + loads["offset"][at]
    breaks = np.flatnonzero(np.diff(where) != FRAME) + 1
    starts = np.concatenate([[0], breaks])
    ends = np.concatenate([breaks, [len(where)]])
    runs = [
        (int(where[first]), min(RUN, high - first) * FRAME)
        for low, high in zip(starts.tolist(), ends.tolist(), strict=True)
        for first in range(low, high, RUN)
    ]
    return functools.partial(_in_processes, functools.partial(_read, path), runs, jobs)


def kdump_reader(path: Path, frames: NDArray[np.uint64], jobs: int) -> Callable[[], int]:
    """Return what unpacks `frames` from a kdump file packed by zlib, as `elf_reader`."""
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


def _read(path: Path, runs: list[tuple[int, int]]) -> int:
    place = memoryview(bytearray(RUN * FRAME))
    done = 0
    with path.open("rb", buffering=0) as file:
        descriptor = file.fileno()
        for offset, size in runs:
            done += os.preadv(descriptor, [place[:size]], offset)
    return done


def _unpack(path: Path, pages: list[tuple[int, int, int]]) -> int:
    done = 0
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as data:
        for offset, size, flags in pages:
            page = data[offset : offset + size]
            done += len(deflate.zlib_decompress(page, FRAME) if flags & _ZLIB else page)
    return done
