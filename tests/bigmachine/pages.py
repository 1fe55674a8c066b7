"""The struct pages of a made-up machine, written as a kernel leaves them, whole arrays at a time.

Words of struct page, as tests/tiny_kernel.py has them in BTF: 0 flags, 1 and 2 `lru` or the
compound word, 3 `mapping`, 4 `index`, 5 `private`, 6 `page_type` or `_mapcount`, and `_refcount`
above it, 7 nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tests.bigmachine.makeup import HUGEPAGES, UNIT_PAGES, Unit, Use
from tests.madeup import (
    FREED,
    MASK64,
    OPTIMIZED,
    ORDER_1G,
    ORDER_2M,
    PG_HEAD,
    PG_SLAB,
    PGTY_BUDDY,
    PGTY_HUGETLB,
    TAIL_MAPPING,
    Tail,
)
from tests.tiny_kernel import DIRECT, VMEMMAP

SIZE = 64
WORDS = SIZE // 8
FLAGS, COMPOUND, LRU_PREV, MAPPING, INDEX, PRIVATE, TYPE_AND_COUNT = range(7)
NODE_SHIFT, ZONE_SHIFT = 62, 61
"""Four nodes and two zones, at the top of the flags (include/linux/page-flags-layout.h)."""
PG_UPTODATE, PG_LRU, PG_RESERVED = 1 << 3, 1 << 5, 1 << 14
NO_TYPE = 0xFFFF_FFFF
"""`page_type` of what has none, or the `_mapcount` of what is not mapped."""
PER_FRAME = 4096 // SIZE


class Pattern(NamedTuple):
    """Struct pages that repeat: `words` uint64[p, 8], where `moves` bool[p, 8] less the address of
    the first of them.
    """

    words: NDArray[np.uint64]
    moves: NDArray[np.bool_]


def unit_pages(unit: Unit, tail: Tail) -> NDArray[np.uint64]:
    """Return the words of a unit whose struct pages all have a frame: uint64[262144, 8]."""
    pattern = _pattern(unit.use, tail)
    first = unit.gib * UNIT_PAGES
    return _repeated(pattern, unit, np.arange(first, first + UNIT_PAGES, len(pattern.words)))


def head_frames(unit: Unit, tail: Tail) -> NDArray[np.uint64]:
    """Return the first vmemmap page of each hugepage of a unit: uint64[n, 64, 8]."""
    order, count, _ = HUGEPAGES[unit.use]
    first = unit.gib * UNIT_PAGES
    heads = np.arange(first, first + UNIT_PAGES, 1 << order)
    words = _repeated(_hugetlb(order, tail), unit, heads).reshape(count, PER_FRAME, WORDS)
    if unit.use is Use.HUGE:
        words[::4, 0, PRIVATE] |= np.uint64(FREED)
        words[::4, 0, TYPE_AND_COUNT] &= np.uint64(0xFFFF_FFFF)  # nobody's: _refcount 0
    return words


def shared_tails(node: int, zone: int, order: int) -> NDArray[np.uint64]:
    """Return the frame for all tails of an order of a zone: `vmemmap_get_tail()`, uint64[64, 8]."""
    words = np.zeros((PER_FRAME, WORDS), np.uint64)
    words[:, FLAGS] = _node_and_zone(node, zone)
    words[:, COMPOUND] = mask_word(order)
    words[:, MAPPING] = TAIL_MAPPING
    words[:, TYPE_AND_COUNT] = NO_TYPE
    return words


def mask_word(order: int) -> int:
    """Return the compound word of a tail of 7.1 and later: `set_compound_head()`."""
    return MASK64 << (order + SIZE.bit_length() - 1) & MASK64 | 1


def _repeated(pattern: Pattern, unit: Unit, pfns: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return the pattern from each of `pfns` on: uint64[n * p, 8]."""
    words = np.empty((len(pfns), *pattern.words.shape), np.uint64)
    words[:] = pattern.words
    address = pfns.astype(np.uint64) * np.uint64(SIZE) + np.uint64(VMEMMAP)
    np.add(words, address[:, None, None], out=words, where=pattern.moves)
    words[..., FLAGS] |= np.uint64(_node_and_zone(unit.node, unit.zone))
    return words.reshape(-1, WORDS)


def _node_and_zone(node: int, zone: int) -> int:
    return node << NODE_SHIFT | zone << ZONE_SHIFT


