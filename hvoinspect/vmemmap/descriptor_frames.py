"""Frames of struct pages, each distinct one read once, for the question about memdescs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hvoinspect.target.layout import VMEMMAP_PAGE, Descriptors, Kernel, PageField, StructPage
from hvoinspect.target.memory import WORDS
from hvoinspect.target.ranges import places_in
from hvoinspect.vmemmap.chunks import MappedPages
from hvoinspect.vmemmap.distinct import distinct
from hvoinspect.vmemmap.fields import bytes_at, marked, values_at, words_at
from hvoinspect.vmemmap.holds import StructPages
from hvoinspect.vmemmap.memdesc import Model
from hvoinspect.vmemmap.pages import UNKNOWN_HEAD, Encoding, decode, is_a_mask, lowest_mask
from hvoinspect.vmemmap.shown import BATCH

UNPLACED = -2
"""In place of a node and zone."""


class Frames:
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
        self.varied: list[tuple[NDArray[np.intp], StructPages]] = []
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
        self._distinct = distinct(self._mapped.frame, wanted)
        values = self._distinct.values
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
        return self._single[self._distinct.row]

    def tails(self) -> tuple[NDArray[np.intp], NDArray[np.uint64], NDArray[np.bool_]]:
        """Return the vmemmap pages with tails of one head: intp[t], uint64[t], bool[t].

        Which they are, the pfn of that head, or UNKNOWN_HEAD, and whether the first struct page is
        no tail, but begins a compound page.
        """
        # A pointer names the same head wherever its frame is mapped, a mask hangs on where it is.
        is_mask = is_a_mask(self._word, self._kernel.page)
        head = np.full(len(self._word), UNKNOWN_HEAD, np.uint64)
        pointers = np.flatnonzero(~is_mask & (self._word != 0))
        encoding, head[pointers] = self._decode(self._word[pointers], self._address[:1])
        self.encodings |= encodings_in(encoding)
        at = np.flatnonzero(self._word[self._distinct.row])
        row = self._distinct.row[at]
        found, of_mask = head[row], is_mask[row]
        if of_mask.any():
            self.encodings |= {Encoding.MASK}
            target = self._address[at] & self._word[row] & ~np.uint64(1)
            offset = target - np.uint64(self._kernel.vmemmap)
            led = offset // np.uint64(self._kernel.page.size)
            led[target < np.uint64(self._kernel.vmemmap)] = UNKNOWN_HEAD
            found = np.where(of_mask, led, found)
        fake = ~of_mask & (found != UNKNOWN_HEAD) & (found != self._pfn[at])
        return at, found, self._begins[row] & ~fake

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
        return place[self._distinct.row]

    def _batch(self, rows: NDArray[np.intp], words: NDArray[np.uint64]) -> None:
        page, bit = self._kernel.page, self._kernel.page.head_bit.bit_length() - 1
        self._flags[rows] = words[:, page.flags // 8]
        tail = bytes_at(words, page.size, page.compound)
        tail &= 1
        head = bytes_at(words, page.size, page.flags + bit // 8)
        head &= 1 << bit % 8
        taken = tail | head
        busy = np.bitwise_or.reduce(taken.view(np.uint64), axis=1).nonzero()[0]
        self._single[rows] = True
        self._single[rows[busy]] = False
        if self._model.free != "itself" and page.buddy is not None:
            self._note_blocks(rows, words, marked(words, page.size, page.buddy) & (taken == 0))
        if not len(busy):
            return
        if self._model.others == "itself":
            self._note_unnamed(rows, words, head > tail)
        word = words_at(words, page.size, page.compound)[busy]
        first = word[:, 1]
        same = word == first[:, None]
        alike = same[:, 1:].all(axis=1) & (tail[busy, 1] != 0)
        # A mask of less than a frame leads its tails to many heads.
        alike &= (first < lowest_mask(page)) | (first & np.uint64(VMEMMAP_PAGE - 1) == 1)
        begins = alike & (head[busy, 0] > tail[busy, 0])
        alike &= begins | same[:, 0]
        self._word[rows[busy[alike]]] = first[alike]
        self._begins[rows[busy[begins]]] = True
        if not alike.all():
            self._note_varied(rows[busy[~alike]], word[~alike], head[busy[~alike]] != 0)

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
            tail = word[each] & np.uint64(1) != 0
            encoding, named = np.zeros(own.shape, np.uint8), own.copy()
            encoding[tail], named[tail] = self._decode(word[each][tail], address[tail])
            self.encodings |= encodings_in(encoding)
            begins = flagged[each] & ~tail
            # Fake heads: see pages.py.
            fake = begins[:, 0] & (encoding[:, 1] == Encoding.POINTER) & (named[:, 1] != own[:, 0])
            named[fake, 0], tail[fake, 0], begins[fake, 0] = named[fake, 1], True, False
            self.varied.append((pages, StructPages(own, named, tail, begins)))

    def _note_blocks(
        self, rows: NDArray[np.intp], words: NDArray[np.uint64], begin: NDArray[np.bool_]
    ) -> None:
        row, column = np.divmod(begin.ravel().nonzero()[0], self._per)
        page = self._kernel.page
        order = values_at(words, page.size, row, column, PageField(0, page.private, 8))
        pfn, which = self._pfns(rows[row], column)
        self._blocks.append((pfn, order[which]))

    def _note_unnamed(
        self, rows: NDArray[np.intp], words: NDArray[np.uint64], head: NDArray[np.bool_]
    ) -> None:
        page = self._kernel.page
        row, column = np.divmod(head.ravel().nonzero()[0], self._per)
        is_named = np.zeros(len(row), np.bool_)
        for mark in self._named:
            is_named |= mark.among(values_at(words, page.size, row, column, mark.where))
        if page.mapping is not None:
            mapping = PageField(0, page.mapping, 8)
            is_named |= values_at(words, page.size, row, column, mapping) != 0
        self._unnamed.append(self._pfns(rows[row[~is_named]], column[~is_named])[0])

    def _pfns(
        self, rows: NDArray[np.intp], column: NDArray[np.intp]
    ) -> tuple[NDArray[np.uint64], NDArray[np.intp]]:
        """Return the pfns of struct pages of the frames `rows`, ascending, wherever mapped.

        `column` intp[s]: which in its frame. And which of the s each is.
        """
        which = np.arange(len(rows))
        if (self._distinct.times[rows] == 1).all():
            at = self._distinct.first[rows]
        else:
            frames, each = np.unique(rows, return_index=True)
            pages, frame = self._pages_of(frames)
            count = np.diff(np.append(each, len(rows)))[frame]
            at, which = np.repeat(pages, count), places_in(each[frame], count)
        return self._pfn[at] + column[which].astype(np.uint64), which

    def _pages_of(self, rows: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return the vmemmap pages that are mapped to the frames `rows`, and to which of these."""
        if (self._distinct.times[rows] == 1).all():
            return self._distinct.first[rows], np.arange(len(rows))
        which = np.full(len(self._word), -1, np.intp)
        which[rows] = np.arange(len(rows))
        at = np.flatnonzero(which[self._distinct.row] >= 0)
        return at, which[self._distinct.row[at]]

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


def encodings_in(encoding: NDArray[np.uint8]) -> frozenset[Encoding]:
    """Return which of the two encodings of tails are among `encoding`, uint8[n]."""
    return frozenset(kind for kind in (Encoding.POINTER, Encoding.MASK) if (encoding == kind).any())
