"""What whole frames of struct pages hold, in a few numbers each.

Most of a vmemmap is regular: all single pages, all tails of one head, or small compound pages that
each lie in one frame. Whether a frame is regular can be told with few passes over its words, and
then these numbers are all that need be kept of it. What is not regular is told as such, and looked
at page by page elsewhere (`chunks.py`).

Only for struct pages of which a whole number, and a power of two, fills a frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hvoinspect.target.layout import VMEMMAP_PAGE, PageField, StructPage
from hvoinspect.vmemmap.fields import bytes_at, marked, values_at, words_at
from hvoinspect.vmemmap.pages import lowest_mask, mask_word


class Holds(IntEnum):
    """What a frame holds."""

    UNREAD = 0
    UNREADABLE = 1
    SINGLES = 2
    TAILS = 3
    """All tails, of one compound word."""
    HEAD = 4
    """A struct page that reads as a head, then all tails of one compound word: the beginning of a
    compound page, or (up to 7.0) the same frame again, as a fake head."""
    MIXED = 5
    """Small compound pages, each whole, and single pages."""


class IrregularError(Exception):
    """Struct pages are not regular: not an error of the kernel's, nor of the program's."""


def require(regular: bool | np.bool_) -> None:
    """Raise IrregularError unless `regular`."""
    if not regular:
        raise IrregularError


@dataclass(frozen=True)
class Summaries:
    """What each of f frames holds.

    `holds` uint8[f]: a Holds. `word` uint64[f]: the compound word of its tails; of MIXED, that of
    one tail, all being of one encoding. `heads`, `tails`, int16[f]: how many of each MIXED has.
    Of HEAD: `flags` and `private`, uint64[f], and `order` uint8[f], of the head; `hugetlb` and
    `frozen`, bool[f], whether it is marked as a hugetlb page, and whether its reference count is 0.
    """

    holds: NDArray[np.uint8]
    word: NDArray[np.uint64]
    heads: NDArray[np.int16]
    tails: NDArray[np.int16]
    flags: NDArray[np.uint64]
    private: NDArray[np.uint64]
    order: NDArray[np.uint8]
    hugetlb: NDArray[np.bool_]
    frozen: NDArray[np.bool_]


class FreeBlocks(NamedTuple):
    """Struct pages marked as the first of a free block, b of them.

    `row` intp[b]: the frame; `place` intp[b]: which of its struct pages; `order` uint64[b].
    """

    row: NDArray[np.intp]
    place: NDArray[np.intp]
    order: NDArray[np.uint64]


def no_summaries(count: int) -> Summaries:
    """Return the summaries of `count` frames, none of which was read yet."""
    return Summaries(
        *(
            np.zeros(count, dtype)
            for dtype in ("u1", "u8", "i2", "i2", "u8", "u8", "u1", np.bool_, np.bool_)
        )
    )


class Summarizer:
    """Summarizes frames of struct pages as `page` says they are."""

    def __init__(self, page: StructPage) -> None:
        self._page = page
        self.per_frame = VMEMMAP_PAGE // page.size

    def summarize(
        self,
        words: NDArray[np.uint64],
        address: NDArray[np.uint64],
        rows: NDArray[np.intp],
        into: Summaries,
    ) -> FreeBlocks:
        """Summarize the frames `words`, uint64[f, 512], as the `rows` of `into`, intp[f].

        `address` uint64[f]: where each is mapped first. Returns the free blocks that begin in them,
        with `row` as in `rows`. Raises IrregularError.
        """
        page = self._page
        bit = page.head_bit.bit_length() - 1
        tail = bytes_at(words, page.size, page.compound)
        tail &= 1
        head = bytes_at(words, page.size, page.flags + bit // 8)
        head &= 1 << bit % 8
        taken = tail | head
        into.holds[rows] = Holds.SINGLES
        if taken.any():
            busy = np.bitwise_or.reduce(taken.view(np.uint64), axis=1).nonzero()[0]
            some = _Busy(words, busy, tail[busy] != 0, head[busy] != 0, address[busy])
            into.holds[rows[busy]] = self._busy(some, rows[busy], into)
        return self._free(words, rows, taken)

    def _busy(self, some: _Busy, rows: NDArray[np.intp], into: Summaries) -> NDArray[np.uint8]:
        """Summarize frames that have tails or heads; return what they hold."""
        require(not (some.tail & some.head).any())
        word = words_at(some.words, self._page.size, self._page.compound)[some.at]
        first = word[:, 1]
        same = word == first[:, None]
        alike = same[:, 1:].all(axis=1) & some.tail[:, 1]
        tails = alike & same[:, 0]
        heads = alike & some.head[:, 0]
        into.word[rows] = first
        holds = np.full(len(rows), Holds.MIXED, np.uint8)
        holds[tails] = Holds.TAILS
        holds[heads] = Holds.HEAD
        if heads.any():
            self._note_heads(some.words, some.at[heads], rows[heads], into)
        mixed = (~(tails | heads)).nonzero()[0]
        if len(mixed):
            self._mixed(some, mixed, word[mixed], rows[mixed], into)
        return holds

    def _note_heads(
        self,
        words: NDArray[np.uint64],
        at: NDArray[np.intp],
        rows: NDArray[np.intp],
        into: Summaries,
    ) -> None:
        page = self._page
        into.flags[rows] = words[at, page.flags // 8]
        into.private[rows] = words[at, page.private // 8]
        into.order[rows] = self._value(words, at, 0, page.order).astype(np.uint8)
        if page.refcount is not None:
            count = self._value(words, at, 0, PageField(0, page.refcount, 4))
            into.frozen[rows] = count == 0
        if page.hugetlb is not None:
            into.hugetlb[rows] = page.hugetlb.among(self._value(words, at, 0, page.hugetlb.where))

    def _mixed(
        self,
        some: _Busy,
        mixed: NDArray[np.intp],
        word: NDArray[np.uint64],
        rows: NDArray[np.intp],
        into: Summaries,
    ) -> None:
        """Summarize frames of small compound pages, `word` uint64[m, per frame] of each.

        Regular is: each head has the tails that its order says, each with the word that names this
        head and this order, and nothing else is a tail.
        """
        page, tail = self._page, some.tail[mixed]
        head = some.head[mixed].ravel().nonzero()[0]
        row, place = self._in_frames(head)
        require(len(head) > 0 and (place < self.per_frame - 1).all())
        at = some.at[mixed][row]
        order = self._value(some.words, at, place, page.order)
        require((order > 0).all() and (order < np.uint64(self.per_frame.bit_length())).all())
        length = np.left_shift(1, order.astype(np.intp))
        require(not (place & (length - 1)).any())
        # Heads that are inside of another one's pages are no tails, as they would have to be.
        change = np.zeros(tail.size + 1, np.int32)  # of which sums are thrice as fast as of int8
        change[head + 1] += 1
        change[head + length] -= 1
        require((change[:-1].cumsum(dtype=np.int32) == tail.ravel()).all())

        named = word.ravel()[head + 1]
        is_mask = named >= lowest_mask(page)
        require(is_mask.any() == is_mask.all())
        right = mask_word(page, order)
        if not is_mask.any():
            right = some.address[mixed][row] + (place * page.size).astype(np.uint64) | np.uint64(1)
        require((named == right).all())
        goes_on = (word[:, 1:] == word[:, :-1]) | ~tail[:, 1:] | ~tail[:, :-1]
        require(goes_on.all())
        if page.hugetlb is not None:
            require(
                not page.hugetlb.among(self._value(some.words, at, place, page.hugetlb.where)).any()
            )
        into.word[rows] = named[0]
        into.heads[rows] = np.bincount(row, minlength=len(mixed))
        into.tails[rows] = tail.sum(axis=1)

    def _free(
        self, words: NDArray[np.uint64], rows: NDArray[np.intp], taken: NDArray[np.uint8]
    ) -> FreeBlocks:
        page = self._page
        mark = page.buddy
        if mark is None:
            none = np.zeros(0, np.intp)
            return FreeBlocks(none, none, np.zeros(0, np.uint64))
        place = marked(words, page.size, mark).ravel().nonzero()[0]
        at, place = self._in_frames(place[taken.ravel()[place] == 0])
        order = words[at, place * (page.size // 8) + page.private // 8]
        return FreeBlocks(rows[at], place, order)

    def _in_frames(self, pages: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return in which frame each of `pages` is, counted from the first frame's, and where."""
        return pages >> self.per_frame.bit_length() - 1, pages & self.per_frame - 1

    def _value(
        self,
        words: NDArray[np.uint64],
        at: NDArray[np.intp],
        place: NDArray[np.intp] | int,
        where: PageField,
    ) -> NDArray[np.uint64]:
        return values_at(words, self._page.size, at, place, where)


class _Busy(NamedTuple):
    """Frames with heads or tails among `words`: `at` which; the rest of each of them.

    `tail`, `head`, bool[b, per frame]; `address` uint64[b].
    """

    words: NDArray[np.uint64]
    at: NDArray[np.intp]
    tail: NDArray[np.bool_]
    head: NDArray[np.bool_]
    address: NDArray[np.uint64]
