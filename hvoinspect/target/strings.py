"""Many strings, each closed by a NUL byte, in which one is looked for by its whole text."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

MAX_STRINGS = 1 << 21
"""Most strings that are not empty."""


class Strings:
    """The strings of a blob that begins and ends with a NUL byte.

    To know where each begins takes one pass, and finding one then no other: a search through all of
    the text each time would be most of what learning a kernel takes. A dictionary of all strings
    would take longer to build than that pass, and could be made to swell.
    """

    def __init__(self, text: bytes) -> None:
        self.text = text

    def find(self, wanted: bytes) -> NDArray[np.int64]:
        """Return where the strings begin that are `wanted`: int64[n]. It has no NUL, nor is empty.

        Raises ValueError if there are more than MAX_STRINGS in all.
        """
        starts, lengths = self._table
        found: NDArray[np.int64] = starts[lengths == len(wanted)]
        text = np.frombuffer(self.text, np.uint8)
        for at, byte in enumerate(wanted):
            found = found[text[found + at] == byte]
        return found

    @cached_property
    def _table(self) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        ends = np.frombuffer(self.text, np.uint8) == 0
        starts = np.flatnonzero(ends[:-1] & ~ends[1:]) + 1
        if len(starts) > MAX_STRINGS:
            raise ValueError(f"it has {len(starts)} strings")
        return starts, (np.flatnonzero(ends[1:] & ~ends[:-1]) + 1 - starts).astype(np.int32)
