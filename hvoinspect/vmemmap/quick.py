"""The quick look at a chunk: by vmemmap page and frame, not by struct page.

Where all of a chunk is regular (`summary.py`), what its struct pages come to follows from what each
frame holds and where it is mapped: a frame that is mapped a thousand times is judged once and
counted a thousand times. What is not regular is no error yet: None is returned, and the chunk is
looked at page by page (`detail.py`), which gives the same result, more slowly, for any content.

Two waves, unless all is to be read. First the vmemmap page that begins each 2 MiB of memory, and
all frames that are shared. Where that shows a compound page or a free block that covers more, the
rest is inferred and not read. Then all others.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hvoinspect.target.layout import VMEMMAP_PAGE, Kernel
from hvoinspect.target.memory import WORDS
from hvoinspect.target.ranges import places_in
from hvoinspect.vmemmap.backing import MAX_FREE_ORDER, backing_of
from hvoinspect.vmemmap.behind import rows_of
from hvoinspect.vmemmap.chunks import MappedPages, in_sections
from hvoinspect.vmemmap.distinct import Distinct, distinct
from hvoinspect.vmemmap.hugepages import (
    Heads,
    Hugepages,
    join,
    orders,
    regular_hugepages,
)
from hvoinspect.vmemmap.oddities import no_oddities
from hvoinspect.vmemmap.pages import (
    Encoding,
    PageClass,
    lowest_mask,
    mask_order,
    mask_word,
)
from hvoinspect.vmemmap.part import Part
from hvoinspect.vmemmap.savings import map_of
from hvoinspect.vmemmap.summary import (
    FreeBlocks,
    Holds,
    IrregularError,
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


def can_be_quick(kernel: Kernel) -> bool:
    """Tell whether struct pages fill frames evenly, and hugepages vmemmap pages."""
    size = kernel.page.size
    if size & (size - 1) or not 8 <= size <= VMEMMAP_PAGE // 8:
        return False
    if kernel.vmemmap_end > lowest_mask(kernel.page):
        return False
    return all(size << hstate.order >= VMEMMAP_PAGE for hstate in kernel.hstates)


def quick_look(
    kernel: Kernel, mapped: MappedPages, first_pfn: int, *, exhaustive: bool
) -> Part | None:
    """Look at the chunk from `first_pfn` on, whose p vmemmap pages are `mapped`.

    None if something in it is not regular. Only for kernels of which `can_be_quick` is true.
    """
    place = _place_of(kernel, mapped, first_pfn)
    frames = _Frames(place)
    cover = _no_cover(place)
    with contextlib.suppress(IrregularError):
        if not exhaustive:
            frames.read(frames.unread(place.leads()))
            cover = _infer(place, frames)
        frames.read(frames.unread(place.wanted & (cover.owner < 0) & ~cover.free))
        return _part(place, frames, cover)
    return None


@dataclass(frozen=True)
class _Place:
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


def _place_of(kernel: Kernel, mapped: MappedPages, first_pfn: int) -> _Place:
    per = VMEMMAP_PAGE // kernel.page.size
    count = len(mapped.frame) * per
    in_section, online = in_sections(kernel, first_pfn, count, per)
    pfn = np.arange(first_pfn, first_pfn + count, per, dtype=np.uint64)
    return _Place(
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


class _Frames:
    """The frames of a chunk that were read so far: what they hold, and the free blocks in them."""

    def __init__(self, place: _Place) -> None:
        self._place = place
        self._summarizer = Summarizer(place.kernel.page)
        self._address = place.address[place.frames.first]
        self._buffer = np.empty((BATCH, WORDS), np.uint64)
        self._free: list[FreeBlocks] = []
        self._shown: _Shown | None = None
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

    def shown(self) -> _Shown:
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


class _Cover(NamedTuple):
    """What the first wave tells of vmemmap pages beyond those it read.

    `owner` intp[p]: the vmemmap page that begins the compound page which covers one, or -1.
    `free` bool[p]: in a free block.
    """

    owner: NDArray[np.intp]
    free: NDArray[np.bool_]


class _Shown(NamedTuple):
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


def _no_cover(place: _Place) -> _Cover:
    return _Cover(np.full(len(place.pfn), -1, np.intp), np.zeros(len(place.pfn), np.bool_))


def _show(place: _Place, summaries: Summaries) -> _Shown:
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
    return _Shown(
        holds,
        (holds != Holds.UNREAD) & (holds != Holds.UNREADABLE),
        word[row],
        head,
        is_head & (head == np.arange(len(row))),
    )


def _infer(place: _Place, frames: _Frames) -> _Cover:
    """Tell what the first wave shows to be covered."""
    shown, (free, free_order) = frames.shown(), frames.free()
    begins, order = _heads(place, frames.summaries, shown)
    large = (order >= LEAD_ORDER) & (order <= MAX_FREE_ORDER)
    begins, length = begins[large], np.left_shift(1, order[large]) // place.per
    large = free_order >= LEAD_ORDER
    free_begins = (free[large] - np.uint64(place.first_pfn)).astype(np.intp)
    free_length = np.left_shift(1, free_order[large].astype(np.intp)) // place.per
    require(not (free_begins % place.per).any())
    free_begins //= place.per

    for start, size in ((begins, length), (free_begins, free_length)):
        require(not (start % size).any())
        require((start + size <= len(place.pfn)).all())
    begin, end = np.concatenate([begins, free_begins]), np.concatenate([length, free_length])
    begin, end = np.sort(begin), np.sort(begin + end)
    require((begin[1:] >= end[:-1]).all())  # so none overlaps with another
    cover = _no_cover(place)
    cover.owner[places_in(begins, length)] = np.repeat(begins, length)
    cover.free[places_in(free_begins, free_length)] = True
    return cover


def _part(place: _Place, frames: _Frames, cover: _Cover) -> Part:
    """Put together what the chunk comes to."""
    shown, summaries = frames.shown(), frames.summaries
    _require_whole(place, summaries, shown)
    _require_covered(shown, cover)
    hugepages = _hugepages(place, summaries, shown, cover)
    classes, encodings = _count(place, summaries, shown, cover)
    offline = int((place.known & ~place.online).sum()) * place.per
    classes[PageClass.SINGLE] += offline
    classes[PageClass.HOLE] = len(place.pfn) * place.per - classes.sum()
    return Part(
        classes=classes,
        encodings=encodings,
        offline=offline,
        inferred=int((place.wanted & (shown.holds == Holds.UNREAD)).sum()) * place.per,
        hugepages=hugepages,
        mappings=map_of(place.mapped, place.frames, place.first_pfn, place.kernel.page.size),
        oddities=no_oddities(),
        backing=backing_of(place.frames, place.pfn, *frames.free()),
    )


def _heads(
    place: _Place, summaries: Summaries, shown: _Shown
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the vmemmap pages that begin compound pages, ascending, and their orders."""
    begins = shown.real.nonzero()[0]
    return begins, summaries.order[place.frames.row[begins]].astype(np.intp)


