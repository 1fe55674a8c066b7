"""What memdesc each struct page of a chunk holds under a model, and what the rule makes of it.

As `quick.py` does, by vmemmap page where all of one is alike: singles, or the tails of one head.
Of such a page a few struct pages stand for all. Only the others are looked at one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hvoinspect.target.layout import VMEMMAP_PAGE, Descriptors, Kernel, PageField, StructPage
from hvoinspect.target.memory import WORDS
from hvoinspect.vmemmap.backing import MAX_FREE_ORDER
from hvoinspect.vmemmap.chunks import MappedPages, in_sections, read_chunk
from hvoinspect.vmemmap.detail import free_blocks
from hvoinspect.vmemmap.distinct import distinct
from hvoinspect.vmemmap.fields import bytes_at, marked, words_at
from hvoinspect.vmemmap.memdesc import NULL, Cells, Model, Verdict, judge
from hvoinspect.vmemmap.pages import UNKNOWN_HEAD, Encoding, PageClass, decode, lowest_mask
from hvoinspect.vmemmap.quick import BATCH, can_be_quick

EXAMPLES = 4
"""Struct pages of one verdict that are kept of a chunk."""
OFFLINE, UNPLACED = -1, -2
"""In place of a node and zone."""


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


class _Cells(NamedTuple):
    """Struct pages of v rows, c of each: `own`, `head`, uint64[v, c]; `tail`, `begins`, bool[v, c].

    `head` is the pfn of the head, or UNKNOWN_HEAD; `begins`: it begins a compound page.
    """

    own: NDArray[np.uint64]
    head: NDArray[np.uint64]
    tail: NDArray[np.bool_]
    begins: NDArray[np.bool_]


class _Holds:
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

    def memdesc(self, cells: _Cells) -> NDArray[np.uint64]:
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


def _add(
    rows: Rows,
    at: NDArray[np.intp],
    holds: _Holds,
    cells: _Cells,
    times: Sequence[int] | None = None,
) -> None:
    """Note of the rows `at`, intp[v], what their struct pages hold, and the verdict on them.

    `times`: for how many struct pages each column of `cells` stands, for itself if None. What is
    before a column's struct page is as the column before.
    """
    held = holds.memdesc(cells)
    rows.first[at], rows.last[at] = held[:, 0], held[:, -1]
    rows.first_tail[at] = cells.tail[:, 0]
    inner = Cells(cells.own[:, 1:], held[:, 1:], cells.tail[:, 1:])
    verdict = judge(inner, held[:, :-1], False, UNKNOWN_HEAD, holds.model)
    rows.verdicts[at] = 0
    for value in np.flatnonzero(np.bincount(verdict.ravel())).tolist():
        here = verdict == value
        rows.verdicts[at, value] = here.sum(axis=1) if times is None else here @ times[1:]
        if value > Verdict.AGREES:
            known = rows.examples.get(Verdict(value), np.zeros(0, np.uint64))
            rows.examples[Verdict(value)] = np.append(known, inner.own[here][:EXAMPLES])[:EXAMPLES]


# Struct pages that fill frames evenly, by vmemmap page and frame.


def _by_frame(
    kernel: Kernel, more: Descriptors, model: Model, first_pfn: int, mapped: MappedPages
) -> Look:
    count, per = len(mapped.frame), VMEMMAP_PAGE // kernel.page.size
    present, online = in_sections(kernel, first_pfn, count * per, per)
    there = present & (mapped.present | mapped.unknown)
    offline = there & ~online
    read = _Read(kernel, more, model, first_pfn, mapped)
    read.all(there & online & mapped.present)
    rows = _no_rows(first_pfn, per, there)
    holds = _Holds(model, *read.free(), read.unnamed())

    ends = [0, 1, per - 2, per - 1]
    single = offline | read.is_single()
    divided = single & holds.divided(rows.pfn, per)
    for alike, columns, times in ((True, ends, [1, per - 2, 0, 1]), (False, range(per), None)):
        at = np.flatnonzero(single & (divided ^ alike))
        own = rows.pfn[at][:, None] + np.array(columns, np.uint64)
        none = np.zeros(own.shape, np.bool_)
        _add(rows, at, holds, _Cells(own, own, none, none), times)
    at, cells = read.tails([0, 1, 2, per - 2, per - 1])
    _add(rows, at, holds, cells, [1, 1, per - 3, 0, 1])
    for at, cells in read.varied:
        _add(rows, at, holds, cells)

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


class _Read:
    """Reads each distinct frame of a chunk of p vmemmap pages once, and keeps what matters.

    `varied`: vmemmap pages (intp[v]) that are neither all singles nor the tails of one head, with
    their struct pages. `encodings`: of the tails that were decoded so far.
    """

    def __init__(
        self,
        kernel: Kernel,
        more: Descriptors,
        model: Model,
        first_pfn: int,
        mapped: MappedPages,
    ) -> None:
        self.varied: list[tuple[NDArray[np.intp], _Cells]] = []
        self.encodings: frozenset[Encoding] = frozenset()
        self._kernel, self._model = kernel, model
        self._mapped = mapped
        self._per = VMEMMAP_PAGE // kernel.page.size
        pages = np.arange(len(mapped.frame), dtype=np.uint64)
        self._pfn = pages * np.uint64(self._per) + np.uint64(first_pfn)
        self._address = np.uint64(kernel.vmemmap) + self._pfn * np.uint64(kernel.page.size)
        self._named = [m for m in (kernel.page.hugetlb, more.slab, more.table) if m is not None]
        self._blocks = [(np.zeros(0, np.uint64), np.zeros(0, np.uint64))]
        self._unnamed = [np.zeros(0, np.uint64)]

    def all(self, wanted: NDArray[np.bool_]) -> None:
        """Read what is behind the vmemmap pages `wanted`, bool[p]."""
        self._frames = distinct(self._mapped.frame, wanted)
        values = self._frames.values
        # Of each frame, and of none at the end: the word of its tails, if they are all of one head;
        # whether a head is before these; whether it has singles only; flags of its first.
        self._word = np.zeros(len(values) + 1, np.uint64)
        self._begins, self._single = (np.zeros(len(values) + 1, np.bool_) for _ in range(2))
        self._flags = np.zeros(len(values) + 1, np.uint64)
        self._known = np.zeros(len(values) + 1, np.bool_)
        buffer = np.zeros((BATCH, WORDS), np.uint64)
        for start in range(0, len(values), BATCH):
            rows = np.arange(start, min(start + BATCH, len(values)))
            words = buffer[: len(rows)]
            readable = self._kernel.memory.read_frames(values[rows], words)
            if not readable.all():
                rows, words = rows[readable], words[readable]
            self._known[rows] = True
            self._batch(rows, words)

    def is_single(self) -> NDArray[np.bool_]:
        """Tell which vmemmap pages have only singles, bool[p]."""
        return self._single[self._frames.row]

    def tails(self, columns: Sequence[int]) -> tuple[NDArray[np.intp], _Cells]:
        """Return the vmemmap pages with tails of one head, and their struct pages at `columns`."""
        at = np.flatnonzero(self._word[self._frames.row])
        row = self._frames.row[at]
        own = self._pfn[at][:, None] + np.array(columns, np.uint64)
        encoding, named = self._decode(self._word[row], self._address[at])
        self.encodings |= _encodings(encoding)
        begins = self._begins[row]
        begins &= ~((encoding == Encoding.POINTER) & (named != own[:, 0]))  # no fake head
        head = np.repeat(named[:, None], len(columns), axis=1)
        head[begins, 0] = own[begins, 0]
        first = np.zeros(own.shape, np.bool_)
        first[begins, 0] = True
        return at, _Cells(own, head, ~first, first)

    def free(self) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        """Return the pfn of each free block, in no order, and its order: uint64[b]."""
        pfn, order = zip(*self._blocks, strict=True)
        return np.concatenate(pfn), np.concatenate(order)

    def unnamed(self) -> NDArray[np.uint64]:
        """Return the heads of compound pages that are neither folio, slab nor page table."""
        return np.concatenate(self._unnamed)

    def places(self) -> NDArray[np.int64]:
        """Return node and zone of each vmemmap page's first struct page, as in `Look`."""
        place = places_of(self._flags, self._kernel.page)
        place[~self._known] = UNPLACED
        return place[self._frames.row]

    def _batch(self, rows: NDArray[np.intp], words: NDArray[np.uint64]) -> None:
        page, bit = self._kernel.page, self._kernel.page.head_bit.bit_length() - 1
        self._flags[rows] = words[:, page.flags // 8]
        tail = bytes_at(words, page.size, page.compound) & 1 != 0
        head = bytes_at(words, page.size, page.flags + bit // 8) & (1 << bit % 8) != 0
        is_busy = (tail | head).any(axis=1)
        self._single[rows] = ~is_busy
        if self._model.free != "itself" and page.buddy is not None:
            self._note_blocks(rows, words, marked(words, page.size, page.buddy) & ~(tail | head))
        busy = np.flatnonzero(is_busy)
        if not len(busy):
            return
        if self._model.others == "itself":
            self._note_unnamed(rows[busy], words[busy], (head & ~tail)[busy])
        word = words_at(words, page.size, page.compound)[busy]
        first = word[:, 1]
        alike = (word[:, 1:] == first[:, None]).all(axis=1) & tail[busy, 1]
        # A mask of less than a frame leads its tails to many heads.
        alike &= (first < lowest_mask(page)) | (first & np.uint64(VMEMMAP_PAGE - 1) == 1)
        begins = alike & ~tail[busy, 0] & head[busy, 0]
        alike &= begins | (word[:, 0] == first)
        self._word[rows[busy[alike]]] = first[alike]
        self._begins[rows[busy[begins]]] = True
        if not alike.all():
            self._note_varied(rows[busy[~alike]], word[~alike], head[busy[~alike]])

    def _note_varied(
        self, rows: NDArray[np.intp], word: NDArray[np.uint64], flagged: NDArray[np.bool_]
    ) -> None:
        """Keep the struct pages of frames, `word` uint64[f, per], `flagged` bool[f, per]."""
        at, which = self._pages_of(rows)
        column = np.arange(self._per, dtype=np.uint64)
        for start in range(0, len(at), BATCH):
            pages, each = at[start : start + BATCH], which[start : start + BATCH]
            own = self._pfn[pages][:, None] + column
            address = self._address[pages][:, None] + column * np.uint64(self._kernel.page.size)
            encoding, named = self._decode(word[each].ravel(), address.ravel())
            encoding, named = encoding.reshape(own.shape), named.reshape(own.shape)
            tail = encoding != Encoding.NONE
            self.encodings |= _encodings(encoding)
            begins, head = flagged[each] & ~tail, np.where(tail, named, own)
            # Fake heads: see pages.py.
            fake = begins[:, 0] & (encoding[:, 1] == Encoding.POINTER) & (head[:, 1] != own[:, 0])
            head[fake, 0], tail[fake, 0], begins[fake, 0] = head[fake, 1], True, False
            self.varied.append((pages, _Cells(own, head, tail, begins)))

    def _note_blocks(
        self, rows: NDArray[np.intp], words: NDArray[np.uint64], begin: NDArray[np.bool_]
    ) -> None:
        some = np.flatnonzero(begin.any(axis=1))
        order = words_at(words, self._kernel.page.size, self._kernel.page.private)[some]
        at, which = self._pages_of(rows[some])
        page, column = np.nonzero(begin[some][which])
        pfn = self._pfn[at[page]] + column.astype(np.uint64)
        self._blocks.append((pfn, order[which[page], column]))

    def _note_unnamed(
        self, rows: NDArray[np.intp], words: NDArray[np.uint64], head: NDArray[np.bool_]
    ) -> None:
        page = self._kernel.page
        for mark in self._named:
            has_mark = marked(words, page.size, mark)
            index = mark.where.index  # 0 or 1: a head has an even place
            head[:, : self._per - index] &= ~has_mark[:, index:]
        if page.mapping is not None:
            head &= words_at(words, page.size, page.mapping) == 0
        some = np.flatnonzero(head.any(axis=1))
        at, which = self._pages_of(rows[some])
        row, column = np.nonzero(head[some][which])
        self._unnamed.append(self._pfn[at[row]] + column.astype(np.uint64))

    def _pages_of(self, rows: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return the vmemmap pages that are mapped to the frames `rows`, and to which of these."""
        if (self._frames.times[rows] == 1).all():
            return self._frames.first[rows], np.arange(len(rows))
        which = np.full(len(self._word), -1, np.intp)
        which[rows] = np.arange(len(rows))
        at = np.flatnonzero(which[self._frames.row] >= 0)
        return at, which[self._frames.row[at]]

    def _decode(
        self, word: NDArray[np.uint64], address: NDArray[np.uint64]
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint64]]:
        kernel = self._kernel
        return decode(word, address, kernel.page, (kernel.vmemmap, kernel.vmemmap_end))


def places_of(flags: NDArray[np.uint64], page: StructPage) -> NDArray[np.int64]:
    """Return node << 8 | zone of struct pages by their flags: int64, as long."""
    node = flags >> np.uint64(page.node.shift) & np.uint64(page.node.mask)
    zone = flags >> np.uint64(page.zone.shift) & np.uint64(page.zone.mask)
    return (node << np.uint64(8) | zone).astype(np.int64)


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
                value = chunk.values(heads, mark.where) >> np.uint64(mark.bits.shift)
                heads = heads[value & np.uint64(mark.bits.mask) != np.uint64(mark.value)]
        if page.mapping is not None:
            heads = heads[chunk.values(heads, PageField(0, page.mapping, 8)) == 0]
    if model.free == "itself":
        free = free[:0]
    if model.others == "one":
        heads = heads[:0]
    holds = _Holds(model, free, chunk.values(free, PageField(0, page.private, 8)), heads)
    tail = (kind == PageClass.TAIL) | (kind == PageClass.FAKE_HEAD)
    at = np.flatnonzero(there)
    own, head = rows.pfn[at][:, None], chunk.pages.head[at][:, None]
    begins = (kind == PageClass.HEAD)[at][:, None]
    _add(rows, at, holds, _Cells(own, head, tail[at][:, None], begins))

    first = -(-np.arange(len(mapped.frame)) * VMEMMAP_PAGE // page.size)
    place = places_of(chunk.content.words_of(first, page.flags), page)
    place[~chunk.read] = UNPLACED
    offline = ~chunk.online & there
    place[offline[np.minimum(first, len(offline) - 1)]] = OFFLINE
    encodings = _encodings(chunk.pages.encoding)
    return Look(rows, mapped.present | mapped.unknown, place, int(offline.sum()), encodings)


def _encodings(encoding: NDArray[np.uint8]) -> frozenset[Encoding]:
    return frozenset(kind for kind in (Encoding.POINTER, Encoding.MASK) if (encoding == kind).any())
