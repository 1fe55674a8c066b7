"""Fields of all struct pages of whole frames at once.

Only for struct pages of which a whole number fills a frame.
"""

from __future__ import annotations

import sys

import numpy as np
from numpy.typing import NDArray

from hvoinspect.target.layout import HugetlbMark

_BYTE_SWAP = 7 if sys.byteorder == "big" else 0
"""Of a byte's place in a word, where words are native and not as in the kernel's memory."""


def bytes_at(words: NDArray[np.uint64], size: int, offset: int) -> NDArray[np.uint8]:
    """Return the byte at `offset` of each struct page of `size` bytes: uint8[f, per], a copy.

    `words` uint64[f, 512]: frames.
    """
    each = words.view(np.uint8).reshape(-1, size)[:, offset ^ _BYTE_SWAP]
    return each.copy().reshape(len(words), -1)


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
    low = np.uint64(8 * (mark.where.offset & 7) + mark.bits.shift)
    word = words_at(words, size, mark.where.offset & ~7) >> low
    found: NDArray[np.bool_] = word & np.uint64(mark.bits.mask) == np.uint64(mark.value)
    return found
