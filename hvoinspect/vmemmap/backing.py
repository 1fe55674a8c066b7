"""Which frames are behind the vmemmap, and which blocks of memory the page allocator has free."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hvoinspect.vmemmap.distinct import Distinct

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


def backing_of(
    frames: Distinct,
    first_pfn: NDArray[np.uint64],
    free: NDArray[np.uint64],
    free_order: NDArray[np.uint64],
) -> Backing:
    """Return the `frames` behind a chunk of p vmemmap pages as runs, and its free blocks.

    `first_pfn` uint64[p]: of the first struct page that begins in each vmemmap page. `free_order`
    is taken for MAX_FREE_ORDER at most, whatever the memory says.
    """
    goes_on = (np.diff(frames.values) == 1) & (np.diff(frames.first) == 1)
    starts = np.flatnonzero(np.concatenate([[True], ~goes_on])[: len(frames.values)])
    return Backing(
        frames.values[starts],
        np.diff(np.append(starts, len(frames.values))).astype(np.uint64),
        first_pfn[frames.first[starts]],
        free,
        np.minimum(free_order, np.uint64(MAX_FREE_ORDER)),
    )


def all_backing(parts: list[Backing]) -> Backing:
    """Put the backing of many chunks together."""
    return Backing(
        np.concatenate([part.frame for part in parts]),
        np.concatenate([part.count for part in parts]),
        np.concatenate([part.pfn for part in parts]),
        np.concatenate([part.free for part in parts]),
        np.concatenate([part.free_order for part in parts]),
    )