@cache
def _pattern(use: Use, tail: Tail) -> Pattern:
    if use is Use.RESERVED:
        pattern = _empty(PER_FRAME)
        pattern.words[:, FLAGS] = PG_RESERVED
        pattern.words[:, TYPE_AND_COUNT] = 1 << 32 | NO_TYPE
    elif use is Use.ORDINARY:
        pattern = _empty(1024)
        _compound(pattern, range(0, 256, 16), 4, tail, PG_UPTODATE | PG_LRU)
        _ordinary(pattern, range(256, 1024))
    elif use is Use.SLAB:
        pattern = _empty(1024)
        _compound(pattern, range(0, 512, 8), 3, tail, PG_SLAB)
        _compound(pattern, range(512, 768, 2), 1, tail, PG_SLAB)
        pattern.words[768:, FLAGS] = PG_SLAB
        pattern.words[768:, TYPE_AND_COUNT] = 1 << 32 | NO_TYPE
    else:
        pattern = _empty(1 << 14)
        _free(pattern, range(0, 15 << 10, 1024), 10)
        _fragmented(pattern, 15 << 10)
    return pattern


@cache
def _hugetlb(order: int, tail: Tail) -> Pattern:
    """The struct pages of an optimized hugetlb page that have a frame of their own."""
    assert order in (ORDER_2M, ORDER_1G)
    pattern = _empty(PER_FRAME)
    _compound(pattern, [0], order, tail, 0)
    pattern.words[0, PRIVATE] = OPTIMIZED
    pattern.words[0, TYPE_AND_COUNT] = 1 << 32 | PGTY_HUGETLB << 24 | 0xFF_FFFF
    return pattern


def _empty(count: int) -> Pattern:
    words = np.zeros((count, WORDS), np.uint64)
    words[:, TYPE_AND_COUNT] = NO_TYPE
    return Pattern(words, np.zeros(words.shape, np.bool_))


def _compound(pattern: Pattern, heads: Iterable[int], order: int, tail: Tail, flags: int) -> None:
    """`prep_compound_page()`, as far as the pattern goes."""
    head = np.array(heads)[:, None]
    tails = (head + np.arange(1, min(1 << order, len(pattern.words)))).ravel()
    _put(pattern, head.ravel(), COMPOUND, head.ravel() * SIZE + 8, moves=True)  # lru of nobody else
    pattern.words[head, FLAGS] = PG_HEAD | flags
    pattern.words[head, TYPE_AND_COUNT] = 1 << 32 | NO_TYPE
    pattern.words[tails, MAPPING] = TAIL_MAPPING
    pattern.words[head + 1, FLAGS] = order
    if tail == "mask":
        pattern.words[tails, COMPOUND] = mask_word(order)
    else:
        own = np.repeat(head.ravel(), len(tails) // len(head))
        _put(pattern, tails, COMPOUND, own * SIZE + 1, moves=True)


def _ordinary(pattern: Pattern, where: range) -> None:
    """Pages of processes or files, mapped once, each before and behind its neighbours in a list."""
    pages = np.array(where)
    pattern.words[pages, FLAGS] = PG_UPTODATE | PG_LRU
    pattern.words[pages, MAPPING] = DIRECT + 0x1000
    pattern.words[pages, INDEX] = pages
    pattern.words[pages, TYPE_AND_COUNT] = 1 << 32
    _put(pattern, pages, COMPOUND, (pages + 1) * SIZE + 8, moves=True)
    _put(pattern, pages, LRU_PREV, (pages - 1) * SIZE + 8, moves=True)


def _free(pattern: Pattern, starts: Iterable[int], order: int) -> None:
    """Blocks of the page allocator's: `__SetPageBuddy()`, `set_buddy_order()`."""
    first = np.array(starts)
    pattern.words[first, PRIVATE] = order
    pattern.words[first, TYPE_AND_COUNT] = PGTY_BUDDY << 24 | 0xFF_FFFF
    _put(pattern, first, COMPOUND, first * SIZE + 8, moves=True)
    _put(pattern, first, LRU_PREV, first * SIZE + 8, moves=True)


def _fragmented(pattern: Pattern, start: int) -> None:
    """Fill 1,024 struct pages with free blocks of orders 9 to 0, and pages between the smaller."""
    _free(pattern, [start], 9)
    at = start + 512
    for order in range(8, -1, -2):
        _free(pattern, [at], order)
        at += 1 << order
        pages = 1 << max(order - 1, 0)
        _ordinary(pattern, range(at, at + pages))
        at += pages
    assert at == start + 1024


def _put(
    pattern: Pattern, pages: NDArray[np.int64], word: int, value: NDArray[np.int64], *, moves: bool
) -> None:
    pattern.words[pages, word] = value
    pattern.moves[pages, word] = moves
