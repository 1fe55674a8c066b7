"""Where an ELF core has physical memory: its PT_LOAD headers, as one map without overlaps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hvoinspect.target.elfcore import PT_LOAD
from hvoinspect.target.memory import FRAME, PHYSICAL_BITS
from hvoinspect.target.openfile import MAX_OFFSET
from hvoinspect.target.ranges import each_once


@dataclass(frozen=True)
class Segments:
    """Physical memory in a file.

    Pieces, ascending, none overlapping: `start` and `end`, int64[n], physical addresses; `shift`,
    int64[n], what to add to an address for its offset in the file. What is in no piece is not in
    the file. `group`, int64[n]: equal for pieces with no gap between them.
    """

    start: NDArray[np.int64]
    end: NDArray[np.int64]
    shift: NDArray[np.int64]
    group: NDArray[np.int64]

    @classmethod
    def of(cls, headers: NDArray[np.void]) -> Segments:
        """Make the map of program headers, `dumpfile.PROGRAM_HEADER`[n], which may say anything.

        Where they overlap the last one counts, as for drgn: /proc/vmcore and /proc/kcore have the
        kernel's image twice. Of what a segment has beyond its p_filesz the file holds nothing; that
        is how makedumpfile -E leaves out what it excludes. Headers without a physical address
        (p_paddr of all ones) or with impossible ones are left out.
        """
        loads = headers[headers["type"] == PT_LOAD]
        low, offset, size = (loads[name] for name in ("physical", "offset", "file_size"))
        limit = np.uint64(1 << PHYSICAL_BITS)
        held = (low < limit) & (offset < np.uint64(MAX_OFFSET)) & (size > 0)
        low, offset, size = low[held], offset[held], size[held]
        size = np.minimum(np.minimum(size, limit - low), np.uint64(MAX_OFFSET) - offset)
        low, offset, size = (values.astype(np.int64) for values in (low, offset, size))

        edges = each_once(np.concatenate([low, low + size]))
        owner = _last_over(
            np.searchsorted(edges, low), np.searchsorted(edges, low + size), max(len(edges) - 1, 0)
        )
        owned = np.flatnonzero(owner >= 0)
        start, end, shift = edges[owned], edges[owned + 1], (offset - low)[owner[owned]]
        new = np.ones(len(start) + 1, np.bool_)
        new[1:-1] = (start[1:] != end[:-1]) | (shift[1:] != shift[:-1])
        start, end, shift = start[new[:-1]], end[new[1:]], shift[new[:-1]]
        group = np.zeros(len(start), np.int64)
        group[1:] = np.cumsum(start[1:] != end[:-1])
        return cls(start, end, shift, group)

    def places(self, pfns: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return the offset of each frame that is in one piece, int64[n], and -1 for the others.

        And of which of the others all bytes are there, bool[n], in several pieces. `pfns` are
        uint64[n], ascending.
        """
        in_pieces = np.zeros(len(pfns), np.bool_)
        if not len(self.start) or not len(pfns):
            return np.full(len(pfns), -1, np.int64), in_pieces
        low, high = int(pfns[0]) * FRAME, (int(pfns[-1]) + 1) * FRAME
        piece = int(self.start.searchsorted(min(low, MAX_OFFSET), "right")) - 1
        if piece >= 0 and high <= self.end[piece]:  # as nearly always
            return pfns.astype(np.int64) * FRAME + self.shift[piece], in_pieces
        possible = pfns < np.uint64(1 << PHYSICAL_BITS - 12)
        address = np.where(possible, pfns, np.uint64(0)).astype(np.int64) * FRAME
        first = np.searchsorted(self.start, address, "right") - 1
        last = np.searchsorted(self.start, address + FRAME - 1, "right") - 1
        held = (
            possible
            & (first >= 0)
            & (address < self.end[first])
            & (address + FRAME <= self.end[last])
            & (self.group[first] == self.group[last])
        )
        whole = held & (first == last)
        return np.where(whole, address + self.shift[first], -1), held & ~whole

    def pieces(self, address: int, size: int) -> list[tuple[int, int]] | None:
        """Return the offset and size of each piece of a range; None if a part is not held.

        Of a range of no bytes, nothing.
        """
        found: list[tuple[int, int]] = []
        if not 0 <= address <= address + size <= 1 << PHYSICAL_BITS:
            return None
        at = int(np.searchsorted(self.start, address, "right")) - 1
        while size > 0:
            if not 0 <= at < len(self.start) or not self.start[at] <= address < self.end[at]:
                return None
            here = min(size, int(self.end[at]) - address)
            found.append((address + int(self.shift[at]), here))
            address, size, at = address + here, size - here, at + 1
        return found


def _last_over(left: NDArray[np.intp], right: NDArray[np.intp], count: int) -> NDArray[np.int64]:
    """Return the last of some ranges that covers each of `count` places, int64[count]; -1 for none.

    The ranges, none empty, are from `left` to before `right`, intp[n]. Each is laid down as two
    that overlap and whose length is a power of two; then those of each length are halved, the
    longest first. So it takes n log n whatever the headers of a file say.
    """
    owner = np.full(count, -1, np.int64)
    level = np.frexp((right - left).astype(np.float64))[1] - 1
    for step in range(int(level.max(initial=-1)), -1, -1):
        width = 1 << step
        longer = owner
        owner = longer.copy()
        np.maximum(owner[width:], longer[:-width], out=owner[width:])
        here = np.flatnonzero(level == step)
        np.maximum.at(owner, left[here], here)
        np.maximum.at(owner, right[here] - width, here)
    return owner
