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


class Holds:
    """Tells what struct pages hold under a model.

    `free`, `order`, uint64[b]: the pfn of each free block, and its order. `unnamed` uint64[u]: the
    heads of compound pages that are neither folio, slab nor page table.
    """

    def __init__(
        self,
        model: Model,
        free: NDArray[np.uint64],
        order: NDArray[np.uint64],
        unnamed: NDArray[np.uint64],
    ) -> None:
        self.model = model
        self._unnamed = unnamed
        sort = np.argsort(free)
        start, length = free[sort], np.minimum(order[sort], np.uint64(MAX_FREE_ORDER))
        end = np.maximum.accumulate(start + (np.uint64(1) << length))
        # Blocks that overlap are damage: what is in two is in the one that begins first.
        start = np.maximum(start, np.append(np.uint64(0), end[:-1])[: len(start)])
        self._start, self._end = start[start < end], end[start < end]

    def memdesc(self, cells: StructPages) -> NDArray[np.uint64]:
        """Return what struct pages hold: uint64, shaped as they are."""
        held = cells.head
        if len(self._unnamed):
            itself = cells.tail & np.isin(cells.head, self._unnamed)
            held = np.where(itself, cells.own, held)
        if len(self._start):
            at = self._at(cells.own)
            free = (self._start[at] <= cells.own) & (cells.own < self._end[at])
            free &= ~cells.tail & ~cells.begins & (cells.head != UNKNOWN_HEAD)
            held = np.where(free, NULL if self.model.free == "null" else self._start[at], held)
        return held

    def divided(self, pfn: NDArray[np.uint64], pages: int) -> NDArray[np.bool_]:
        """Tell of the `pages` struct pages from each `pfn` on whether a block begins or ends there.

        That is, whether not all of them are in one, or all in none.
        """
        if not len(self._start):
            return np.zeros(len(pfn), np.bool_)
        at, end = self._at(pfn), pfn + np.uint64(pages)
        touched = (self._start[at] < end) & (pfn < self._end[at])
        return np.asarray(touched & ~((self._start[at] <= pfn) & (end <= self._end[at])))

    def _at(self, pfn: NDArray[np.uint64]) -> NDArray[np.intp]:
        """Return the first block that ends after each pfn; the last one where none does."""
        return np.minimum(np.searchsorted(self._end, pfn, "right"), len(self._end) - 1)