def _require_whole(place: _Place, summaries: Summaries, shown: _Shown) -> None:
    """Require that all online is mapped, and what was read a part of whole compound pages, or none.

    Compound pages are as much as the order of their head says, all of it tails of that head with
    the same word. What leads to no such head leads to one that could not be read.
    """
    mapped, page = place.mapped, place.kernel.page
    require((mapped.present | mapped.unknown | ~place.online).all())
    begins, order = _heads(place, summaries, shown)
    require((order <= MAX_FREE_ORDER).all())
    length = np.left_shift(1, order) // place.per
    ends = begins + length
    require((length > 0).all() and (ends <= len(place.pfn)).all())
    require((begins[1:] >= ends[:-1]).all())

    is_mask = shown.word >= lowest_mask(page)
    masks = is_mask[begins]
    require((shown.word[begins[masks]] == mask_word(page, order[masks])).all())
    # And none of them makes a fake head.
    require(not (is_mask & (shown.holds == Holds.HEAD) & ~shown.real).any())

    owner = np.full(len(place.pfn), -1, np.intp)
    owner[places_in(begins, length)] = np.repeat(begins, length)
    owned = shown.read & (owner >= 0)
    require((shown.head == owner)[owned].all())
    require((shown.word == shown.word[owner])[owned].all())
    others = (shown.read & (owner < 0) & (shown.head >= 0)).nonzero()[0]
    require((shown.holds[shown.head[others]] == Holds.UNREADABLE).all())


