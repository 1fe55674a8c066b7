"""The hugetlb pages of a chunk: what their heads say, and what the page tables show behind them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hvoinspect.target.layout import VMEMMAP_PAGE, Kernel, PageField
from hvoinspect.vmemmap.behind import behind_hugepages, first_in_row, rows_of
from hvoinspect.vmemmap.chunks import Chunk, MappedPages
from hvoinspect.vmemmap.pages import Encoding, PageClass, mask_order


@dataclass(frozen=True)
class Hugepages:
    """One record a hugetlb page, h of them, ascending by pfn.

    What the head says: `pfn` uint64, `order` uint8, `node` and `zone` uint16 (from its flags),
    `free` bool (HPG_freed), `frozen` bool (its reference count is 0), `flagged` bool
    (HPG_vmemmap_optimized).

    What the page tables show of its N vmemmap pages: `vmemmap_pages` int64, N; `unknown` int64,
    how many of them are not mapped or not readable; `split` bool, all mapped by 4 KiB entries;
    `head_frame` uint64, the pfn behind the first, `on_head_frame`
    int64, behind how many it is; `head_writable` bool; `tail_frame` uint64, the pfn behind most of
    all but the first, behind the second if no frame is behind several (the first's where N is 1);
    `strays` int64, how many of all but the first are on another frame than `tail_frame`;
    `distinct` int64, distinct frames behind all N; `read_only` int64, how
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
    frozen: NDArray[np.bool_]
    flagged: NDArray[np.bool_]
    vmemmap_pages: NDArray[np.int64]
    unknown: NDArray[np.int64]
    split: NDArray[np.bool_]
    head_frame: NDArray[np.uint64]
    on_head_frame: NDArray[np.int64]
    head_writable: NDArray[np.bool_]
    tail_frame: NDArray[np.uint64]
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
    def changing(self) -> NDArray[np.bool_]:
        """bool[h]: the kernel is making or dissolving it just now, and keeps it to itself.

        It is frozen (its reference count is 0), but not in the pool, where it would have HPG_freed.
        It may be so for long: a pool that grows by many pages is allocated, then optimized, before
        any of it is counted (mm/hugetlb.c, `prep_and_add_allocated_folios()`, since 6.8), and one
        that shrinks is counted no more before it is restored (`__remove_hugetlb_folio()`). Where
        either is not known, `frozen` is as `free`.
        """
        return np.asarray(self.frozen & ~self.free)

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
        if chosen.dtype == np.bool_ and chosen.all():
            return self
        return Hugepages(*(getattr(self, field.name)[chosen] for field in fields(self)))


def join(parts: list[Hugepages]) -> Hugepages:
    """Return the records of all `parts`, one after the other."""
    return Hugepages(
        *(np.concatenate([getattr(p, field.name) for p in parts]) for field in fields(Hugepages))
    )


def orders(kernel: Kernel) -> list[int]:
    """Return the orders of hugepages to look for: one, in vain, where the kernel has none."""
    return [hstate.order for hstate in kernel.hstates] or [9]


def marked_heads(kernel: Kernel, chunk: Chunk) -> tuple[NDArray[np.uint64], NDArray[np.uint8]]:
    """Return the pfn of each head in `chunk` that bears the mark of hugetlb pages, and its order.

    uint64 and uint8, as long; none where this kernel's mark is not known.
    """
    mark = kernel.page.hugetlb
    if mark is None:
        return np.zeros(0, np.uint64), np.zeros(0, np.uint8)
    heads = np.flatnonzero(chunk.pages.kind == PageClass.HEAD)
    pfn = heads.astype(np.uint64) + np.uint64(chunk.first_pfn)
    pfn = pfn[mark.among(chunk.values(pfn, mark.where))]
    return pfn, chunk.values(pfn, kernel.page.order).astype(np.uint8)


def find_hugepages(kernel: Kernel, chunk: Chunk) -> Hugepages:
    """Return the hugetlb pages of `chunk`.

    A head counts if it bears the mark of hugetlb pages, its order is one of the kernel's hugepage
    sizes, and it lies aligned to it. `oddities.py` has those that are marked and are none.
    """
    pfn, order = marked_heads(kernel, chunk)
    parts = []
    for size in orders(kernel):
        aligned = (pfn & np.uint64((1 << size) - 1)) == 0
        parts.append(_look_at(kernel, chunk, pfn[(order == size) & aligned], size))
    found = join(parts)
    return found.where(np.argsort(found.pfn))


class Heads(NamedTuple):
    """What heads say, h of them: `pfn`, `flags` and `private`, uint64[h]; `frozen` bool[h]."""

    pfn: NDArray[np.uint64]
    flags: NDArray[np.uint64]
    private: NDArray[np.uint64]
    frozen: NDArray[np.bool_]


def regular_hugepages(
    kernel: Kernel,
    mapped: MappedPages,
    first: NDArray[np.intp],
    known: NDArray[np.bool_],
    heads: Heads,
    order: int,
    encoding: NDArray[np.integer],
) -> Hugepages:
    """Make the records of hugetlb pages of one order whose struct pages are all as they should be.

    `first` intp[h], which of `mapped` holds their first struct pages, and `known` bool[h, N], which
    of their vmemmap pages are mapped, and could be read if they were tried. `encoding`: that of
    their tails.
    """
    none = np.zeros(len(heads.pfn), np.int64)
    behind, _ = behind_hugepages(mapped, first, known)
    return Hugepages(
        **_told(kernel, heads, order),
        **behind,
        lost_tails=none,
        lost_pfn=heads.pfn,
        lost_to=heads.pfn,
        encoding=encoding.astype(np.uint8),
        other_order=none,
        other_order_pfn=heads.pfn,
        mask_order=none.astype(np.uint8),
        head_flags=none,
        head_flag_pfn=heads.pfn,
    )


def _look_at(kernel: Kernel, chunk: Chunk, pfn: NDArray[np.uint64], order: int) -> Hugepages:
    """Make the records of the hugetlb pages `pfn`, all of one order."""
    page, count = kernel.page, len(pfn)
    index = (pfn - np.uint64(chunk.first_pfn)).astype(np.intp)
    pages = max(1, page.size << order >> 12)
    first = index * page.size // VMEMMAP_PAGE
    known = rows_of(chunk.mapped.present & chunk.read, first, pages)
    behind, judged = behind_hugepages(chunk.mapped, first, known)

    own = np.arange(1 << order)
    within = index[:, None] + own
    judged = judged[:, own * page.size // VMEMMAP_PAGE]
    judged &= chunk.pages.kind[within] != PageClass.UNREADABLE  # as across two vmemmap pages
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
    frozen = np.zeros(count, np.bool_)
    if page.refcount is not None:
        frozen = chunk.values(pfn, PageField(0, page.refcount, 4)) == 0
    return Hugepages(
        **_told(kernel, Heads(pfn, flags, private, frozen), order),
        **behind,
        lost_tails=lost.sum(axis=1),
        lost_pfn=pfn + first_in_row(lost).astype(np.uint64),
        lost_to=head[each, first_in_row(lost)],
        encoding=chunk.pages.encoding[index + min(1, order)],
        other_order=other.sum(axis=1),
        other_order_pfn=pfn + first_in_row(other).astype(np.uint64),
        mask_order=np.where(other.any(axis=1), mask[each, first_in_row(other)], np.uint8(0)),
        head_flags=flagged.sum(axis=1),
        head_flag_pfn=pfn + first_in_row(flagged).astype(np.uint64),
    )


def _told(kernel: Kernel, heads: Heads, order: int) -> dict[str, NDArray[Any]]:
    """Return the columns of Hugepages that heads tell."""
    page = kernel.page
    free = (heads.private & np.uint64(page.hugetlb_free or 0)) != 0
    return {
        "pfn": heads.pfn,
        "order": np.full(len(heads.pfn), order, np.uint8),
        "node": _bits(heads.flags, page.node.shift, page.node.mask),
        "zone": _bits(heads.flags, page.zone.shift, page.zone.mask),
        "free": free,
        "frozen": free if page.refcount is None or page.hugetlb_free is None else heads.frozen,
        "flagged": (heads.private & np.uint64(page.hugetlb_optimized or 0)) != 0,
    }


def _bits(word: NDArray[np.uint64], shift: int, mask: int) -> NDArray[np.uint16]:
    return ((word >> np.uint64(shift)) & np.uint64(mask)).astype(np.uint16)
