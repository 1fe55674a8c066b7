"""What memory holds under a model: memdescs of folios, slabs, free blocks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hvoinspect.vmemmap.backing import MAX_FREE_ORDER
from hvoinspect.vmemmap.memdesc import NULL, Model
from hvoinspect.vmemmap.pages import UNKNOWN_HEAD


class StructPages(NamedTuple):
    """Struct pages of v rows, c of each: `own`, `head`, uint64[v, c]; `tail`, `begins`, bool[v, c].

    `head` is the pfn of the head, or UNKNOWN_HEAD; `begins`: it begins a compound page.
    """

    own: NDArray[np.uint64]
    head: NDArray[np.uint64]
    tail: NDArray[np.bool_]
    begins: NDArray[np.bool_]


def singles(own: NDArray[np.uint64]) -> StructPages:
    """Return the struct pages of the pfns `own`, uint64[v, c], that belong to no compound page."""
    no = np.zeros(own.shape, np.bool_)
    return StructPages(own, own, no, no)


class Holds:
    """Tells what the `count` struct pages from `first_pfn` on hold under a model.

    `free`, `order`, uint64[b]: the pfn of each free block, and its order. `unnamed` uint64[u]: the
    heads of compound pages that are neither folio, slab nor page table.
    """

    def __init__(
        self,
        model: Model,
        first_pfn: int,
        count: int,
        free: NDArray[np.uint64],
        order: NDArray[np.uint64],
        unnamed: NDArray[np.uint64],
    ) -> None:
        self.model = model
        self._first, self._count = np.uint64(first_pfn), count
        self._unnamed: NDArray[np.bool_] | None = None
        if len(unnamed):
            self._unnamed = np.zeros(count + 1, np.bool_)
            self._unnamed[(unnamed - self._first).astype(np.intp)] = True
        self._free: NDArray[np.bool_] | None = None
        if len(free):
            self._take_blocks(free - self._first, order)

    def _take_blocks(self, free: NDArray[np.uint64], order: NDArray[np.uint64]) -> None:
        sort = np.argsort(free)
        start = free[sort].astype(np.int64)
        order = np.minimum(order[sort], np.uint64(MAX_FREE_ORDER))
        length = np.left_shift(1, order.astype(np.int64))
        end = np.minimum(np.maximum.accumulate(start + length), self._count)
        # Blocks that overlap are damage: what is in two is in the one that begins first.
        start = np.maximum(start, np.append(0, end[:-1])[: len(start)])
        self._start, self._end = start[start < end], end[start < end]
        ends = np.append(np.stack([self._start, self._end], axis=1).ravel(), self._count)
        self._free = np.repeat(np.arange(len(ends)) % 2 == 1, np.diff(ends, prepend=0))

    def is_unnamed(self, head: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Tell which of the heads, uint64, lead compound pages whose pages hold themselves."""
        if self._unnamed is None:
            return np.zeros(head.shape, np.bool_)
        # What is beyond the chunk, on either side, is a large number.
        place = np.minimum(head - self._first, np.uint64(self._count))
        return np.asarray(self._unnamed[place.astype(np.intp)])

    def memdesc(self, pages: StructPages) -> NDArray[np.uint64]:
        """Return what struct pages hold: uint64, shaped as they are."""
        held = pages.head
        if self._unnamed is not None:
            held = np.where(pages.tail & self.is_unnamed(held), pages.own, held)
        if self._free is not None:
            place = (pages.own - self._first).astype(np.intp)
            free = self._free[place] & ~pages.tail & ~pages.begins
            free &= pages.head != UNKNOWN_HEAD
            held = np.where(free, NULL, held)
            if self.model.free == "block":
                at = np.searchsorted(self._end, place[free], "right")
                held[free] = self._start[at].astype(np.uint64) + self._first
        return held

    def divided(self, per: int) -> NDArray[np.bool_]:
        """Tell of each `per` struct pages whether a free block begins or ends amidst them: bool."""
        divided = np.zeros(self._count // per, np.bool_)
        if self._free is not None:
            for end in (self._start, self._end):
                divided[end[end % per != 0] // per] = True
        return divided
