"""What each struct page is: real head, fake head, tail or single, and which page is its head.

The rules are the kernel's own, `_compound_head()` and `PageHead()` in include/linux/page-flags.h:

* Up to 7.0 a tail's `compound_head` holds the head's address plus 1. Under HVO the frame of the
  head also stands for the vmemmap pages behind it, so every struct page that begins one of those
  reads like the head: a fake head, which the word of the struct page after it gives away
  (`page_fixed_fake_head()`; e7d324850bfc, 5.18).
* From 7.1 on (8c846c879e22), where HVO is built in and sizeof(struct page) is a power of two, the
  word is a mask plus 1, and the tail's own address under that mask is the head's. The word no
  longer names a head, so one frame can stand for the tails of many, and there are no fake heads.

Which of the two a word is can be read off the word: a mask is high ones over low zeros, a pointer
lies in the vmemmap. So nothing here asks for the kernel's version.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from hvoinspect.target.layout import VMEMMAP_PAGE, StructPage

UNKNOWN_HEAD = np.uint64(0xFFFF_FFFF_FFFF_FFFF)
"""Stands for the pfn of a head that the compound word does not give."""

MAX_MASK_ORDER = 22
"""The largest order the kernel aligns the vmemmap for; it warns in sparse_init() beyond it."""


def lowest_mask(page: StructPage) -> np.uint64:
    """Return the least compound word that is a mask, for struct pages of a power of two.

    A vmemmap does not reach up to it: it is within 2^28 bytes of the end of all addresses.
    """
    return np.uint64((1 << 64) - (page.size << MAX_MASK_ORDER))


def mask_word(page: StructPage, order: NDArray[np.integer]) -> NDArray[np.uint64]:
    """Return the compound word of tails of each `order`, where words are masks: uint64, as long.

    `set_compound_head()`, 8c846c879e22 (7.1).
    """
    shift = np.asarray(order, np.uint64) + np.uint64(page.size.bit_length() - 1)
    return (~np.uint64(0) << shift) | np.uint64(1)


class PageClass(IntEnum):
    """What a struct page is. HOLE is none: nothing is mapped where it would be."""

    HOLE = 0
    HEAD = 1
    FAKE_HEAD = 2
    TAIL = 3
    SINGLE = 4
    UNREADABLE = 5


class Encoding(IntEnum):
    """How the compound word of a tail names its head."""

    NONE = 0
    POINTER = 1
    MASK = 2
    UNDECODABLE = 3


@dataclass(frozen=True)
class Words:
    """What was read of the struct pages of consecutive pfns.

    `mapped`, `readable`, `online`: bool[n]. `compound`, `flags`: uint64[n], the compound word and
    `page.flags`; zero where a struct page is not mapped, not readable or not online.
    """

    first_pfn: int
    mapped: NDArray[np.bool_]
    readable: NDArray[np.bool_]
    online: NDArray[np.bool_]
    compound: NDArray[np.uint64]
    flags: NDArray[np.uint64]


@dataclass(frozen=True)
class Pages:
    """The struct pages of consecutive pfns, classified.

    `kind` uint8[n]: a PageClass. `head` uint64[n]: the pfn of the head, a head's and a single's
    own, or UNKNOWN_HEAD. `encoding` uint8[n]: an Encoding, of the words of tails that are no fake
    heads. `flagged_tails` uint64, ascending: the pfns of tails that have the flag PG_head.
    """

    first_pfn: int
    kind: NDArray[np.uint8]
    head: NDArray[np.uint64]
    encoding: NDArray[np.uint8]
    flagged_tails: NDArray[np.uint64]


def mask_order(compound: NDArray[np.uint64], page_size: int) -> NDArray[np.uint8]:
    """Return the order of compound pages whose tails hold the masks `compound`: uint8[n].

    `set_compound_head()` (8c846c879e22): as many low zeros as the bytes of 2^order struct pages
    take. More than MAX_MASK_ORDER, or 0, for a word that is no mask.
    """
    shift = np.uint8(page_size.bit_length() - 1)
    return np.asarray(np.bitwise_count(~compound | np.uint64(1)) - shift)


def is_a_mask(compound: NDArray[np.uint64], page: StructPage) -> NDArray[np.bool_]:
    """Tell which compound words, uint64[n], are masks of some order: bool[n]."""
    if page.size & (page.size - 1):
        return np.zeros(len(compound), np.bool_)
    low_zeros = ~(compound & ~np.uint64(1))
    order = mask_order(compound, page.size)
    in_a_row = low_zeros & (low_zeros + np.uint64(1)) == 0
    return np.asarray(in_a_row & (order > 0) & (order <= MAX_MASK_ORDER))


def decode(
    compound: NDArray[np.uint64],
    address: NDArray[np.uint64],
    page: StructPage,
    vmemmap: tuple[int, int],
) -> tuple[NDArray[np.uint8], NDArray[np.uint64]]:
    """Decode compound words, uint64[n], of the struct pages at `address`, uint64[n].

    `vmemmap` is its first address and the one after its last. Returns the Encoding, uint8[n]
    (NONE for words without the tail bit), and the pfn of the head, uint64[n], UNKNOWN_HEAD where
    the word is neither mask nor pointer.
    """
    start, end = np.uint64(vmemmap[0]), np.uint64(vmemmap[1])
    size = np.uint64(page.size)
    value = compound & ~np.uint64(1)
    is_mask = is_a_mask(compound, page)
    target = np.where(is_mask, address & value, value)
    offset = target - start
    index = offset // size
    inside = (target >= start) & (target < end) & (index * size == offset)
    tail = (compound & np.uint64(1)) != 0
    encoding = np.full(len(compound), Encoding.UNDECODABLE, np.uint8)
    encoding[inside & ~is_mask] = Encoding.POINTER
    encoding[inside & is_mask] = Encoding.MASK
    encoding[~tail] = Encoding.NONE
    head = np.where(inside & tail, index, UNKNOWN_HEAD)
    return encoding, head


def classify(words: Words, page: StructPage, vmemmap: tuple[int, int]) -> Pages:
    """Classify struct pages; `vmemmap` as in `decode`.

    Struct pages of offline sections are SINGLE: the kernel looks at none of them, and they hold
    whatever they were left with.
    """
    count = len(words.compound)
    own = np.arange(words.first_pfn, words.first_pfn + count, dtype=np.uint64)
    address = np.uint64(vmemmap[0]) + own * np.uint64(page.size)
    encoding, head = decode(words.compound, address, page, vmemmap)
    head = np.where(encoding == Encoding.NONE, own, head)

    kind = np.full(count, PageClass.SINGLE, np.uint8)
    reads_as_head = (words.flags & np.uint64(page.head_bit)) != 0
    kind[reads_as_head] = PageClass.HEAD
    kind[encoding != Encoding.NONE] = PageClass.TAIL

    # page_fixed_fake_head(): only a struct page at the start of a vmemmap page can be a fake, and
    # the next one, which shares its frame, then names the head it was copied from. Mask words name
    # no head, so they make no fakes.
    suspect = np.flatnonzero(
        (kind[:-1] == PageClass.HEAD)
        & (encoding[1:] == Encoding.POINTER)
        & (address[:-1] % np.uint64(VMEMMAP_PAGE) == 0)
        & (head[1:] != own[:-1])
    )
    kind[suspect] = PageClass.FAKE_HEAD
    head[suspect] = head[suspect + 1]

    kind[~words.readable] = PageClass.UNREADABLE
    head[~words.readable] = UNKNOWN_HEAD
    kind[~words.mapped] = PageClass.HOLE
    head[~words.mapped] = UNKNOWN_HEAD
    offline = words.mapped & ~words.online
    kind[offline] = PageClass.SINGLE
    head[offline] = own[offline]
    encoding[(kind != PageClass.TAIL)] = Encoding.NONE
    flagged_tails = own[reads_as_head & (kind == PageClass.TAIL)]
    return Pages(words.first_pfn, kind, head, encoding, flagged_tails)
