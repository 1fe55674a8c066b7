"""The hugetlb pages of a chunk: what their heads say, and what the page tables show behind them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvoinspect.target.layout import VMEMMAP_PAGE, Kernel, PageField
from hvoinspect.vmemmap.chunks import Chunk
from hvoinspect.vmemmap.pages import UNKNOWN_HEAD, Encoding, PageClass, mask_order


@dataclass(frozen=True)
class Hugepages:
    """One record a hugetlb page, h of them, ascending by pfn.

    What the head says: `pfn` uint64, `order` uint8, `node` and `zone` uint16 (from its flags),
    `free` bool, `flagged` bool (HPG_vmemmap_optimized).

    What the page tables show of its N vmemmap pages: `vmemmap_pages` int64, N; `unknown` int64,
    how many of them are not mapped or not readable; `split` bool, all mapped by 4 KiB entries;
    `head_frame` uint64, the pfn behind the first, `on_head_frame`
    int64, behind how many it is; `head_writable` bool; `tail_frame` uint64, the pfn behind most of
    all but the first, behind the second if no frame is behind several (the first's where N is 1);
    `tail_frames` int64, distinct frames behind all but the first; `strays` int64, how many of those
    are not `tail_frame`; `distinct` int64, distinct frames behind all N; `read_only` int64, how
    many of all but the first are mapped read-only; `read_only_run` int64, how many right after the
    first are, before a writable one. `wrong` int64, how many of `strays` can be no frame of their
    own, as they are read-only or behind several; `wrong_page` int64, which vmemmap page is the
    first of those, and `wrong_frame` uint64, the pfn behind it; both 0 where there is none.

    What its struct pages show, but for those on a `tail_frame` that is not the head's, which are
    judged once for all, and those on wrong frames: `lost_tails` int64, how many of its tails
    resolve to another page than this head, `lost_pfn` uint64, the first of them, and `lost_to`
    uint64, the pfn it resolves to; `encoding` uint8: the Encoding of the first tail's word;
    `other_order` int64, how many resolve to it by a mask of another order, `other_order_pfn`
    uint64, the first of them, and `mask_order` uint8, the order of its mask, 0 if there is none;
    `head_flags` int64, how many have the flag PG_head, and `head_flag_pfn` uint64, the first of
    them. Each first pfn is the head's where there is none.
    """

    pfn: NDArray[np.uint64]
    order: NDArray[np.uint8]
    node: NDArray[np.uint16]
    zone: NDArray[np.uint16]
    free: NDArray[np.bool_]
    flagged: NDArray[np.bool_]
    vmemmap_pages: NDArray[np.int64]
    unknown: NDArray[np.int64]
    split: NDArray[np.bool_]
    head_frame: NDArray[np.uint64]
    on_head_frame: NDArray[np.int64]
    head_writable: NDArray[np.bool_]
    tail_frame: NDArray[np.uint64]
    tail_frames: NDArray[np.int64]
    strays: NDArray[np.int64]
    distinct: NDArray[np.int64]
    read_only: NDArray[np.int64]
    read_only_run: NDArray[np.int64]
    wrong: NDArray[np.int64]
    wrong_page: NDArray[np.int64]
    wrong_frame: NDArray[np.uint64]
    lost_tails: NDArray[np.int64]
    lost_pfn: NDArray[np.uint64]
    lost_to: NDArray[np.uint64]
    encoding: NDArray[np.uint8]
    other_order: NDArray[np.int64]
    other_order_pfn: NDArray[np.uint64]
    mask_order: NDArray[np.uint8]
    head_flags: NDArray[np.int64]
    head_flag_pfn: NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.pfn)

    @property
    def remapped(self) -> NDArray[np.bool_]:
        """bool[h]: some of its vmemmap pages share a frame, whatever the flag says."""
        return (self.distinct > 0) & (self.distinct < self.vmemmap_pages - self.unknown)

    @property
    def partly(self) -> NDArray[np.bool_]:
        """bool[h]: some tails share a frame, and all others have writable frames of their own.

        A state, and nothing wrong: less is saved.
        """
        return np.asarray(self.remapped & (self.strays > 0) & (self.wrong == 0))

    def where(self, chosen: NDArray[np.bool_] | NDArray[np.intp]) -> Hugepages:
        """Return the records that `chosen` selects."""
        return Hugepages(*(getattr(self, field.name)[chosen] for field in fields(self)))


def join(parts: list[Hugepages]) -> Hugepages:
    """Return the records of all `parts`, one after the other."""
    return Hugepages(
        *(np.concatenate([getattr(p, field.name) for p in parts]) for field in fields(Hugepages))
    )


def marked_heads(kernel: Kernel, chunk: Chunk) -> tuple[NDArray[np.uint64], NDArray[np.uint8]]:
    """Return the pfn of each head in `chunk` that bears the mark of hugetlb pages, and its order.

    uint64 and uint8, as long; none where this kernel's mark is not known.
    """
    mark = kernel.page.hugetlb
    if mark is None:
        return np.zeros(0, np.uint64), np.zeros(0, np.uint8)
    heads = np.flatnonzero(chunk.pages.kind == PageClass.HEAD)
    pfn = heads.astype(np.uint64) + np.uint64(chunk.first_pfn)
    value = chunk.values(pfn, mark.where) >> np.uint64(mark.bits.shift)
    pfn = pfn[(value & np.uint64(mark.bits.mask)) == mark.value]
    return pfn, chunk.values(pfn, kernel.page.order).astype(np.uint8)


def find_hugepages(kernel: Kernel, chunk: Chunk) -> Hugepages:
    """Return the hugetlb pages of `chunk`.

    A head counts if it bears the mark of hugetlb pages, its order is one of the kernel's hugepage
    sizes, and it lies aligned to it. `oddities.py` has those that are marked and are none.
    """
    pfn, order = marked_heads(kernel, chunk)
    parts = []
    for hstate in kernel.hstates:
        aligned = (pfn & np.uint64((1 << hstate.order) - 1)) == 0
        parts.append(_look_at(kernel, chunk, pfn[(order == hstate.order) & aligned], hstate.order))
    if not parts:
        parts.append(_look_at(kernel, chunk, pfn[:0], 9))
    found = join(parts)
    return found.where(np.argsort(found.pfn))


def _look_at(kernel: Kernel, chunk: Chunk, pfn: NDArray[np.uint64], order: int) -> Hugepages:
    """Make the records of the hugetlb pages `pfn`, all of one order."""
    page, count = kernel.page, len(pfn)
    index = (pfn - np.uint64(chunk.first_pfn)).astype(np.intp)
    pages = max(1, page.size << order >> 12)
    vmemmap_page = (index * page.size // VMEMMAP_PAGE)[:, None] + np.arange(pages)
    known = chunk.present[vmemmap_page] & chunk.read[vmemmap_page]
    behind, judged = _behind(chunk, vmemmap_page, known)

    own = np.arange(1 << order)
    within = index[:, None] + own
    judged = judged[:, own * page.size // VMEMMAP_PAGE]
    head = chunk.pages.head[within]
    lost = (head != pfn[:, None]) & judged
    mask = mask_order(chunk.content.words_of(within, page.compound), page.size)
    other = (chunk.pages.encoding[within] == Encoding.MASK) & (mask != order) & judged & ~lost
    flagged = np.zeros(len(chunk.pages.kind), np.bool_)
    flagged[(chunk.pages.flagged_tails - np.uint64(chunk.first_pfn)).astype(np.intp)] = True
    flagged = flagged[within] & judged

    each = np.arange(count)
    flags = chunk.values(pfn, PageField(0, page.flags, 8))
    private = chunk.values(pfn, PageField(0, page.private, 8))
    return Hugepages(
        pfn=pfn,
        order=np.full(count, order, np.uint8),
        node=_bits(flags, page.node.shift, page.node.mask),
        zone=_bits(flags, page.zone.shift, page.zone.mask),
        free=(private & np.uint64(page.hugetlb_free or 0)) != 0,
        flagged=(private & np.uint64(page.hugetlb_optimized or 0)) != 0,
        **behind,
        lost_tails=lost.sum(axis=1),
        lost_pfn=pfn + _first(lost).astype(np.uint64),
        lost_to=head[each, _first(lost)],
        encoding=chunk.pages.encoding[index + min(1, order)],
        other_order=other.sum(axis=1),
        other_order_pfn=pfn + _first(other).astype(np.uint64),
        mask_order=np.where(other.any(axis=1), mask[each, _first(other)], np.uint8(0)),
        head_flags=flagged.sum(axis=1),
        head_flag_pfn=pfn + _first(flagged).astype(np.uint64),
    )


def _behind(
    chunk: Chunk, vmemmap_page: NDArray[np.intp], known: NDArray[np.bool_]
) -> tuple[dict[str, NDArray[Any]], NDArray[np.bool_]]:
    """Return the columns of Hugepages that page tables show, and what else may be judged.

    `vmemmap_page` intp[h, N], which of `chunk` hold their struct pages; `known` bool[h, N], those
    that are mapped and were read. The latter is bool[h, N] too: of those known the ones on frames
    of the hugepage's own, where what they hold is its own matter.
    """
    count, pages = vmemmap_page.shape
    frame, present = chunk.frame[vmemmap_page], chunk.present[vmemmap_page]
    writable = chunk.writable[vmemmap_page]
    tails, read_only = frame[:, 1:], ~writable[:, 1:]
    tail_frame = _commonest(frame, present)
    stray = (tails != tail_frame[:, None]) & present[:, 1:]
    shares = _distinct(frame, present) < present.sum(axis=1)

    wrong = np.zeros_like(stray)
    odd = np.flatnonzero(shares & stray.any(axis=1))
    wrong[odd] = stray[odd] & (read_only[odd] | _behind_several(tails[odd]))
    wrong_page = np.where(wrong.any(axis=1), _first(wrong) + 1, 0)
    own = known & ~(
        (frame == tail_frame[:, None]) & (shares & (tail_frame != frame[:, 0]))[:, None]
    )
    own[:, 1:] &= ~wrong
    columns = {
        "vmemmap_pages": np.full(count, pages, np.int64),
        "unknown": pages - known.sum(axis=1),
        "split": chunk.split[vmemmap_page].all(axis=1),
        "head_frame": frame[:, 0],
        "on_head_frame": ((frame == frame[:, :1]) & known).sum(axis=1),
        "head_writable": writable[:, 0],
        "tail_frame": tail_frame,
        "tail_frames": _distinct(tails, known[:, 1:]),
        "strays": (stray & known[:, 1:]).sum(axis=1),
        "distinct": _distinct(frame, known),
        "read_only": (read_only & known[:, 1:]).sum(axis=1),
        "read_only_run": np.logical_and.accumulate(read_only, axis=1).sum(axis=1),
        "wrong": wrong.sum(axis=1),
        "wrong_page": wrong_page,
        "wrong_frame": np.where(wrong_page > 0, frame[np.arange(count), wrong_page], np.uint64(0)),
    }
    return columns, own


def _first(chosen: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return the first place that is chosen in each row, 0 where none is: intp[h]."""
    return np.argmax(chosen, axis=1) if chosen.size else np.zeros(len(chosen), np.intp)


def _commonest(frame: NDArray[np.uint64], present: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """Return the frame that is behind most vmemmap pages of each row but the first: uint64[h].

    The second's where no frame is behind several, the first's where there is no second.
    """
    result = frame[:, min(1, frame.shape[1] - 1)].copy()
    odd = np.flatnonzero((frame[:, 1:] != result[:, None]).any(axis=1))
    if len(odd):
        ordered = np.sort(np.where(present, frame, UNKNOWN_HEAD)[odd, 1:], axis=1)
        place = np.arange(ordered.shape[1])
        begins = np.diff(ordered, axis=1, prepend=~ordered[:, :1]) != 0
        again = place - np.maximum.accumulate(np.where(begins, place, 0), axis=1)
        again[ordered == UNKNOWN_HEAD] = 0
        most = np.argmax(again, axis=1)
        each = np.arange(len(odd))
        result[odd] = np.where(again[each, most] > 0, ordered[each, most], result[odd])
    return result


def _behind_several(frame: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Tell of each frame of each row whether it is there again: bool, as `frame`."""
    order = np.argsort(frame, axis=1)
    ordered = np.take_along_axis(frame, order, axis=1)
    again = np.zeros(frame.shape, np.bool_)
    again[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    again[:, :-1] |= again[:, 1:]
    result = np.zeros(frame.shape, np.bool_)
    np.put_along_axis(result, order, again, axis=1)
    return result


def _bits(word: NDArray[np.uint64], shift: int, mask: int) -> NDArray[np.uint16]:
    return ((word >> np.uint64(shift)) & np.uint64(mask)).astype(np.uint16)


def _distinct(frame: NDArray[np.uint64], known: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Count the distinct frames of each row among those `known`: int64[h]."""
    if frame.shape[1] == 0:
        return np.zeros(len(frame), np.int64)
    unknown = np.uint64(0xFFFF_FFFF_FFFF_FFFF)
    ordered = np.sort(np.where(known, frame, unknown), axis=1)
    changes: NDArray[np.int64] = (np.diff(ordered, axis=1) != 0).sum(axis=1, dtype=np.int64)
    return changes + known.all(axis=1)
