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
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hvoinspect.target.layout import VMEMMAP_PAGE, Kernel
from hvoinspect.target.ranges import places_in
from hvoinspect.vmemmap.backing import MAX_FREE_ORDER, backing_of
from hvoinspect.vmemmap.behind import rows_of
from hvoinspect.vmemmap.chunks import MappedPages
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
    mask_word,
)
from hvoinspect.vmemmap.part import Part
from hvoinspect.vmemmap.savings import map_of
from hvoinspect.vmemmap.shown import LEAD_ORDER, Frames, Place, Shown, place_of
from hvoinspect.vmemmap.summary import (
    Holds,
    IrregularError,
    Summaries,
    require,
)


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
    place = place_of(kernel, mapped, first_pfn)
    frames = Frames(place)
    cover = _no_cover(place)
    with contextlib.suppress(IrregularError):
        if not exhaustive:
            frames.read(frames.unread(place.leads()))
            cover = _infer(place, frames)
        frames.read(frames.unread(place.wanted & (cover.owner < 0) & ~cover.free))
        return _part(place, frames, cover)
    return None


class _Cover(NamedTuple):
    """What the first wave tells of vmemmap pages beyond those it read.

    `owner` intp[p]: the vmemmap page that begins the compound page which covers one, or -1.
    `free` bool[p]: in a free block.
    """

    owner: NDArray[np.intp]
    free: NDArray[np.bool_]


def _no_cover(place: Place) -> _Cover:
    return _Cover(np.full(len(place.pfn), -1, np.intp), np.zeros(len(place.pfn), np.bool_))


def _infer(place: Place, frames: Frames) -> _Cover:
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


def _part(place: Place, frames: Frames, cover: _Cover) -> Part:
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
    place: Place, summaries: Summaries, shown: Shown
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the vmemmap pages that begin compound pages, ascending, and their orders."""
    begins = shown.real.nonzero()[0]
    return begins, summaries.order[place.frames.row[begins]].astype(np.intp)


def _require_whole(place: Place, summaries: Summaries, shown: Shown) -> None:
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


def _require_covered(shown: Shown, cover: _Cover) -> None:
    """Require that what was read is what was inferred."""
    require((shown.head == cover.owner)[shown.read & (cover.owner >= 0)].all())
    require((shown.holds[shown.read & cover.free] == Holds.SINGLES).all())


def _hugepages(place: Place, summaries: Summaries, shown: Shown, cover: _Cover) -> Hugepages:
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
    place: Place, summaries: Summaries, shown: Shown, cover: _Cover
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
