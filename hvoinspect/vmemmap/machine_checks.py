"""Rules on the machine as a whole: what its pages come to against what the kernel keeps of them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hvoinspect.target.layout import VMEMMAP_PAGE, Hstate
from hvoinspect.vmemmap.hugepages import Hugepages
from hvoinspect.vmemmap.oddities import Oddity
from hvoinspect.vmemmap.rules import Breach, Evidence, Rule


def vmemmap_aligned(evidence: Evidence) -> Iterator[Breach]:
    """Where tails hold masks, the vmemmap is aligned to the struct pages of the largest hugepage.

    8c846c879e22 (7.1): the head's address is the tail's under the mask, so it must be a multiple of
    what the mask spans. The kernel only warns of it, once, in `sparse_init()`.
    """
    kernel = evidence.kernel
    if not evidence.masks or not kernel.hstates:
        return
    span = kernel.page.size << max(hstate.order for hstate in kernel.hstates)
    if kernel.vmemmap % span:
        yield Breach(
            evidence.first_pfn,
            f"a vmemmap aligned to {span:#x} bytes",
            f"it begins at {kernel.vmemmap:#x}",
        )


def pool_counters_agree(evidence: Evidence) -> Iterator[Breach]:
    """There are as many hugetlb pages of each size on each node as the pool's counters say.

    All kernels: `nr_huge_pages_node` and `free_huge_pages_node` of struct hstate against the heads
    found, and those with HPG_freed. Told only where all of the vmemmap could be read, and nothing
    is marked as a hugetlb page that is none; of a live kernel only where no hugepage was allocated
    meanwhile, and nothing of its free ones, which every fault changes. Those that the
    kernel is making or dissolving may be counted or not. A warning: the kernel can live on.
    """
    live = evidence.kernel.live
    for hstate in _pools(evidence):
        pages, changing = (
            pages.where(pages.order == hstate.order)
            for pages in (evidence.hugepages, evidence.changing)
        )
        total, free = hstate.total or {}, None if live else hstate.free
        for node in sorted({*total, *pages.node.tolist()}):
            here, more = pages.where(pages.node == node), int((changing.node == node).sum())
            seen, seen_free = len(here), int(here.free.sum())
            told = total.get(node, 0)
            told_free = None if free is None else free.get(node, 0)
            agree = seen <= told <= seen + more
            if agree and (told_free is None or seen_free <= told_free <= seen_free + more):
                continue
            yield Breach(
                int(here.pfn[0]) if seen else evidence.first_pfn,
                f"{told} hugepages of order {hstate.order} on node {node}"
                + ("" if told_free is None else f", {told_free} free"),
                f"{seen} found" + ("" if told_free is None else f", {seen_free} free"),
            )


def static_key_counts_optimized(evidence: Evidence) -> Iterator[Breach]:
    """Up to 7.0, the static key that makes the kernel look for fake heads counts what has them.

    `hugetlb_optimize_vmemmap_key`, raised by one with each hugepage that is optimized and lowered
    when it is restored (mm/hugetlb_vmemmap.c), gone with da3e2d1ca43d (7.1). Told only where all of
    the vmemmap could be read and the pools' counters agree: else hugepages may have gone unseen.
    Nothing is told while a hugepage is made or dissolved. Where flag and page tables differ, which
    another rule tells, either count will do.
    """
    counters, pages = evidence.counters, evidence.hugepages
    if counters is None or counters.optimized_key is None or not _all_counted(evidence):
        return
    if len(evidence.changing):
        return
    if next(pool_counters_agree(evidence), None) is not None:
        return
    key, flagged, remapped = counters.optimized_key, _count(pages, True), _count(pages, False)
    if key not in (flagged, remapped):
        yield Breach(
            evidence.first_pfn,
            f"a static key with the count {remapped}, one an optimized hugepage",
            f"its count is {key}",
        )


def vmemmap_frames_in_use(evidence: Evidence) -> Iterator[Breach]:
    """No frame behind the vmemmap is inside of a block that the page allocator has free.

    All kernels. HVO gives a frame back only after it is mapped nowhere, and takes one out before it
    maps it (mm/hugetlb_vmemmap.c, `free_vmemmap_page_list()`, `alloc_vmemmap_page_list()`). Free
    are the blocks in the lists of mm/page_alloc.c, whose first page is of the type buddy with its
    order in `private`; pages in the lists of a CPU bear no mark.
    """
    kernel, backing = evidence.kernel, evidence.backing
    if not len(backing.free):
        return
    order = np.argsort(backing.free)
    block = backing.free[order]
    block_end = np.maximum.accumulate(
        block + np.left_shift(np.uint64(1), backing.free_order[order])
    )
    last = np.searchsorted(block, backing.frame + backing.count)  # the one before begins in time
    hit = (last > 0) & (block_end[last - 1] > backing.frame)
    for i in np.flatnonzero(hit).tolist():
        start, first = int(block[last[i] - 1]), int(backing.frame[i])
        inside = max(start - first, 0)
        yield Breach(
            int(backing.pfn[i]) + inside * VMEMMAP_PAGE // kernel.page.size,
            "a frame that is in use, as it is mapped in the vmemmap",
            f"frame {first + inside:#x} is free, in the block at pfn {start:#x}",
            also=((start, start + 1),),
        )


RULES: tuple[Rule, ...] = (
    Rule(
        "vmemmap-aligned",
        "error",
        "Tails of the largest hugepages would lead to a wrong head.",
        vmemmap_aligned,
        whole=True,
    ),
    Rule(
        "pool-counters-agree",
        "warning",
        "Hugepages were lost or counted twice, or one was on its way in or out.",
        pool_counters_agree,
        whole=True,
    ),
    Rule(
        "static-key-counts-optimized",
        "warning",
        "If it falls to 0 too early the kernel takes fake heads for heads.",
        static_key_counts_optimized,
        whole=True,
    ),
    Rule(
        "vmemmap-frames-in-use",
        "error",
        "The next user of that memory will overwrite these struct pages.",
        vmemmap_frames_in_use,
    ),
)


def _pools(evidence: Evidence) -> tuple[Hstate, ...]:
    """Return the pools whose counters can be held against what was found."""
    if evidence.counters is None or not _all_counted(evidence):
        return ()
    return tuple(hstate for hstate in evidence.counters.hstates if hstate.total is not None)


def _all_counted(evidence: Evidence) -> bool:
    """Tell whether all hugetlb pages there are can have been counted."""
    return evidence.whole and not evidence.oddities.any(Oddity.NO_HUGEPAGE)


def _count(pages: Hugepages, flagged: bool) -> int:
    return int((pages.flagged if flagged else pages.remapped).sum())
