"""A chunk by vmemmap page and frame: which frames are read, and what each page shows of them.

For `quick.py`, which tells what that comes to. A frame is read and summarized once, however often
it is mapped; what it means is another thing wherever it is mapped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hvoinspect.target.layout import VMEMMAP_PAGE, Kernel
from hvoinspect.target.memory import WORDS
from hvoinspect.vmemmap.backing import MAX_FREE_ORDER
from hvoinspect.vmemmap.chunks import MappedPages, in_sections
from hvoinspect.vmemmap.distinct import Distinct, distinct
from hvoinspect.vmemmap.pages import lowest_mask, mask_order, mask_word
from hvoinspect.vmemmap.summary import (
    FreeBlocks,
    Holds,
    Summaries,
    Summarizer,
    no_summaries,
    require,
)

LEAD_ORDER = 9
"""Order of the memory that one vmemmap page of the first wave stands for: 2 MiB."""
BATCH = 512
"""Frames read and summarized at a time: 2 MiB. With fewer, what calls of NumPy cost shows; with far
more, what was read is no longer in a processor's caches when it is summarized."""


@dataclass(frozen=True)
class Place:
    """A chunk of p vmemmap pages before anything behind them is read.

    `per`: struct pages of one. `pfn` uint64[p]: of the first struct page in each; `address`
    uint64[p]. `known` bool[p]: in a present section, and mapped as far as one can tell; `online`
    bool[p]; `wanted` bool[p]: to be read, or inferred. `frames`: the distinct ones of all.
    """

    kernel: Kernel
    mapped: MappedPages
    first_pfn: int
    per: int
    pfn: NDArray[np.uint64]
    address: NDArray[np.uint64]
    known: NDArray[np.bool_]
    online: NDArray[np.bool_]
    wanted: NDArray[np.bool_]
    frames: Distinct

    def leads(self) -> NDArray[np.bool_]:
        """Tell which vmemmap pages are read in the first wave, bool[p]."""
        each = max(1, (1 << LEAD_ORDER) // self.per)
        leads: NDArray[np.bool_] = np.append(self.frames.times > 1, False)[self.frames.row]
        leads[::each] = True
        return leads & self.wanted


def place_of(kernel: Kernel, mapped: MappedPages, first_pfn: int) -> Place:
    """Return the chunk from `first_pfn` on, of which nothing is read yet."""
    per = VMEMMAP_PAGE // kernel.page.size
    count = len(mapped.frame) * per
    in_section, online = in_sections(kernel, first_pfn, count, per)
    pfn = np.arange(first_pfn, first_pfn + count, per, dtype=np.uint64)
    return Place(
        kernel=kernel,
        mapped=mapped,
        first_pfn=first_pfn,
        per=per,
        pfn=pfn,
        address=np.uint64(kernel.vmemmap) + pfn * np.uint64(kernel.page.size),
        known=in_section & (mapped.present | mapped.unknown),
        online=online,
        wanted=mapped.present & online,
        frames=distinct(mapped.frame, mapped.present),
    )


class Frames:
    """The frames of a chunk that were read so far: what they hold, and the free blocks in them."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._summarizer = Summarizer(place.kernel.page)
        self._address = place.address[place.frames.first]
        self._buffer = np.empty((BATCH, WORDS), np.uint64)
        self._free: list[FreeBlocks] = []
        self._shown: Shown | None = None
        # One more, that of no frame: the row -1.
        self.summaries: Summaries = no_summaries(len(place.frames.values) + 1)

    def read(self, rows: NDArray[np.intp]) -> None:
        """Read the frames `rows`, ascending. Raises IrregularError."""
        if not len(rows):
            return
        self._shown = None
        memory, frames, summaries = self._place.kernel.memory, self._place.frames, self.summaries
        for start in range(0, len(rows), BATCH):
            batch = rows[start : start + BATCH]
            words = self._buffer[: len(batch)]
            readable = memory.read_frames(frames.values[batch], words)
            if not readable.all():
                summaries.holds[batch[~readable]] = Holds.UNREADABLE
                batch, words = batch[readable], words[readable]
            free = self._summarizer.summarize(words, self._address[batch], batch, summaries)
            if len(free.row):
                self._free.append(free)
        mixed = rows[summaries.holds[rows] == Holds.MIXED]
        require((frames.times[mixed] == 1).all())

    def unread(self, pages: NDArray[np.bool_]) -> NDArray[np.intp]:
        """Return the frames behind `pages`, bool[p], that were not read yet, as rows, ascending."""
        chosen = np.zeros(len(self.summaries.holds), np.bool_)
        chosen[self._place.frames.row[pages]] = True
        chosen[-1] = False
        return np.flatnonzero(chosen & (self.summaries.holds == Holds.UNREAD))

    def shown(self) -> Shown:
        """Tell of each vmemmap page what was read of it. Raises IrregularError."""
        if self._shown is None:
            self._shown = _show(self._place, self.summaries)
        return self._shown

    def free(self) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        """Return the pfn of each free block read so far, ascending, and its order.

        Raises IrregularError if one of them is in a frame that is mapped more than once.
        """
        if not self._free:
            return np.zeros(0, np.uint64), np.zeros(0, np.uint64)
        row = np.concatenate([free.row for free in self._free])
        at = np.concatenate([free.place for free in self._free])
        order = np.concatenate([free.order for free in self._free])
        require((self._place.frames.times[row] == 1).all())
        pfn = self._place.pfn[self._place.frames.first[row]] + at.astype(np.uint64)
        sort = np.argsort(pfn)
        return pfn[sort], np.minimum(order[sort], np.uint64(MAX_FREE_ORDER))


class Shown(NamedTuple):
    """What each of p vmemmap pages shows that was read.

    `holds` uint8[p], a Holds, UNREAD where it is not to be read; `read` bool[p], whether it was;
    `word` uint64[p], the compound word of its tails; `head` intp[p], the vmemmap page that begins
    the compound page to which TAILS and HEAD lead, else -1; `real` bool[p]: a HEAD that leads to
    itself, and is no fake head.
    """

    holds: NDArray[np.uint8]
    read: NDArray[np.bool_]
    word: NDArray[np.uint64]
    head: NDArray[np.intp]
    real: NDArray[np.bool_]


def _show(place: Place, summaries: Summaries) -> Shown:
    """Tell of each vmemmap page what the frame behind it holds, and means there.

    Raises IrregularError where that leads to no vmemmap page of the chunk.
    """
    kernel, row = place.kernel, place.frames.row
    holds = summaries.holds[row]
    holds[~place.wanted] = Holds.UNREAD
    word, is_mask = summaries.word, summaries.word >= lowest_mask(kernel.page)
    order = mask_order(word[is_mask], kernel.page.size)
    require(((order > 0) & (word[is_mask] == mask_word(kernel.page, order))).all())
    # A pointer names the same head wherever it is mapped, a mask the one that is aligned there.
    value = word & ~np.uint64(1)
    kept = np.where(is_mask, value, np.uint64(0))[row]
    target = (place.address & kept) + np.where(is_mask, np.uint64(0), value)[row]

    is_head = holds == Holds.HEAD
    leads = is_head | (holds == Holds.TAILS)
    offset = target - place.address[0]  # of what is before the chunk, a huge number
    right = (offset & np.uint64(VMEMMAP_PAGE - 1) == 0) & (offset < len(row) * VMEMMAP_PAGE)
    require((right | ~leads).all())
    head = (offset >> np.uint64(12)).astype(np.intp)
    head[~leads] = -1
    return Shown(
        holds,
        (holds != Holds.UNREAD) & (holds != Holds.UNREADABLE),
        word[row],
        head,
        is_head & (head == np.arange(len(row))),
    )
