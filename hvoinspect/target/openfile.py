"""A file that is open for reading only, and reads of frames from it.

With pread(2) and preadv(2), never with mmap(2): a file that shrinks or a disk that fails is a
signal, SIGBUS, to who has it mapped, and a short read or an OSError here. They have no position
that processes could share either, so a file may be read in the children of a fork.
"""

from __future__ import annotations

import os
import weakref
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hvoinspect.target.memory import FRAME, runs

MAX_OFFSET = 1 << 62
"""Beyond any file's end, and sums with it still fit 63 bits."""
MAX_FAILED = 1000
"""Reads of a file that may fail before runs with an error are given up whole. Each can take seconds
on a failing disk, and where nothing can be read there would be two for every frame."""


def begins_with(path: Path, magic: bytes) -> bool:
    """Say whether a file begins with `magic`; False if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(len(magic)) == magic
    except OSError:
        return False


class OpenFile:
    """A file, open until nobody has this any more. `descriptor` is its own; it cannot write."""

    def __init__(self, path: Path) -> None:
        """Open `path`. Raises OSError."""
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY)
        self._failed = 0
        weakref.finalize(self, os.close, self.descriptor)

    @property
    def path(self) -> Path:
        """A name for this very file, whatever its path is a name of by now (proc(5))."""
        return Path(f"/proc/self/fd/{self.descriptor}")

    def read(self, offset: int, size: int) -> bytes:
        """Return up to `size` bytes at `offset`, fewer where the file ends or cannot be read."""
        data = bytearray(size)
        done, _ = self._fill(offset, memoryview(data))
        return bytes(data[:done])

    def read_frames(
        self, offsets: NDArray[np.int64], words: NDArray[np.uint64]
    ) -> NDArray[np.bool_]:
        """Read the frame at each of `offsets`, int64[n], into a row of `words`; none at -1.

        `words`: uint64[n, 512], C-contiguous. Returns which could be read, bool[n]; the rows of the
        others hold anything. An error in the midst of a run costs the frames that it is about (all
        behind it once MAX_FAILED reads have failed), and a file that ends those behind its end.
        """
        readable = offsets >= 0
        if not readable.any():
            return readable
        # Rows whose offsets follow each other are read at once, right into their place.
        together = (offsets[1:] - offsets[:-1] == FRAME) & readable[:-1]
        at, view, lost = offsets.tolist(), words.data.cast("B"), []
        for low, high in runs(together):
            if at[low] < 0:
                continue
            part = view[low * FRAME : high * FRAME]
            try:
                done = os.preadv(self.descriptor, (part,), at[low])
            except OSError:
                self._failed += 1
                done = -1
            if done != len(part):
                readable[low:high] = False
                if done >= 0 or self._failed < MAX_FAILED:
                    lost.append((low, high))
        self._read_parts(offsets, words, readable, lost)
        return readable

    def _read_parts(
        self,
        offsets: NDArray[np.int64],
        words: NDArray[np.uint64],
        readable: NDArray[np.bool_],
        todo: list[tuple[int, int]],
    ) -> None:
        """Read what can be read of runs that could not be read at once, `todo`, from row to row."""
        while todo:
            low, high = todo.pop()
            view = words[low:high].data.cast("B")
            done, failed = self._fill(int(offsets[low]), view)
            readable[low : low + done // FRAME] = True
            low += done // FRAME
            if failed and high - low > 1 and self._failed < MAX_FAILED:
                middle = (low + high) // 2
                todo += [(middle, high), (low, middle)]

    def _fill(self, offset: int, view: memoryview) -> tuple[int, bool]:
        """Read until `view` is full; return how much was read, and whether an error ended it."""
        done = 0
        try:
            while done < len(view) and (more := os.preadv(self.descriptor, [view[done:]], offset)):
                done += more
                offset += more
        except OSError:
            self._failed += 1
            return done, True
        return done, False
