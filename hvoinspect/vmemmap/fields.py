"""Fields of all struct pages of whole frames at once.

Only for struct pages of which a whole number fills a frame.
"""

from __future__ import annotations

import sys

import numpy as np
from numpy.typing import NDArray

from hvoinspect.target.layout import HugetlbMark, PageField
from hvoinspect.target.memory import WORDS

_BYTE_SWAP = 7 if sys.byteorder == "big" else 0
"""Of a byte's place in a word, where words are native and not as in the kernel's memory."""


def bytes_at(words: NDArray[np.uint64], size: int, offset: int) -> NDArray[np.uint8]:
    """Return the byte at `offset` of each struct page of `size` bytes: uint8[f, per], a copy.

    `words` uint64[f, 512]: frames.
    """
    each = words.view(np.uint8).reshape(-1, size)[:, offset ^ _BYTE_SWAP]
    return each.copy().reshape(len(words), 8 * WORDS // size)


def words_at(words: NDArray[np.uint64], size: int, offset: int) -> NDArray[np.uint64]:
    """Return the word at `offset` of each struct page of `size` bytes: uint64[f, per], a view."""
    return words[:, offset // 8 :: size // 8]


def marked(words: NDArray[np.uint64], size: int, mark: HugetlbMark) -> NDArray[np.bool_]:
    """Tell of each struct page of `size` bytes whether it has `mark` itself: bool[f, per].

    `mark.where.index` is left out of account.
    """
    offset, shift = mark.where.offset + mark.bits.shift // 8, mark.bits.shift % 8
    if mark.bits.mask == 0xFF and shift == 0:
        return np.asarray(bytes_at(words, size, offset) == mark.value)
    word = words_at(words, size, mark.where.offset & ~7)
    return mark.among(word >> np.uint64(8 * (mark.where.offset & 7)))


def values_at(
    words: NDArray[np.uint64],
    size: int,
    at: NDArray[np.intp],
    place: NDArray[np.intp] | int,
    where: PageField,
) -> NDArray[np.uint64]:
    """Return `where` of compound pages whose heads are at `place` of the frames `at`: uint64.

    Heads have even places, so the struct page after one is in the same frame; for what is none,
    anything may be returned.
    """
    first = (where.index * size + where.offset) // 8
    word = words[at, np.minimum(place * (size // 8) + first, WORDS - 1)]
    value = word >> np.uint64(8 * (where.offset & 7))
    return value & np.uint64((1 << (8 * where.size)) - 1) if where.size < 8 else value
