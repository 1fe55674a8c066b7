"""Physical memory in an ELF core: a dump, /proc/vmcore, or what a capture unpacks to."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hvoinspect.target.memory import FRAME, WORDS, UnreadableMemoryError
from hvoinspect.target.openfile import OpenFile
from hvoinspect.target.segments import Segments


class ElfMemory:
    """Physical memory in `file`, where `segments` say it is."""

    forkable = True

    def __init__(self, file: OpenFile, segments: Segments) -> None:
        self._file = file
        self._segments = segments

    def read(self, address: int, size: int) -> bytes:
        """Return physical memory. Raises UnreadableMemoryError."""
        pieces = self._segments.pieces(address, size)
        if pieces is None:
            raise UnreadableMemoryError(address, size)
        data = b"".join(self._file.read(*piece) for piece in pieces)
        # A piece that was cut short makes the whole too short, whichever it was.
        if len(data) != size:
            raise UnreadableMemoryError(address, size)
        return data

    def read_frames(self, pfns: NDArray[np.uint64], words: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Read frames, as Memory says."""
        offsets, in_pieces = self._segments.places(pfns)
        readable = self._file.read_frames(offsets, words)
        if readable.all():
            return readable
        for row in np.flatnonzero(in_pieces).tolist():
            try:
                content = self.read(int(pfns[row]) * FRAME, FRAME)
            except UnreadableMemoryError:
                continue
            words[row] = np.frombuffer(content, "<u8", WORDS)
            readable[row] = True
        words[~readable] = 0
        return readable