def _require_covered(shown: _Shown, cover: _Cover) -> None:
    """Require that what was read is what was inferred."""
    require((shown.head == cover.owner)[shown.read & (cover.owner >= 0)].all())
    require((shown.holds[shown.read & cover.free] == Holds.SINGLES).all())


def _hugepages(place: _Place, summaries: Summaries, shown: _Shown, cover: _Cover) -> Hugepages:
    """Return the hugetlb pages of the chunk, all of whose struct pages must be theirs."""
    kernel, row = place.kernel, place.frames.row
    marked, order = _heads(place, summaries, shown)
    is_hugetlb = summaries.hugetlb[row[marked]]
    marked, order = marked[is_hugetlb], order[is_hugetlb]
    lost_pages = ~place.wanted | (shown.holds == Holds.UNREADABLE)
    parts = []
    known = orders(kernel)
    for size in [size for size in known if (order == size).any()] or known[:1]:
        first = marked[order == size]
        count = max(1, (1 << size) // place.per)
        require(not (first % count).any())
        lost = rows_of(lost_pages, first, count)
        mine = rows_of(shown.head, first, count) == first[:, None]
        require((lost | mine | (rows_of(cover.owner, first, count) == first[:, None])).all())
        at = row[first]
        heads = Heads(
            place.pfn[first], summaries.flags[at], summaries.private[at], summaries.frozen[at]
        )
        is_mask = shown.word[first] >= lowest_mask(kernel.page)
        encoding = np.where(is_mask, Encoding.MASK, Encoding.POINTER)
        parts.append(regular_hugepages(kernel, place.mapped, first, ~lost, heads, size, encoding))
    found = join(parts)
    require(len(found) == len(marked))
    return found.where(np.argsort(found.pfn))


def _count(
    place: _Place, summaries: Summaries, shown: _Shown, cover: _Cover
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count the struct pages of online sections by class, and tails by encoding."""
    per, holds = place.per, shown.holds
    unread = place.wanted & (holds == Holds.UNREAD)
    owned = (unread & (cover.owner >= 0)).nonzero()[0]
    mixed = (holds == Holds.MIXED).nonzero()[0]
    row = place.frames.row[mixed]
    is_mask = shown.word >= lowest_mask(place.kernel.page)
    frames, masked = _by_holds(holds), _by_holds(holds[is_mask])
    each = np.zeros(len(Holds), np.int64)  # tails in a frame, those that MIXED has aside
    each[Holds.TAILS], each[Holds.HEAD] = per, per - 1
    mixed_heads, mixed_tails = int(summaries.heads[row].sum()), summaries.tails[row]
    tails = int((each * frames).sum()) + int(mixed_tails.sum()) + per * len(owned)
    masks = int((each * masked).sum()) + int(mixed_tails[is_mask[mixed]].sum())
    masks += per * int(is_mask[cover.owner[owned]].sum())
    free = int((unread & cover.free).sum())
    unknown = int((place.known & place.online & place.mapped.unknown).sum())
    heads = int(shown.real.sum())

    classes = np.zeros(len(PageClass), np.int64)
    classes[PageClass.HEAD] = heads + mixed_heads
    classes[PageClass.FAKE_HEAD] = frames[Holds.HEAD] - heads
    classes[PageClass.TAIL] = tails
    classes[PageClass.SINGLE] = (
        per * (int(frames[Holds.SINGLES]) + free + len(mixed))
        - mixed_heads
        - int(mixed_tails.sum())
    )
    classes[PageClass.UNREADABLE] = per * (int(frames[Holds.UNREADABLE]) + unknown)
    encodings = np.zeros(len(Encoding), np.int64)
    encodings[Encoding.MASK] = masks
    encodings[Encoding.POINTER] = tails - masks
    return classes, encodings


def _by_holds(holds: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Count vmemmap pages by what they hold: int64, by Holds."""
    return np.bincount(holds, minlength=len(Holds))
