"""What must hold of a vmemmap, as named rules; a breach of one is a finding.

A rule is a function from what was read to findings. Its docstring says what must hold, on which
kernels, and where that comes from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hvoinspect.vmemmap.chunks import Chunk
from hvoinspect.vmemmap.hugepages import Hugepages
from hvoinspect.vmemmap.pages import UNKNOWN_HEAD, Encoding, PageClass

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """A breach of a rule, at the struct page `pfn`.

    `confirmed` says that it still held when the memory was read again, or that the memory does not
    move.
    """

    rule: str
    severity: Severity
    pfn: int
    expected: str
    found: str
    confirmed: bool = False


def tails_share_one_frame(hugepages: Hugepages) -> Iterator[Finding]:
    """All tail vmemmap pages of an optimized hugepage are mapped to one frame.

    Up to 7.0 that is the frame of the first vmemmap page, the head's; from 7.1 on (622026e87c40) it
    is another, which the zone's tails of that order share. mm/hugetlb_vmemmap.c,
    `vmemmap_remap_pte()`. Where the rest each have a frame of their own, the hugepage is partly
    remapped: a state, and so a warning.
    """
    pages = _seen_whole(hugepages)
    pages = pages.where(pages.remapped)
    for i in np.flatnonzero(pages.strays > 0).tolist():
        partly = pages.tail_frames[i] == pages.strays[i] + 1
        yield Finding(
            "tails-share-one-frame",
            "warning" if partly else "error",
            int(pages.pfn[i]),
            f"one frame behind all {pages.vmemmap_pages[i] - 1} tail vmemmap pages",
            f"{pages.strays[i]} of them on other frames ({pages.tail_frames[i]} frames in all)",
        )
    pages = pages.where(pages.strays == 0)
    mask = pages.encoding == Encoding.MASK
    own = pages.tail_frame == pages.head_frame
    for i in np.flatnonzero(mask == own).tolist():
        yield Finding(
            "tails-share-one-frame",
            "error",
            int(pages.pfn[i]),
            "a frame shared by the zone, not the head's" if mask[i] else "the frame of the head",
            f"tails on frame {pages.tail_frame[i]:#x}, head on {pages.head_frame[i]:#x}",
        )


def tails_read_only(hugepages: Hugepages) -> Iterator[Finding]:
    """Tail vmemmap pages of an optimized hugepage are mapped read-only.

    A write to one would show in all that share its frame (mm/hugetlb_vmemmap.c,
    `vmemmap_remap_pte()`, PAGE_KERNEL_RO). Measured on 6.18 to 7.1: of a 1 GiB page set up at boot
    just the first 63 of 4,095 are read-only, as if the length were taken in struct pages and not in
    bytes. That is a defect of those kernels and not of the memory: a warning, once a page size.
    """
    pages = _seen_whole(hugepages)
    pages = pages.where(pages.remapped)
    tails = pages.vmemmap_pages - 1
    writable = tails - pages.read_only
    each = (1 << pages.order.astype(np.int64)) // pages.vmemmap_pages
    cut_short = (pages.read_only == pages.read_only_run) & (
        pages.read_only == pages.vmemmap_pages // each - 1
    )
    for i in np.flatnonzero((writable > 0) & ~cut_short).tolist():
        yield Finding(
            "tails-read-only",
            "error",
            int(pages.pfn[i]),
            f"{tails[i]} read-only tail vmemmap pages",
            f"{writable[i]} of them writable",
        )
    defect = (writable > 0) & cut_short
    for order in np.unique(pages.order[defect]).tolist():
        same = pages.where(defect & (pages.order == order))
        count = int((same.vmemmap_pages - 1 - same.read_only).sum())
        yield Finding(
            "tails-read-only",
            "warning",
            int(same.pfn[0]),
            f"read-only tail vmemmap pages behind each hugepage of order {order}",
            f"{count} writable behind {len(same)} set up at boot, all but the first "
            f"{same.read_only[0]} of each: this kernel protects too short a range",
        )


def hugetlb_tails_decode_to_head(hugepages: Hugepages) -> Iterator[Finding]:
    """Every struct page of a hugetlb page but the first resolves to the first.

    include/linux/page-flags.h, `compound_head()`, in both encodings.
    """
    pages = _seen_whole(hugepages)
    for i in np.flatnonzero(pages.lost_tails > 0).tolist():
        yield Finding(
            "tail-decodes-to-head",
            "error",
            int(pages.lost_pfn[i]),
            f"head at pfn {pages.pfn[i]:#x} for all {(1 << int(pages.order[i])) - 1} tails",
            f"{pages.lost_tails[i]} resolve elsewhere, the first to "
            + _page_name(int(pages.lost_to[i])),
        )


def tails_have_a_head(chunk: Chunk, hugepages: Hugepages) -> Iterator[Finding]:
    """Every tail's compound word decodes, and the page that it names is a head.

    `prep_compound_page()` writes both, `free_tail_page_prepare()` clears the word of each tail.
    """
    pages = chunk.pages
    tail = np.flatnonzero(pages.kind == PageClass.TAIL)
    head = pages.head[tail]
    broken = head == UNKNOWN_HEAD
    local = head - np.uint64(chunk.first_pfn)
    inside = ~broken & (local < np.uint64(len(pages.kind)))
    named = pages.kind[local[inside].astype(np.intp)]
    broken[inside] = (named != PageClass.HEAD) & (named != PageClass.UNREADABLE)
    # Those of hugetlb pages are told once a hugepage by the rule above.
    mine = np.zeros(len(pages.kind), np.bool_)
    for pfn, order in zip(hugepages.pfn, hugepages.order, strict=True):
        first = int(pfn) - chunk.first_pfn
        mine[first : first + (1 << int(order))] = True
    lost = tail[broken & ~mine[tail]]
    for i in lost.tolist():
        yield Finding(
            "tail-decodes-to-head",
            "error",
            i + chunk.first_pfn,
            "a compound word that names a head",
            _page_name(int(pages.head[i])),
        )


def flag_agrees_with_page_tables(hugepages: Hugepages) -> Iterator[Finding]:
    """HPG_vmemmap_optimized is set iff the page tables show shared tail frames.

    mm/hugetlb_vmemmap.c, `hugetlb_vmemmap_optimize_folio()` and `hugetlb_vmemmap_restore_folio()`.
    The flag is set before the remap, so on a live kernel they differ for a moment.
    """
    pages = _seen_whole(hugepages)
    pages = pages.where(pages.vmemmap_pages > 1)
    for i in np.flatnonzero(pages.flagged != pages.remapped).tolist():
        yield Finding(
            "flag-agrees-with-page-tables",
            "error",
            int(pages.pfn[i]),
            "shared tail frames" if pages.flagged[i] else "a frame for each vmemmap page",
            f"flag vmemmap_optimized {'set' if pages.flagged[i] else 'clear'}, "
            f"{pages.distinct[i]} frames behind {pages.vmemmap_pages[i]} vmemmap pages",
        )


HUGEPAGE_RULES: tuple[Callable[[Hugepages], Iterator[Finding]], ...] = (
    tails_share_one_frame,
    tails_read_only,
    hugetlb_tails_decode_to_head,
    flag_agrees_with_page_tables,
)


def _seen_whole(hugepages: Hugepages) -> Hugepages:
    """Return the hugepages all of whose vmemmap was read: of the others nothing can be said."""
    return hugepages.where(hugepages.unknown == 0)


def _page_name(pfn: int) -> str:
    if pfn == UNKNOWN_HEAD:
        return "no page: its compound word is neither mask nor pointer into the vmemmap"
    return f"pfn {pfn:#x}"
