"""What is odd about the struct pages of a chunk, those of its hugetlb pages aside.

Hugetlb pages have records of their own. Tails of other compound pages are looked at in runs:
neighbours whose compound words are the same and name the same head.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from hvoinspect.target.layout import Kernel
from hvoinspect.vmemmap.chunks import Chunk
from hvoinspect.vmemmap.hugepages import Hugepages, marked_heads
from hvoinspect.vmemmap.pages import MAX_MASK_ORDER, UNKNOWN_HEAD, Encoding, PageClass, mask_order

_MAY_BE_TAIL = np.isin(
    np.arange(len(PageClass)), (PageClass.TAIL, PageClass.FAKE_HEAD, PageClass.UNREADABLE)
)
"""bool, by PageClass."""


class Oddity(IntEnum):
    """What is odd about a run of struct pages."""

    ASTRAY = 0
    """Tails that lead to no head, or to one whose compound page does not reach to them."""
    NO_TAIL = 1
    """Struct pages within a compound page that are no tails."""
    OTHER_ORDER = 2
    """Tails whose mask is of another order than their head."""
    HEAD_FLAG = 3
    """A tail that has the flag PG_head."""
    NO_HUGEPAGE = 4
    """A head that is marked as a hugetlb page, but is of none of the kernel's sizes, or not aligned
    to its size."""
    HOLE = 5
    """Struct pages of online memory that nothing is mapped for: those of hugetlb pages, too."""


@dataclass(frozen=True)
class Oddities:
    """Runs of odd struct pages, r of them, in one chunk or in many.

    `oddity` uint8[r]: an Oddity. `pfn` uint64[r]: the first of the run; `count` int64[r]: how many
    they are. `head` uint64[r]: of the compound page that they belong to, UNKNOWN_HEAD for a HOLE;
    of those ASTRAY the pfn that their words name, or UNKNOWN_HEAD. `order` uint8[r]: what that head
    says its order is, 0 where it is none; `mask_order` uint8[r]: the order of their masks, 0 for
    all but OTHER_ORDER.
    """

    oddity: NDArray[np.uint8]
    pfn: NDArray[np.uint64]
    count: NDArray[np.int64]
    head: NDArray[np.uint64]
    order: NDArray[np.uint8]
    mask_order: NDArray[np.uint8]

    def of(self, oddity: Oddity) -> Iterator[tuple[int, int, int, int, int]]:
        """Yield pfn, count, head, order and mask's order of each run that is odd in this way."""
        here = self.oddity == oddity
        columns = (self.pfn, self.count, self.head, self.order, self.mask_order)
        yield from zip(*(column[here].tolist() for column in columns), strict=True)

    def any(self, oddity: Oddity) -> bool:
        """Tell whether there is one of this kind."""
        return bool((self.oddity == oddity).any())


def join_oddities(parts: list[Oddities]) -> Oddities:
    """Put the oddities of many chunks together."""
    return Oddities(
        *(np.concatenate([getattr(p, field.name) for p in parts]) for field in fields(Oddities))
    )


def no_oddities() -> Oddities:
    """Return those of a chunk that has none."""
    return _oddities(Oddity.ASTRAY, np.zeros(0, np.uint64))


def oddities(kernel: Kernel, chunk: Chunk, hugepages: Hugepages) -> Oddities:
    """Return what is odd about the struct pages of `chunk` that are none of its `hugepages`."""
    mine = np.zeros(len(chunk.pages.kind), np.bool_)
    for pfn, order in zip(hugepages.pfn.tolist(), hugepages.order.tolist(), strict=True):
        mine[pfn - chunk.first_pfn : pfn - chunk.first_pfn + (1 << order)] = True
    marked, marked_order = marked_heads(kernel, chunk)
    misfit = ~mine[(marked - np.uint64(chunk.first_pfn)).astype(np.intp)]
    misfit &= bool(kernel.hstates)
    heads = _heads(kernel, chunk, marked[misfit])
    tails = _odd_tails(kernel, chunk, heads, mine)
    disputed = tails.head[tails.oddity == Oddity.OTHER_ORDER]
    return join_oddities(
        [
            _oddities(
                Oddity.NO_HUGEPAGE, marked[misfit], head=marked[misfit], order=marked_order[misfit]
            ),
            tails,
            _no_tails(chunk, heads, mine, disputed),
            _flagged(chunk, mine),
            _holes(chunk),
        ]
    )


@dataclass(frozen=True)
class _Heads:
    """The heads of a chunk, by their place in it.

    `place` intp, ascending; `order` uint8, as long; `judged` bool, as long: whether its order was
    read and it is not itself odd. `order_at` uint8 and `judged_at` bool, of each struct page of
    the chunk: the same, 0 and False where there is no head.
    """

    place: NDArray[np.intp]
    order: NDArray[np.uint8]
    judged: NDArray[np.bool_]
    order_at: NDArray[np.uint8]
    judged_at: NDArray[np.bool_]


def _heads(kernel: Kernel, chunk: Chunk, misfits: NDArray[np.uint64]) -> _Heads:
    kind, page = chunk.pages.kind, kernel.page
    place = np.flatnonzero(kind == PageClass.HEAD)
    pfn = place.astype(np.uint64) + np.uint64(chunk.first_pfn)
    order = np.minimum(chunk.values(pfn, page.order), np.uint64(MAX_MASK_ORDER)).astype(np.uint8)
    keeps_order = kind[np.minimum(place + page.order.index, len(kind) - 1)]
    judged = (keeps_order != PageClass.UNREADABLE) & ~np.isin(pfn, misfits)
    order_at, judged_at = np.zeros(len(kind), np.uint8), np.zeros(len(kind), np.bool_)
    order_at[place], judged_at[place] = order, judged
    return _Heads(place, order, judged, order_at, judged_at)


