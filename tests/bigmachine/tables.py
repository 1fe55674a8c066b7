"""Where the frames of a made-up machine's vmemmap are, and the page tables that map them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tests.bigmachine.makeup import (
    FIRST_NORMAL,
    HOLE,
    HUGE_PER_UNIT,
    HUGEPAGES,
    IMAGE_FRAMES,
    SPLIT,
    UNIT_BLOCKS,
    UNIT_FRAMES,
    UNIT_PAGES,
    Makeup,
    Unit,
    Use,
)
from tests.madeup import LEAF, PRESENT, WRITABLE

ENTRIES = 512
BLOCKS_PER_PMD_TABLE = ENTRIES
PAGES_PER_HUGE = 8


@dataclass(frozen=True)
class Placed:
    """Where a unit's vmemmap is, as pfns.

    `frame`: the first of its own frames, 4,096 or one a hugepage. `table`: the first of its 8 page
    tables, if it is split. `tail`: the zone's frame behind its tails; -1 if that is its head's.
    """

    unit: Unit
    frame: int
    table: int = -1
    tail: int = -1


@dataclass(frozen=True)
class Layout:
    """Where all of a machine's vmemmap is.

    `upper`: pfn of the table that its top-level entry leads to, before `middle` tables of the next
    level. `shared`: (node, zone, order) -> pfn of the frame for the tails.
    """

    placed: tuple[Placed, ...]
    upper: int
    middle: int
    shared: dict[tuple[int, int, int], int]


def lay_out(makeup: Makeup) -> Layout:
    """Give everything a place in what is reserved: on each node its own."""
    upper = IMAGE_FRAMES
    middle = -(-(makeup.units[-1].gib + 1) * UNIT_BLOCKS // BLOCKS_PER_PMD_TABLE)
    placed: list[Placed] = []
    shared: dict[tuple[int, int, int], int] = {}
    for node in range(makeup.nodes):
        units = [unit for unit in makeup.units if unit.node == node]
        at = upper + 1 + middle if node == 0 else units[0].gib * UNIT_PAGES
        for key in makeup.shared_tails:
            if key[0] == node:
                shared[key] = at
                at += 1
        for unit in units:
            if unit.use in SPLIT:
                order, count, _ = HUGEPAGES[unit.use]
                at = _past_hole(at, UNIT_BLOCKS + count)
                tail = shared.get((node, unit.zone, order), -1)
                placed.append(Placed(unit, at + UNIT_BLOCKS, at, tail))
                at += UNIT_BLOCKS + count
        at = -(-at // ENTRIES) * ENTRIES
        for unit in units:
            if unit.use not in SPLIT:
                at = _past_hole(at, UNIT_FRAMES)
                placed.append(Placed(unit, at))
                at += UNIT_FRAMES
    return Layout(tuple(placed), upper, middle, shared)


def upper_tables(layout: Layout) -> NDArray[np.uint64]:
    """Return the tables at `layout.upper` and behind it: uint64[1 + middle, 512]."""
    tables = np.zeros((1 + layout.middle, ENTRIES), np.uint64)
    first = layout.upper + 1
    tables[0, : layout.middle] = _entry(np.arange(first, first + layout.middle), WRITABLE)
    entries = tables[1:].reshape(-1)
    for placed in layout.placed:
        at = placed.unit.gib * UNIT_BLOCKS
        block = np.arange(UNIT_BLOCKS)
        if placed.unit.use in SPLIT:
            entries[at : at + UNIT_BLOCKS] = _entry(placed.table + block, WRITABLE)
        else:
            frames = placed.frame + ENTRIES * block
            entries[at : at + UNIT_BLOCKS] = _entry(frames, WRITABLE | LEAF)
    return tables


def page_tables(placed: Placed) -> NDArray[np.uint64]:
    """Return the page tables of a split unit: uint64[8, 512].

    Heads first: the kernel takes their frames in descending order (measured on 7.0 and 7.1).
    """
    entries = np.empty(UNIT_FRAMES, np.uint64)
    if placed.unit.use is Use.GIGANTIC:
        heads, every = np.array([placed.frame]), UNIT_FRAMES
    else:
        heads = placed.frame + np.arange(HUGE_PER_UNIT)[::-1]
        every = PAGES_PER_HUGE
    tails = heads if placed.tail == -1 else np.full(len(heads), placed.tail)
    entries[:] = _entry(np.repeat(tails, every), 0)
    entries[::every] = _entry(heads, WRITABLE)
    return entries.reshape(UNIT_BLOCKS, ENTRIES)


def _past_hole(frame: int, count: int) -> int:
    """Return where `count` frames can be from `frame` on."""
    meets = frame < FIRST_NORMAL * UNIT_PAGES and frame + count > HOLE * UNIT_PAGES
    return FIRST_NORMAL * UNIT_PAGES if meets else frame


def _entry(frame: NDArray[np.int64], flags: int) -> NDArray[np.uint64]:
    return frame.astype(np.uint64) << np.uint64(12) | np.uint64(PRESENT | flags)
