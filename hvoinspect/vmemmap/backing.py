"""Which frames are behind the vmemmap, and which blocks of memory the page allocator has free."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from hvoinspect.target.layout import VMEMMAP_PAGE
from hvoinspect.target.ranges import each_once
from hvoinspect.vmemmap.distinct import Distinct

MAX_FREE_ORDER = 20
"""More than any kernel's largest free block (include/linux/mmzone.h, MAX_PAGE_ORDER)."""


@dataclass(frozen=True)
class Backing:
    """Frames behind vmemmap pages, and free blocks, of one chunk or of many.

    `frame`, `count`, uint64[r]: runs of consecutive frames behind consecutive vmemmap pages, each
    once; `pfn` uint64[r]: of the first struct page that lies in them. `shared` uint64[s]: frames
    that are mapped more than once in one chunk; `shared_pfn` uint64[s, 2]: the first struct pages
    on the first and on the last vmemmap page there. `free` uint64[b]: the pfn at the start of each
    free block, and `free_order` uint64[b], its order.
    """

    frame: NDArray[np.uint64]
    count: NDArray[np.uint64]
    pfn: NDArray[np.uint64]
    shared: NDArray[np.uint64]
    shared_pfn: NDArray[np.uint64]
    free: NDArray[np.uint64]
    free_order: NDArray[np.uint64]

    def pfns_on(self, frame: np.uint64, page_size: int) -> tuple[int, ...]:
        """Return struct pages on `frame`: of each chunk one where it is mapped first, and last.

        `page_size`: bytes of a struct page.
        """
        after = frame - self.frame
        here = (self.frame <= frame) & (after < self.count)
        each = np.uint64(max(1, VMEMMAP_PAGE // page_size))
        first = self.pfn[here] + after[here] * each
        again = self.shared_pfn[self.shared == frame].ravel()
        return tuple(each_once(np.concatenate([first, again])).tolist())


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
    again = np.flatnonzero(frames.times > 1)
    return Backing(
        frame=frames.values[starts],
        count=np.diff(np.append(starts, len(frames.values))).astype(np.uint64),
        pfn=first_pfn[frames.first[starts]],
        shared=frames.values[again],
        shared_pfn=first_pfn[np.stack([frames.first[again], frames.last[again]], axis=1)],
        free=free,
        free_order=np.minimum(free_order, np.uint64(MAX_FREE_ORDER)),
    )


def all_backing(parts: list[Backing]) -> Backing:
    """Put the backing of many chunks together."""
    return Backing(
        *(np.concatenate([getattr(p, field.name) for p in parts]) for field in fields(Backing))
    )
