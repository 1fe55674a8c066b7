"""Rules on the mappings of hugepages' struct pages: there, writable or not, and as the head says.

The way of the kernel is in mm/hugetlb_vmemmap.c: `vmemmap_remap_pte()` maps the first vmemmap page
of a hugepage with PAGE_KERNEL and all others to one frame with PAGE_KERNEL_RO,
`vmemmap_restore_pte()` maps each of those to a frame of its own again, with PAGE_KERNEL.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hvoinspect.target.ranges import each_once
from hvoinspect.vmemmap.oddities import Oddity
from hvoinspect.vmemmap.rules import Breach, Evidence, Rule, seen_whole


def online_memory_mapped(evidence: Evidence) -> Iterator[Breach]:
    """Every struct page of online memory is mapped.

    All kernels. The kernel looks at any of them at any time, and maps them a section at a time
    (mm/sparse.c, `sparse_init_nid()`, `sparse_add_section()`). HVO replaces the frames behind
    struct pages, but leaves no address without one (mm/hugetlb_vmemmap.c,
    `vmemmap_remap_range()`). Nothing is said where a page table could not be read, and of memory
    that was taken out of a live kernel meanwhile.
    """
    holes = list(evidence.oddities.of(Oddity.HOLE))
    now = evidence.kernel.sections
    if holes and evidence.kernel.live and evidence.kernel.sections_now is not None:
        now = evidence.kernel.sections_now()
    online = now.numbers[now.online]
    for pfn, count, _, _, _ in holes:
        first, last = pfn // now.pages, (pfn + count - 1) // now.pages
        if not ((online >= first) & (online <= last)).any():
            continue
        yield Breach(
            pfn,
            "all struct pages of online memory mapped",
            "nothing mapped for "
            + ("this one" if count == 1 else f"{count} of them, this one first"),
            also=((pfn, pfn + count),),
        )


def tails_read_only(evidence: Evidence) -> Iterator[Breach]:
    """Tail vmemmap pages that share a frame are mapped read-only.

    All kernels. A write to one would show in all that share its frame (mm/hugetlb_vmemmap.c,
    `vmemmap_remap_pte()`, PAGE_KERNEL_RO). Measured on 6.18 to 7.1: of a 1 GiB page set up at boot
    just the first 63 of 4,095 are read-only, for `vmemmap_wrprotect_hvo()` is given a length in
    struct pages and takes it for bytes. That is a defect of those kernels and not of the memory: a
    warning, once a page size.
    """
    pages = seen_whole(evidence.hugepages)
    pages = pages.where(pages.remapped)
    tails = pages.vmemmap_pages - 1 - pages.strays
    writable = tails - pages.read_only
    each = (1 << pages.order.astype(np.int64)) // pages.vmemmap_pages
    cut_short = (pages.read_only == pages.read_only_run) & (
        pages.read_only == pages.vmemmap_pages // each - 1
    )
    for i in np.flatnonzero((writable > 0) & ~cut_short).tolist():
        yield Breach(
            int(pages.pfn[i]),
            f"{tails[i]} read-only tail vmemmap pages on frame {pages.tail_frame[i]:#x}",
            f"{writable[i]} of them writable",
        )
    defect = (writable > 0) & cut_short
    for order in each_once(pages.order[defect]).tolist():
        same = pages.where(defect & (pages.order == order))
        count = int((same.vmemmap_pages - 1 - same.read_only).sum())
        yield Breach(
            int(same.pfn[0]),
            f"read-only tail vmemmap pages behind each hugepage of order {order}",
            f"{count} writable behind {len(same)} set up at boot, all but the first "
            f"{same.read_only[0]} of each: this kernel protects too short a range",
            "warning",
            "A stray write to those tails would go unnoticed; nothing is damaged.",
            also=tuple((pfn, pfn + 1) for pfn in same.pfn.tolist()),
        )


def own_frames_writable(evidence: Evidence) -> Iterator[Breach]:
    """Vmemmap pages with a frame of their own are mapped writable: a hugepage's first, always.

    All kernels. The kernel writes to the head of every hugepage, and to all tails of one that is
    not optimized. mm/hugetlb_vmemmap.c, `vmemmap_remap_pte()` maps the first with PAGE_KERNEL, and
    `vmemmap_restore_pte()` all others.
    """
    pages = seen_whole(evidence.hugepages)
    own_tails = np.where(pages.remapped, 0, pages.read_only)
    count = own_tails + ~pages.head_writable
    for i in np.flatnonzero(count > 0).tolist():
        which = "all of them tails" if pages.head_writable[i] else "the first among them"
        yield Breach(
            int(pages.pfn[i]),
            "a writable mapping of every vmemmap page with a frame of its own",
            f"{count[i]} of {pages.vmemmap_pages[i]} read-only, {which}",
        )


def flag_agrees_with_page_tables(evidence: Evidence) -> Iterator[Breach]:
    """HPG_vmemmap_optimized is set iff the page tables show shared tail frames.

    All kernels. mm/hugetlb_vmemmap.c, `hugetlb_vmemmap_optimize_folio()` and
    `hugetlb_vmemmap_restore_folio()`. The flag is set before the remap, so on a live kernel they
    differ for a moment. A hugepage that is partly remapped may have it or not.
    """
    pages = seen_whole(evidence.hugepages)
    pages = pages.where((pages.vmemmap_pages > 1) & ~pages.partly)
    for i in np.flatnonzero(pages.flagged != pages.remapped).tolist():
        yield Breach(
            int(pages.pfn[i]),
            "shared tail frames" if pages.flagged[i] else "a frame for each vmemmap page",
            f"flag vmemmap_optimized {'set' if pages.flagged[i] else 'clear'}, "
            f"{pages.distinct[i]} frame{'' if pages.distinct[i] == 1 else 's'} behind "
            f"{pages.vmemmap_pages[i]} vmemmap pages",
        )


RULES: tuple[Rule, ...] = (
    Rule(
        "online-memory-mapped",
        "error",
        "The kernel will fault when it next looks at those struct pages.",
        online_memory_mapped,
    ),
    Rule(
        "tails-read-only",
        "error",
        "A write to one of those tails would change all that share its frame.",
        tails_read_only,
    ),
    Rule(
        "own-frames-writable",
        "error",
        "The kernel will fault when it next writes to those struct pages.",
        own_frames_writable,
    ),
    Rule(
        "flag-agrees-with-page-tables",
        "error",
        "When it frees the hugepage the kernel will restore frames that it has, or none.",
        flag_agrees_with_page_tables,
    ),
)
