"""The hugetlb pages of a chunk: what their heads say, and what the page tables show behind them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hvoinspect.target.layout import VMEMMAP_PAGE, Kernel, PageField
from hvoinspect.vmemmap.chunks import Chunk, MappedPages
from hvoinspect.vmemmap.pages import UNKNOWN_HEAD, PageClass


@dataclass(frozen=True)
class Hugepages:
    """One record a hugetlb page, h of them, ascending by pfn.

    What the head says: `pfn` uint64, `order` uint8, `node` and `zone` uint16 (from its flags),
    `free` bool, `flagged` bool (HPG_vmemmap_optimized).

    What the page tables show of its N vmemmap pages: `vmemmap_pages` int64, N; `unknown` int64,
    how many of them are not mapped or not readable; `split` bool, all mapped by 4 KiB entries;
    `head_frame` uint64, the pfn behind the first, `on_head_frame`
    int64, behind how many it is; `head_writable` bool; `tail_frame` uint64, the pfn behind the
    second (the first's where N is 1); `tail_frames` int64, distinct frames behind all but the
    first; `strays` int64, how many of those are not `tail_frame`; `distinct` int64,
    distinct frames behind all N; `read_only` int64, how many of all but the first are mapped
    read-only; `read_only_run` int64, how many right after the first are, before a writable one.

    What its struct pages show: `lost_tails` int64, how many of its tails resolve to another page
    than this head, `lost_pfn` uint64, the first of them, and `lost_to` uint64, the pfn it resolves
    to; `encoding` uint8: the Encoding of the first tail's word; `head_flags` int64, how many of its
    tails have the flag PG_head, those on a frame that is shared with other hugepages aside, and
    `head_flag_pfn` uint64, the first of them.
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
    lost_tails: NDArray[np.int64]
    lost_pfn: NDArray[np.uint64]
    lost_to: NDArray[np.uint64]
    encoding: NDArray[np.uint8]
    head_flags: NDArray[np.int64]
    head_flag_pfn: NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.pfn)

    @property
    def remapped(self) -> NDArray[np.bool_]:
        """bool[h]: some of its vmemmap pages share a frame, whatever the flag says."""
        return (self.distinct > 0) & (self.distinct < self.vmemmap_pages - self.unknown)

    def where(self, chosen: NDArray[np.bool_] | NDArray[np.intp]) -> Hugepages:
        """Return the records that `chosen` selects."""
        return Hugepages(*(getattr(self, field.name)[chosen] for field in fields(self)))


def join(parts: list[Hugepages]) -> Hugepages:
    """Return the records of all `parts`, one after the other."""
    return Hugepages(
        *(np.concatenate([getattr(p, field.name) for p in parts]) for field in fields(Hugepages))
    )


def orders(kernel: Kernel) -> list[int]:
    """Return the orders of hugepages to look for: one, in vain, where the kernel has none."""
    return [hstate.order for hstate in kernel.hstates] or [9]


def find_hugepages(kernel: Kernel, chunk: Chunk) -> Hugepages:
    """Return the hugetlb pages of `chunk`.

    A head counts if it bears the mark of hugetlb pages, its order is one of the kernel's hugepage
    sizes, and it lies aligned to it: 6.6 marks pages that are none.
    """
    heads = np.flatnonzero(chunk.pages.kind == PageClass.HEAD)
    pfn = heads.astype(np.uint64) + np.uint64(chunk.first_pfn)
    mark = kernel.page.hugetlb
    if mark is None:
        pfn = pfn[:0]
    else:
        value = chunk.values(pfn, mark.where) >> np.uint64(mark.bits.shift)
        pfn = pfn[(value & np.uint64(mark.bits.mask)) == mark.value]
    order = chunk.values(pfn, kernel.page.order).astype(np.uint8)
    parts = []
    for size in orders(kernel):
        aligned = (pfn & np.uint64((1 << size) - 1)) == 0
        parts.append(_look_at(kernel, chunk, pfn[(order == size) & aligned], size))
    found = join(parts)
    return found.where(np.argsort(found.pfn))


class Heads(NamedTuple):
    """What heads say, h of them: `pfn`, `flags` and `private`, uint64[h]."""

    pfn: NDArray[np.uint64]
    flags: NDArray[np.uint64]
    private: NDArray[np.uint64]


