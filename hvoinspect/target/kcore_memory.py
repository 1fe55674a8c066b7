"""The memory of the running kernel, through /proc/kcore's segments of the direct map.

What holds of them (fs/proc/kcore.c, 6.0 to 7.3):

- Segments of RAM and of the kernel's image have a physical address, others -1. They are made from
  "System RAM" of /proc/iomem when the file is opened for the first time after memory came or went;
  so memory that was added is seen by who opens it again.
- Where the first segment begins in the file depends on how many there are. So it can shift for
  whoever has the file open, as soon as anyone opens it after memory came or went: the headers are
  compared after each reading, and what was read while they changed is read again.
- Of RAM, pages that are offline, inflated in a balloon, poisoned by the hardware or not accepted
  yet read as zeros, without an error ("fs/proc/kcore: don't read offline sections, logically
  offline pages and hwpoisoned pages", "proc/kcore: do not try to access unaccepted memory"). But
  some frames are zeros: of page tables, and of struct pages that nobody initialised. So frames of
  zeros are looked up in /proc/kpageflags: they are unreadable where it says that the kernel leaves
  them out, or cannot be asked.
- What the kernel's own page tables do not map (debug_pagealloc, secretmem) fails with EFAULT, and
  with it all of the read that it is in.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hvoinspect.target.kcore import program_header_bytes, program_headers
from hvoinspect.target.memory import ByFrames
from hvoinspect.target.openfile import OpenFile
from hvoinspect.target.segments import Segments

HWPOISON, NO_PAGE, OFFLINE = 1 << 19, 1 << 20, 1 << 23
"""Bits of /proc/kpageflags (include/uapi/linux/kernel-page-flags.h)."""
TRIES = 4
"""How often frames are read while the headers change under the reader."""
MAX_REOPENED = 16
"""How often /proc/kcore is opened again for frames that are in no segment."""


class KcoreMemory(ByFrames):
    """Physical memory of the running kernel. `kcore` and `kpageflags` are its files in /proc."""

    forkable = True

    def __init__(
        self, kcore: Path = Path("/proc/kcore"), kpageflags: Path = Path("/proc/kpageflags")
    ) -> None:
        """Open it. Raises OSError; ValueError if it is no core or has no physical memory."""
        self._kcore, self._kpageflags = kcore, kpageflags
        self._reopened = 0
        self._open()
        if not len(self._segments.start):
            raise ValueError("no segment has a physical address")

    def read_frames(self, pfns: NDArray[np.uint64], words: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Read frames, as Memory says."""
        try:
            return self._read_frames(pfns, words)
        except (OSError, ValueError):  # /proc/kcore cannot be opened, or is no core, any more
            words[:] = 0
            return np.zeros(len(pfns), np.bool_)

    def _read_frames(
        self, pfns: NDArray[np.uint64], words: NDArray[np.uint64]
    ) -> NDArray[np.bool_]:
        for _ in range(TRIES):
            offsets, _ = self._segments.places(pfns)
            if (offsets < 0).any() and self._reopened < MAX_REOPENED:
                self._reopened += 1
                self._open()
                offsets, _ = self._segments.places(pfns)
            readable = self._file.read_frames(offsets, words)
            if program_header_bytes(self._file) == self._headers:
                self._tell_false(pfns, words, readable)
                if not readable.all():
                    words[~readable] = 0
                return readable
            self._open()
        words[:] = 0
        return np.zeros(len(pfns), np.bool_)

    def _open(self) -> None:
        self._file = OpenFile(self._kcore)
        self._headers = program_header_bytes(self._file)
        self._segments = Segments.of(program_headers(self._headers))

    def _tell_false(
        self, pfns: NDArray[np.uint64], words: NDArray[np.uint64], readable: NDArray[np.bool_]
    ) -> None:
        """Mark as not `readable` the frames of zeros that stand for something else."""
        rows = (readable & (words[:, 0] | words[:, 1] == 0)).nonzero()[0]
        if len(rows):
            rows = rows[~words[rows].any(axis=1)]
            readable[rows] = self._are_read(pfns[rows])

    def _are_read(self, pfns: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Tell of each frame whether /proc/kcore reads it: bool[n]."""
        try:
            file = OpenFile(self._kpageflags)
        except OSError:
            return np.zeros(len(pfns), np.bool_)
        flags = [file.read(pfn * 8, 8) for pfn in pfns.tolist()]
        unread = HWPOISON | NO_PAGE | OFFLINE
        return np.array(
            [len(word) == 8 and not int.from_bytes(word, "little") & unread for word in flags]
        )