def _odd_tails(kernel: Kernel, chunk: Chunk, heads: _Heads, mine: NDArray[np.bool_]) -> Oddities:
    """Return the runs of tails outside of `mine` that lead where they should not.

    No compound page crosses from one chunk to the next, so neither does a way to a head.
    """
    pages, size = chunk.pages, len(chunk.pages.kind)
    tail = np.flatnonzero((pages.kind == PageClass.TAIL) & ~mine)
    if not len(tail):
        return no_oddities()
    head = pages.head[tail]
    word = chunk.content.all_words(size, kernel.page.compound)[tail]
    starts = np.flatnonzero(
        np.concatenate([[True], (head[1:] != head[:-1]) | (word[1:] != word[:-1])])
    )
    ends = np.append(starts[1:], len(tail))
    first, last, to = tail[starts], tail[ends - 1], head[starts]
    at = to - np.uint64(chunk.first_pfn)
    inside = (to != UNKNOWN_HEAD) & (at < np.uint64(size))
    at = np.where(inside, at, 0).astype(np.intp)
    order, unseen = heads.order_at[at], pages.kind[at] == PageClass.UNREADABLE
    is_head = inside & (pages.kind[at] == PageClass.HEAD)
    judged = is_head & heads.judged_at[at]
    reach = at + (1 << order.astype(np.int64))
    of_mask = mask_order(word[starts], kernel.page.size)
    masked = pages.encoding[first] == Encoding.MASK
    disputed = judged & masked & (of_mask != order) & (first > at) & (first < reach)
    too_far = judged & ~disputed & ((first < at) | (last >= reach))
    astray = ~(inside & unseen) & (~is_head | too_far)
    odd = np.flatnonzero(astray | disputed)
    return Oddities(
        np.where(disputed[odd], Oddity.OTHER_ORDER, Oddity.ASTRAY).astype(np.uint8),
        first[odd].astype(np.uint64) + np.uint64(chunk.first_pfn),
        (ends - starts)[odd],
        to[odd],
        np.where(is_head, order, 0)[odd].astype(np.uint8),
        np.where(disputed, of_mask, 0)[odd].astype(np.uint8),
    )


def _no_tails(
    chunk: Chunk, heads: _Heads, mine: NDArray[np.bool_], disputed: NDArray[np.uint64]
) -> Oddities:
    """Return, once a compound page, the first struct page in it that is no tail, and how many are.

    Not of those whose order is `disputed` by the masks of their tails.
    """
    kind = chunk.pages.kind
    may_be = _MAY_BE_TAIL[kind]
    before = np.concatenate([[0], np.cumsum(may_be, dtype=np.int64)])
    pfn = heads.place.astype(np.uint64) + np.uint64(chunk.first_pfn)
    chosen = heads.judged & ~mine[heads.place] & ~np.isin(pfn, disputed)
    place, order = heads.place[chosen], heads.order[chosen]
    end = np.minimum(place + (1 << np.maximum(order, 1).astype(np.int64)), len(kind))
    missing = end - place - 1 - (before[end] - before[place + 1])
    torn = np.flatnonzero(missing > 0)
    first = [int(place[i]) + 1 + int(np.argmin(may_be[place[i] + 1 : end[i]])) for i in torn]
    return _oddities(
        Oddity.NO_TAIL,
        np.array(first, np.uint64) + np.uint64(chunk.first_pfn),
        count=missing[torn],
        head=pfn[chosen][torn],
        order=order[torn],
    )


def _flagged(chunk: Chunk, mine: NDArray[np.bool_]) -> Oddities:
    """Return the tails outside of `mine` that have the flag PG_head, but lead to a head."""
    pfn = chunk.pages.flagged_tails
    place = (pfn - np.uint64(chunk.first_pfn)).astype(np.intp)
    head = chunk.pages.head[place]
    chosen = ~mine[place] & (head != UNKNOWN_HEAD)
    return _oddities(Oddity.HEAD_FLAG, pfn[chosen], head=head[chosen])


def _holes(chunk: Chunk) -> Oddities:
    hole = (chunk.pages.kind == PageClass.HOLE) & chunk.online
    edges = np.flatnonzero(np.diff(hole, prepend=False, append=False))
    starts, ends = edges[::2], edges[1::2]
    return _oddities(
        Oddity.HOLE, starts.astype(np.uint64) + np.uint64(chunk.first_pfn), count=ends - starts
    )


def _oddities(
    oddity: Oddity,
    pfn: NDArray[np.uint64],
    *,
    count: NDArray[np.int64] | None = None,
    head: NDArray[np.uint64] | None = None,
    order: NDArray[np.uint8] | None = None,
) -> Oddities:
    """Return oddities of one kind, of one struct page each if no `count` is given."""
    runs = len(pfn)
    return Oddities(
        np.full(runs, oddity, np.uint8),
        pfn,
        np.ones(runs, np.int64) if count is None else count,
        np.full(runs, UNKNOWN_HEAD, np.uint64) if head is None else head,
        np.zeros(runs, np.uint8) if order is None else order,
        np.zeros(runs, np.uint8),
    )