def regular_hugepages(
    kernel: Kernel,
    mapped: MappedPages,
    vmemmap_page: NDArray[np.intp],
    known: NDArray[np.bool_],
    heads: Heads,
    order: int,
    encoding: NDArray[np.integer],
) -> Hugepages:
    """Make the records of hugetlb pages of one order whose struct pages are all as they should be.

    `vmemmap_page` intp[h, N], which of `mapped` hold their struct pages, and `known` bool[h, N],
    those that are mapped, and could be read if they were tried. `encoding`: that of their tails.
    """
    none = np.zeros(len(heads.pfn), np.int64)
    return Hugepages(
        **_told(kernel, heads, order),
        **_behind(mapped, vmemmap_page, known),
        lost_tails=none,
        lost_pfn=heads.pfn,
        lost_to=heads.pfn,
        encoding=encoding.astype(np.uint8),
        head_flags=none,
        head_flag_pfn=np.full(len(none), UNKNOWN_HEAD),
    )


def _look_at(kernel: Kernel, chunk: Chunk, pfn: NDArray[np.uint64], order: int) -> Hugepages:
    """Make the records of the hugetlb pages `pfn`, all of one order."""
    page, count = kernel.page, len(pfn)
    index = (pfn - np.uint64(chunk.first_pfn)).astype(np.intp)
    pages = max(1, page.size << order >> 12)
    vmemmap_page = (index * page.size // VMEMMAP_PAGE)[:, None] + np.arange(pages)
    known = chunk.mapped.present[vmemmap_page] & chunk.read[vmemmap_page]
    behind = _behind(chunk.mapped, vmemmap_page, known)

    own = index[:, None] + np.arange(1 << order)
    head, kind = chunk.pages.head[own], chunk.pages.kind[own]
    unseen = (kind == PageClass.UNREADABLE) | (kind == PageClass.HOLE)
    resolved = (head == pfn[:, None]) | unseen
    # Behind the tails of an optimized one, but for its first, is a frame that others share (7.1+).
    foreign = (behind["tail_frame"] != behind["head_frame"]) & (
        behind["distinct"] < known.sum(axis=1)
    )
    flagged_tails = chunk.pages.flagged_tails
    span = np.where(foreign, VMEMMAP_PAGE // page.size, 1 << order).astype(np.uint64)
    flagged_at = np.searchsorted(flagged_tails, pfn)
    flagged_end = np.searchsorted(flagged_tails, pfn + span)
    first_lost = np.argmin(resolved, axis=1) if count else np.zeros(0, np.intp)

    flags = chunk.values(pfn, PageField(0, page.flags, 8))
    private = chunk.values(pfn, PageField(0, page.private, 8))
    return Hugepages(
        **_told(kernel, Heads(pfn, flags, private), order),
        **behind,
        lost_tails=(~resolved).sum(axis=1),
        lost_pfn=pfn + first_lost.astype(np.uint64),
        lost_to=head[np.arange(count), first_lost],
        encoding=chunk.pages.encoding[index + min(1, order)],
        head_flags=flagged_end - flagged_at,
        head_flag_pfn=np.append(flagged_tails, UNKNOWN_HEAD)[flagged_at],
    )


def _told(kernel: Kernel, heads: Heads, order: int) -> dict[str, NDArray[Any]]:
    """Return the columns of Hugepages that heads tell."""
    page = kernel.page
    return {
        "pfn": heads.pfn,
        "order": np.full(len(heads.pfn), order, np.uint8),
        "node": _bits(heads.flags, page.node.shift, page.node.mask),
        "zone": _bits(heads.flags, page.zone.shift, page.zone.mask),
        "free": (heads.private & np.uint64(page.hugetlb_free or 0)) != 0,
        "flagged": (heads.private & np.uint64(page.hugetlb_optimized or 0)) != 0,
    }


def _behind(
    mapped: MappedPages, vmemmap_page: NDArray[np.intp], known: NDArray[np.bool_]
) -> dict[str, NDArray[Any]]:
    """Return the columns of Hugepages that page tables show, as `regular_hugepages` describes."""
    count, pages = vmemmap_page.shape
    frame, writable = mapped.frame[vmemmap_page], mapped.writable[vmemmap_page]
    tails, tail_frame = frame[:, 1:], frame[:, min(1, pages - 1)]
    read_only = ~writable[:, 1:]
    stray = (tails != tail_frame[:, None]) & known[:, 1:]
    return {
        "vmemmap_pages": np.full(count, pages, np.int64),
        "unknown": pages - known.sum(axis=1),
        "split": mapped.split[vmemmap_page].all(axis=1),
        "head_frame": frame[:, 0],
        "on_head_frame": ((frame == frame[:, :1]) & known).sum(axis=1),
        "head_writable": writable[:, 0],
        "tail_frame": tail_frame,
        "tail_frames": _distinct(tails, known[:, 1:]),
        "strays": stray.sum(axis=1),
        "distinct": _distinct(frame, known),
        "read_only": (read_only & known[:, 1:]).sum(axis=1),
        "read_only_run": np.logical_and.accumulate(read_only, axis=1).sum(axis=1),
    }


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
