"""The runs of a vmemmap, and what it would take to have memory in front of each.

A run is what is mapped without a gap. To compare a struct page with the one before it, the kernel
must be able to read in front of the first of a run: a page of zeros mapped there would do. It is
one and the same frame for all, but mapping it takes page tables where there are none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hvoinspect.target.directory import MAPPED, NOT_KNOWN, PMD_SHIFT, PUD_SHIFT
from hvoinspect.target.layout import VMEMMAP_PAGE, Kernel

LEVELS = (PMD_SHIFT, PUD_SHIFT, PUD_SHIFT + 9, PUD_SHIFT + 18)
"""What one table of each level maps, as a power of two, the lowest first: PTE, PMD, PUD, P4D."""


@dataclass(frozen=True)
class Spans:
    """Mapped stretches of the vmemmap, s of them, ascending, each of one place.

    `page`, `pages`, int64[s]: the first vmemmap page, counted from the vmemmap's address on, and
    how many. `place` int64[s]: as in `descriptors.Look`.
    """

    page: NDArray[np.int64]
    pages: NDArray[np.int64]
    place: NDArray[np.int64]


@dataclass(frozen=True)
class Runs:
    """The runs of a vmemmap, r of them, ascending.

    `start`, `bytes`, uint64[r]: address and length. `first_span` intp[r + 1]: which of `spans` is
    the first of each, and how many there are.
    """

    start: NDArray[np.uint64]
    bytes: NDArray[np.uint64]
    first_span: NDArray[np.intp]
    spans: Spans


@dataclass(frozen=True)
class Guard:
    """What a page of zeros in front of each run takes: how often it is mapped, and page tables.

    `unknown`: runs in front of which page tables cannot be read.
    """

    zero_pages: int
    pte_tables: int
    pmd_tables: int
    pud_tables: int
    p4d_tables: int
    unknown: int = 0


def spans_of(page: int, mapped: NDArray[np.bool_], place: NDArray[np.int64]) -> Spans:
    """Return the spans among p vmemmap pages from the one numbered `page` on.

    `mapped` bool[p]; `place` int64[p].
    """
    changes = (place[1:] != place[:-1]) | (mapped[1:] != mapped[:-1])
    start = np.flatnonzero(np.concatenate([[True], changes])[: len(mapped)])
    length = np.diff(np.append(start, len(mapped)))
    kept = mapped[start]
    return Spans((start + page)[kept], length[kept], place[start[kept]])


def runs_of(spans: list[Spans], vmemmap: int) -> Runs:
    """Return the runs that `spans` make, which are in ascending order."""
    page = np.concatenate([np.zeros(0, np.int64), *(some.page for some in spans)])
    pages = np.concatenate([np.zeros(0, np.int64), *(some.pages for some in spans)])
    place = np.concatenate([np.zeros(0, np.int64), *(some.place for some in spans)])
    gap = np.ones(len(page), np.bool_)
    gap[1:] = page[1:] != (page + pages)[:-1]
    begins = gap.copy()
    begins[1:] |= place[1:] != place[:-1]
    # What one chunk ends with and the next begins with is one span.
    first = np.flatnonzero(begins)
    merged = Spans(page[first], _sums(pages, first), place[first])
    first_span = np.append(np.flatnonzero(gap[first]), len(first))
    count = _sums(merged.pages, first_span[:-1])
    start = np.uint64(vmemmap) + merged.page[first_span[:-1]].astype(np.uint64) * np.uint64(
        VMEMMAP_PAGE
    )
    return Runs(start, count.astype(np.uint64) * np.uint64(VMEMMAP_PAGE), first_span, merged)


def _sums(values: NDArray[np.int64], first: NDArray[np.intp]) -> NDArray[np.int64]:
    """Return the sums of `values` from each of `first` to before the next: int64, as long."""
    return np.add.reduceat(values, first) if len(first) else values[:0]


def guard_of(start: NDArray[np.uint64], missing: NDArray[np.int8]) -> Guard:
    """Return what it takes to map a page in front of each `start`, uint64[r].

    `missing` int8[r]: how many levels of page tables are not there for that page, as
    `target.directory.missing_tables` says it.
    """
    page = start[missing >= 0] - np.uint64(1)
    levels = missing[missing >= 0]
    tables = [
        len(np.unique(page[levels > level] >> np.uint64(shift)))
        for level, shift in enumerate(LEVELS)
    ]
    pte, pmd, pud, p4d = tables
    return Guard(len(page), pte, pmd, pud, p4d, int((missing == NOT_KNOWN).sum()))


def worst_split(
    kernel: Kernel, block_sections: int
) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Return the runs that are left when every second memory block is taken away: start and end.

    Of memory blocks that follow one another the first stays. No choice of blocks makes more runs:
    in front of each there must be one that is not there. `block_sections`: sections of a block.
    """
    numbers = kernel.sections.numbers
    block = numbers // np.uint64(block_sections)
    blocks = np.unique(block)
    gap = np.ones(len(blocks), np.bool_)
    gap[1:] = np.diff(blocks) != 1
    rank = np.arange(len(blocks)) - np.maximum.accumulate(np.where(gap, np.arange(len(blocks)), 0))
    kept = numbers[np.isin(block, blocks[rank % 2 == 0])]
    span = np.uint64(kernel.sections.pages * kernel.page.size)
    begins = np.flatnonzero(np.concatenate([[True], np.diff(kept) != 1])[: len(kept)])
    start = np.uint64(kernel.vmemmap) + kept[begins] * span
    last = kept[np.append(begins[1:], len(kept)) - 1]
    return start, np.uint64(kernel.vmemmap) + (last + np.uint64(1)) * span


def missing_after(
    start: NDArray[np.uint64], end: NDArray[np.uint64], levels: int
) -> NDArray[np.int8]:
    """Return the levels of page tables that are missing in front of each run, int8[r].

    For runs from `start` to `end`, uint64[r], ascending, where page tables are there for these
    alone. `levels`: 4 or 5.
    """
    page = start - np.uint64(1)
    missing = np.zeros(len(start), np.int8)
    for shift in LEVELS[: levels - 1]:
        table = page >> np.uint64(shift) << np.uint64(shift)
        at = np.searchsorted(end, table, "right")
        last = table + np.uint64((1 << shift) - 1)
        in_use = start[np.minimum(at, len(start) - 1)] <= last
        missing += ~((at < len(start)) & in_use)
    before = np.append(np.uint64(0), end[:-1])[: len(start)]
    missing[before == start] = MAPPED
    return missing
