"""What memdesc each struct page of a chunk holds under a model, and what the rule makes of it.

As `quick.py` does, by vmemmap page where all of one is alike: singles, or the tails of one head.
Of such a page a few struct pages stand for all. Only the others are looked at one by one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hvoinspect.target.layout import VMEMMAP_PAGE, Descriptors, Kernel, PageField
from hvoinspect.vmemmap.chunks import MappedPages, in_sections, read_chunk
from hvoinspect.vmemmap.descriptor_frames import UNPLACED, Frames, encodings_in, places_of
from hvoinspect.vmemmap.detail import free_blocks
from hvoinspect.vmemmap.holds import Holds, StructPages, singles
from hvoinspect.vmemmap.memdesc import NULL, Cells, Model, Verdict, judge
from hvoinspect.vmemmap.pages import UNKNOWN_HEAD, Encoding, PageClass
from hvoinspect.vmemmap.quick import can_be_quick

EXAMPLES = 4
"""Struct pages of one verdict that are kept of a chunk."""
OFFLINE = -1
"""In place of a node and zone, as UNPLACED."""


@dataclass(frozen=True)
class Rows:
    """What r rows of consecutive struct pages come to, `per` struct pages each.

    `there` bool[r]: there are struct pages, readable or not. `first`, `last`, uint64[r]: what the
    first and the last of them holds; UNKNOWN_HEAD where that is not known, NULL where none is
    there. `first_tail` bool[r]. `verdicts` int32[r, 8]: how many get each Verdict, of all struct
    pages but the first of each row. `examples`: the pfns of a few of those, uint64.
    """

    first_pfn: int
    per: int
    there: NDArray[np.bool_]
    first: NDArray[np.uint64]
    last: NDArray[np.uint64]
    first_tail: NDArray[np.bool_]
    verdicts: NDArray[np.int32]
    examples: dict[Verdict, NDArray[np.uint64]] = field(default_factory=dict)

    @property
    def pfn(self) -> NDArray[np.uint64]:
        """The pfn of the first struct page of each row, uint64[r]."""
        rows = np.arange(len(self.there), dtype=np.uint64)
        return rows * np.uint64(self.per) + np.uint64(self.first_pfn)


class Look(NamedTuple):
    """What a look at a chunk of p vmemmap pages came to.

    `mapped` bool[p]: mapped, or not known not to be. `place` int64[p]: node << 8 | zone, by the
    first struct page that begins in each, or OFFLINE, or UNPLACED. `offline`: how many struct pages
    there are of offline sections. `encodings`: of the tails that are no fake heads.
    """

    rows: Rows
    mapped: NDArray[np.bool_]
    place: NDArray[np.int64]
    offline: int
    encodings: frozenset[Encoding]


def look(
    kernel: Kernel, more: Descriptors, model: Model, first_pfn: int, mapped: MappedPages
) -> Look:
    """Look at the chunk from `first_pfn` on, whose p vmemmap pages are `mapped`; read all of it."""
    how = _by_frame if can_be_quick(kernel) else _by_struct_page
    return how(kernel, more, model, first_pfn, mapped)


def _no_rows(first_pfn: int, per: int, there: NDArray[np.bool_]) -> Rows:
    """Return rows of which nothing is known yet."""
    rows = Rows(
        first_pfn,
        per,
        there,
        np.where(there, UNKNOWN_HEAD, NULL),
        np.where(there, UNKNOWN_HEAD, NULL),
        np.zeros(len(there), np.bool_),
        np.zeros((len(there), len(Verdict)), np.int32),
    )
    rows.verdicts[there, Verdict.UNJUDGED] = per - 1
    return rows


def _add(rows: Rows, at: NDArray[np.intp], holds: Holds, pages: StructPages) -> None:
    """Note of the rows `at`, intp[v], what their struct pages hold, and the verdict on each."""
    held = holds.memdesc(pages)
    rows.first[at], rows.last[at] = held[:, 0], held[:, -1]
    rows.first_tail[at] = pages.tail[:, 0]
    inner = Cells(pages.own[:, 1:], held[:, 1:], pages.tail[:, 1:])
    verdict = judge(inner, held[:, :-1], False, holds.model)
    rows.verdicts[at] = 0
    for value in np.flatnonzero(np.bincount(verdict.ravel())).tolist():
        here = verdict == value
        rows.verdicts[at, value] = here.sum(axis=1)
        _note_examples(rows, value, inner.own[here])


def _add_alike(
    rows: Rows, at: NDArray[np.intp], held: NDArray[np.uint64], verdict: NDArray[np.intp]
) -> None:
    """Note of the rows `at`, intp[v], that all struct pages but the first get the same verdict.

    `held` uint64[v, 2]: what the first and the last hold. `verdict` intp[v].
    """
    rows.first[at], rows.last[at] = held[:, 0], held[:, 1]
    rows.verdicts[at] = 0
    rows.verdicts[at, verdict] = rows.per - 1
    for value in np.flatnonzero(np.bincount(verdict)).tolist():
        _note_examples(rows, value, rows.pfn[at[verdict == value]] + np.uint64(1))


def _note_examples(rows: Rows, value: int, pfns: NDArray[np.uint64]) -> None:
    if value > Verdict.AGREES and len(pfns):
        known = rows.examples.get(Verdict(value), pfns[:0])
        rows.examples[Verdict(value)] = np.append(known, pfns[:EXAMPLES])[:EXAMPLES]


# Struct pages that fill frames evenly, by vmemmap page and frame.


def _by_frame(
    kernel: Kernel, more: Descriptors, model: Model, first_pfn: int, mapped: MappedPages
) -> Look:
    count, per = len(mapped.frame), VMEMMAP_PAGE // kernel.page.size
    present, online = in_sections(kernel, first_pfn, count * per, per)
    there = present & (mapped.present | mapped.unknown)
    offline = there & ~online
    read = Frames(kernel, more, model, first_pfn, mapped)
    read.all(there & online & mapped.present)
    rows = _no_rows(first_pfn, per, there)
    holds = Holds(model, first_pfn, count * per, *read.free(), read.unnamed())

    single, divided = read.is_single(), holds.divided(per)
    _add_singles(rows, np.flatnonzero(single & ~divided), holds)
    at = np.flatnonzero(single & divided)
    own = np.add.outer(rows.pfn[at], np.arange(per, dtype=np.uint64))
    _add(rows, at, holds, singles(own))
    # Offline memory is nobody's to be free.
    nothing = (np.zeros(0, np.uint64) for _ in range(3))
    _add_singles(rows, np.flatnonzero(offline), Holds(model, first_pfn, count * per, *nothing))
    _add_tails(rows, *read.tails(), holds)
    for at, pages in read.varied:
        _add(rows, at, holds, pages)

    place = read.places()
    place[offline] = OFFLINE
    place[mapped.unknown | ~mapped.present] = UNPLACED
    return Look(
        rows,
        mapped.present | mapped.unknown,
        place,
        int(offline.sum()) * per,
        read.encodings,
    )


def _add_singles(rows: Rows, at: NDArray[np.intp], holds: Holds) -> None:
    """Note the rows `at`, intp[s], that have singles only, all of one free block, or of none."""
    own = rows.pfn[at][:, None] + np.array([0, rows.per - 1], np.uint64)
    held = holds.memdesc(singles(own))
    is_free = (held != own).any(axis=1)
    _add_alike(rows, at, held, np.where(is_free, Verdict.FREE, Verdict.AGREES))


def _add_tails(
    rows: Rows,
    at: NDArray[np.intp],
    head: NDArray[np.uint64],
    begins: NDArray[np.bool_],
    holds: Holds,
) -> None:
    """Note the rows `at`, intp[t], that have tails of one head, as `Frames.tails` returns them."""
    own, unnamed = rows.pfn[at], holds.is_unnamed(head)
    last = np.where(unnamed, own + np.uint64(rows.per - 1), head)
    held = np.stack([np.where(begins | unnamed, own, head), last], axis=1)
    verdict = np.where(unnamed, Verdict.UNNAMED, Verdict.AGREES)
    verdict[head == UNKNOWN_HEAD] = Verdict.UNJUDGED
    _add_alike(rows, at, held, verdict)
    rows.first_tail[at] = ~begins
    # The first tail of a head that it does not lead to.
    astray = at[begins & (head != own) & (verdict == Verdict.AGREES)]
    rows.verdicts[astray, Verdict.AGREES] -= 1
    rows.verdicts[astray, Verdict.ASTRAY] += 1
    _note_examples(rows, Verdict.ASTRAY, rows.pfn[astray] + np.uint64(1))


# Struct pages of any size, one by one.


def _by_struct_page(
    kernel: Kernel, more: Descriptors, model: Model, first_pfn: int, mapped: MappedPages
) -> Look:
    chunk = read_chunk(kernel, mapped, first_pfn)
    kind, page = chunk.pages.kind, kernel.page
    there = kind != PageClass.HOLE
    rows = _no_rows(first_pfn, 1, there)
    free = free_blocks(kernel, chunk)
    heads = np.flatnonzero(kind == PageClass.HEAD).astype(np.uint64) + np.uint64(first_pfn)
    if model.others == "itself":
        for mark in (page.hugetlb, more.slab, more.table):
            if mark is not None:
                heads = heads[~mark.among(chunk.values(heads, mark.where))]
        if page.mapping is not None:
            heads = heads[chunk.values(heads, PageField(0, page.mapping, 8)) == 0]
    if model.free == "itself":
        free = free[:0]
    if model.others == "one":
        heads = heads[:0]
    order = chunk.values(free, PageField(0, page.private, 8))
    holds = Holds(model, first_pfn, len(kind), free, order, heads)
    tail = (kind == PageClass.TAIL) | (kind == PageClass.FAKE_HEAD)
    at = np.flatnonzero(there)
    own, head = rows.pfn[at][:, None], chunk.pages.head[at][:, None]
    begins = (kind == PageClass.HEAD)[at][:, None]
    _add(rows, at, holds, StructPages(own, head, tail[at][:, None], begins))

    first = -(-np.arange(len(mapped.frame)) * VMEMMAP_PAGE // page.size)
    place = places_of(chunk.content.words_of(first, page.flags), page)
    place[~chunk.read] = UNPLACED
    offline = ~chunk.online & there
    place[offline[np.minimum(first, len(offline) - 1)]] = OFFLINE
    encodings = encodings_in(chunk.pages.encoding)
    return Look(rows, mapped.present | mapped.unknown, place, int(offline.sum()), encodings)
