"""Bulk reads of physical frames into arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hvoinspect.target.memory import WORDS, Memory


def read_frames(
    memory: Memory, pfns: NDArray[np.uint64]
) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
    """Read the frames `pfns`, uint64[n] in any order and with repeats, each distinct one once.

    Returns their words, uint64[n, 512] (little-endian in memory, native here), and which could be
    read, bool[n]. A frame that cannot be read is zeros and False: never take it for zero pages.
    """
    distinct, where = np.unique(pfns, return_inverse=True)
    words = np.zeros((len(distinct), WORDS), np.uint64)
    readable = memory.read_frames(distinct, words)
    if len(distinct) == len(pfns) and np.array_equal(distinct, pfns):
        return words, readable
    return words[where], readable[where]
