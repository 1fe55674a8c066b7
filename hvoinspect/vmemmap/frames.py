"""Bulk reads of physical frames into arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hvoinspect.target.layout import VMEMMAP_PAGE
from hvoinspect.target.memory import Memory, UnreadableMemoryError

WORDS = VMEMMAP_PAGE // 8
RUN = 256
"""Frames of one read: 1 MiB, beyond which reads of /proc/kcore and of dumps get no faster."""


def read_frames(
    memory: Memory, pfns: NDArray[np.uint64]
) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
    """Read the frames `pfns`, uint64[n] in any order and with repeats, each distinct one once.

    Returns their words, uint64[n, 512] (little-endian in memory, native here), and which could be
    read, bool[n]. A frame that cannot be read is zeros and False: never take it for zero pages.
    """
    distinct, where = np.unique(pfns, return_inverse=True)
    words = np.zeros((len(distinct), WORDS), np.uint64)
    readable = read_into(memory, distinct, words)
    if len(distinct) == len(pfns) and np.array_equal(distinct, pfns):
        return words, readable
    return words[where], readable[where]


def read_into(
    memory: Memory, pfns: NDArray[np.uint64], words: NDArray[np.uint64]
) -> NDArray[np.bool_]:
    """Read the frames `pfns`, uint64[n], ascending and distinct, into `words`, uint64[n, 512].

    Returns which could be read, bool[n]; the others are left zero.
    """
    words[:] = 0
    readable = np.zeros(len(pfns), np.bool_)
    breaks = np.flatnonzero(np.diff(pfns) != 1) + 1
    for low, high in zip(
        np.concatenate([[0], breaks]).tolist(),
        np.concatenate([breaks, [len(pfns)]]).tolist(),
        strict=True,
    ):
        for first in range(low, high, RUN):
            last = min(first + RUN, high)
            _read_run(memory, int(pfns[first]), words[first:last], readable[first:last])
    return readable


def _read_run(
    memory: Memory, first: int, words: NDArray[np.uint64], readable: NDArray[np.bool_]
) -> None:
    """Fill `words` from consecutive frames; halve the run where a part of it cannot be read."""
    try:
        content = memory.read(first * VMEMMAP_PAGE, len(words) * VMEMMAP_PAGE)
    except UnreadableMemoryError:
        if len(words) > 1:
            half = len(words) // 2
            _read_run(memory, first, words[:half], readable[:half])
            _read_run(memory, first + half, words[half:], readable[half:])
        return
    words[:] = np.frombuffer(content, "<u8").reshape(-1, WORDS)
    readable[:] = True
