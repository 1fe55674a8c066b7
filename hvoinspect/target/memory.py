"""How the memory of an inspected kernel is read: by physical address, never written."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

FRAME = 4096
"""Bytes of a frame: x86-64's smallest page."""
WORDS = FRAME // 8
PHYSICAL_BITS = 52
"""Most bits a physical address has on x86-64 (Intel SDM volume 3A, "Physical address space")."""
RUN = 256
"""Frames of one read: 1 MiB, beyond which reads of /proc/kcore and of dumps get no faster."""


class UnreadableMemoryError(Exception):
    """A range of physical memory could not be read, or only partly.

    Not an error of the program: callers turn it into coverage. Excluded or absent memory raises
    this; it never reads as zeros.
    """

    def __init__(self, address: int, size: int) -> None:
        self.address = address
        self.size = size
        super().__init__(f"{size} bytes of physical memory at {address:#x} cannot be read")


class Memory(Protocol):
    """Physical memory of the inspected kernel."""

    @property
    def forkable(self) -> bool:
        """Whether a child after os.fork() may read it, beside its parent and other children."""

    def read(self, address: int, size: int) -> bytes:
        """Return the `size` bytes at physical `address`: for a few bytes, or a few pages.

        Raises UnreadableMemoryError if any of them cannot be read.
        """

    def read_frames(self, pfns: NDArray[np.uint64], words: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Read the frames `pfns`, uint64[n], ascending and distinct.

        Into `words`, uint64[n, 512], C-contiguous, little-endian. Returns which could be read,
        bool[n]; what could not is zeros in `words`. Raises nothing.
        """


class ByRanges(ABC):
    """Memory that is read a range at a time: many frames are runs of such reads."""

    forkable = False

    @abstractmethod
    def read(self, address: int, size: int) -> bytes:
        """Return physical memory. Raises UnreadableMemoryError."""

    def read_frames(self, pfns: NDArray[np.uint64], words: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Read frames, as Memory says; a run in which a part cannot be read is halved."""
        readable = np.zeros(len(pfns), np.bool_)
        if not len(pfns):
            return readable
        for run in runs(pfns[1:] - pfns[:-1] == 1):
            todo = [run]
            while todo:
                first, last = todo.pop()
                try:
                    content = self.read(int(pfns[first]) * FRAME, (last - first) * FRAME)
                except UnreadableMemoryError:
                    words[first:last] = 0
                    if last - first > 1:
                        middle = (first + last) // 2
                        todo += [(middle, last), (first, middle)]
                    continue
                words[first:last] = np.frombuffer(content, "<u8").reshape(-1, WORDS)
                readable[first:last] = True
        return readable


class ByFrames(ABC):
    """Memory that is read a frame at a time: a few bytes are cut out of their frames."""

    @abstractmethod
    def read_frames(self, pfns: NDArray[np.uint64], words: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Read frames, as Memory says."""

    def read(self, address: int, size: int) -> bytes:
        """Return physical memory. Raises UnreadableMemoryError."""
        if not 0 <= address <= address + size <= 1 << PHYSICAL_BITS:
            raise UnreadableMemoryError(address, size)
        first = address // FRAME
        pfns = np.arange(first, -(-(address + size) // FRAME), dtype=np.uint64)
        words = np.zeros((len(pfns), WORDS), np.uint64)
        if not self.read_frames(pfns, words).all():
            raise UnreadableMemoryError(address, size)
        start = address - first * FRAME
        return words.tobytes()[start : start + size]


def runs(together: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return runs of n places, as (first, after the last), none of more than RUN places.

    `together`, bool[n - 1]: whether each place but the first belongs to the one before it.
    """
    edges = np.concatenate([[0], (~together).nonzero()[0] + 1, [len(together) + 1]])
    whole = itertools.pairwise(edges.tolist())
    if (edges[1:] - edges[:-1]).max() <= RUN:
        return list(whole)
    return [
        (first, min(first + RUN, end)) for start, end in whole for first in range(start, end, RUN)
    ]
