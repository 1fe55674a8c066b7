"""Which frames are behind the vmemmap, and which blocks of memory the page allocator has free."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hvoinspect.target.layout import VMEMMAP_PAGE, Kernel, PageField
from hvoinspect.vmemmap.chunks import CHUNK_PAGES, Chunk
from hvoinspect.vmemmap.pages import PageClass

MAX_FREE_ORDER = 20
"""More than any kernel's largest free block (include/linux/mmzone.h, MAX_PAGE_ORDER)."""


@dataclass(frozen=True)
class Backing:
    """Frames behind vmemmap pages, and free blocks, of one chunk or of many.

    `frame`, `count`, uint64[r]: runs of consecutive frames behind consecutive vmemmap pages, each
    once; `pfn` uint64[r]: of the first struct page that lies in them. `free` uint64[b]: the pfn at
    the start of each free block, and `free_order` uint64[b], its order.
    """

    frame: NDArray[np.uint64]
    count: NDArray[np.uint64]
    pfn: NDArray[np.uint64]
    free: NDArray[np.uint64]
    free_order: NDArray[np.uint64]


def backing_of(kernel: Kernel, chunk: Chunk) -> Backing:
    """Return the frames behind `chunk`, and the free blocks that begin in it."""
    used = np.flatnonzero(chunk.present)
    frame = chunk.frame[used]
    starts = np.flatnonzero(
        (np.diff(used, prepend=-2) != 1) | (np.diff(frame.astype(np.int64), prepend=-2) != 1)
    )
    count = np.diff(np.append(starts, len(used))).astype(np.uint64)
    runs, first = np.unique(np.stack([frame[starts], count], axis=1), axis=0, return_index=True)
    at = used[starts[first]].astype(np.uint64) * np.uint64(VMEMMAP_PAGE)
    pfn = -(-at.astype(np.int64) // kernel.page.size)
    free = _free_blocks(kernel, chunk)
    order = chunk.values(free, PageField(0, kernel.page.private, 8))
    return Backing(
        runs[:, 0],
        runs[:, 1],
        pfn.astype(np.uint64) + np.uint64(chunk.first_pfn),
        free,
        np.minimum(order, np.uint64(MAX_FREE_ORDER)),
    )


def _free_blocks(kernel: Kernel, chunk: Chunk) -> NDArray[np.uint64]:
    """Return the pfns of the struct pages marked as the first of a free block."""
    mark = kernel.page.buddy
    if mark is None:
        return np.zeros(0, np.uint64)
    shift = np.uint64(8 * (mark.where.offset & 7) + mark.bits.shift)
    mask, value = np.uint64(mark.bits.mask) << shift, np.uint64(mark.value) << shift
    marked = chunk.content.matches(CHUNK_PAGES, mark.where.offset & ~7, mask, value)
    free = np.flatnonzero(marked & (chunk.pages.kind == PageClass.SINGLE) & chunk.online)
    return free.astype(np.uint64) + np.uint64(chunk.first_pfn)


def all_backing(parts: list[Backing]) -> Backing:
    """Put the backing of many chunks together."""
    return Backing(
        np.concatenate([part.frame for part in parts]),
        np.concatenate([part.count for part in parts]),
        np.concatenate([part.pfn for part in parts]),
        np.concatenate([part.free for part in parts]),
        np.concatenate([part.free_order for part in parts]),
    )
