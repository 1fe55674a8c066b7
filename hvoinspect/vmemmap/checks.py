"""What must hold of a vmemmap, as named rules; a breach of one is a finding.

Here are the table of all rules and the rules on hugepages and other compound pages, one at a time;
`machine_checks.py` has those that need the machine as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hvoinspect.vmemmap import machine_checks
from hvoinspect.vmemmap.hugepages import Hugepages
from hvoinspect.vmemmap.pages import UNKNOWN_HEAD, Encoding
from hvoinspect.vmemmap.rules import Breach, Evidence, Rule


def tails_share_one_frame(evidence: Evidence) -> Iterator[Breach]:
    """All tail vmemmap pages of an optimized hugepage are mapped to one frame.

    Up to 7.0 that is the frame of the first vmemmap page, the head's; from 7.1 on (622026e87c40) it
    is another, which the zone's tails of that order share. mm/hugetlb_vmemmap.c,
    `vmemmap_remap_pte()`. Where the rest each have a frame of their own, the hugepage is partly
    remapped: a state, and so a warning.
    """
    pages = _seen_whole(evidence.hugepages)
    pages = pages.where(pages.remapped)
    for i in np.flatnonzero(pages.strays > 0).tolist():
        partly = pages.tail_frames[i] == pages.strays[i] + 1
        yield Breach(
            int(pages.pfn[i]),
            f"one frame behind all {pages.vmemmap_pages[i] - 1} tail vmemmap pages",
            f"{pages.strays[i]} of them on other frames ({pages.tail_frames[i]} frames in all)",
            "warning" if partly else "error",
            "The hugepage is partly remapped: less is saved, and nothing is wrong with its pages."
            if partly
            else None,
        )
    pages = pages.where(pages.strays == 0)
    mask = pages.encoding == Encoding.MASK
    own = pages.tail_frame == pages.head_frame
    for i in np.flatnonzero(mask == own).tolist():
        yield Breach(
            int(pages.pfn[i]),
            "a frame shared by the zone, not the head's" if mask[i] else "the frame of the head",
            f"tails on frame {pages.tail_frame[i]:#x}, head on {pages.head_frame[i]:#x}",
        )


def tails_read_only(evidence: Evidence) -> Iterator[Breach]:
    """Tail vmemmap pages of an optimized hugepage are mapped read-only.

    A write to one would show in all that share its frame (mm/hugetlb_vmemmap.c,
    `vmemmap_remap_pte()`, PAGE_KERNEL_RO). Measured on 6.18 to 7.1: of a 1 GiB page set up at boot
    just the first 63 of 4,095 are read-only, as if the length were taken in struct pages and not in
    bytes. That is a defect of those kernels and not of the memory: a warning, once a page size.
    """
    pages = _seen_whole(evidence.hugepages)
    pages = pages.where(pages.remapped)
    tails = pages.vmemmap_pages - 1
    writable = tails - pages.read_only
    each = (1 << pages.order.astype(np.int64)) // pages.vmemmap_pages
    cut_short = (pages.read_only == pages.read_only_run) & (
        pages.read_only == pages.vmemmap_pages // each - 1
    )
    for i in np.flatnonzero((writable > 0) & ~cut_short).tolist():
        yield Breach(
            int(pages.pfn[i]),
            f"{tails[i]} read-only tail vmemmap pages",
            f"{writable[i]} of them writable",
        )
    defect = (writable > 0) & cut_short
    for order in np.unique(pages.order[defect]).tolist():
        same = pages.where(defect & (pages.order == order))
        count = int((same.vmemmap_pages - 1 - same.read_only).sum())
        yield Breach(
            int(same.pfn[0]),
            f"read-only tail vmemmap pages behind each hugepage of order {order}",
            f"{count} writable behind {len(same)} set up at boot, all but the first "
            f"{same.read_only[0]} of each: this kernel protects too short a range",
            "warning",
            "A stray write to those tails would go unnoticed; nothing is damaged.",
            also=tuple(same.pfn.tolist()),
        )


def own_frames_writable(evidence: Evidence) -> Iterator[Breach]:
    """Vmemmap pages with a frame of their own are mapped writable: a hugepage's first, always.

    All kernels. The kernel writes to the head of every hugepage, and to all tails of one that is
    not optimized. mm/hugetlb_vmemmap.c, `vmemmap_remap_pte()` maps the first with PAGE_KERNEL, and
    `vmemmap_restore_pte()` all others.
    """
    pages = _seen_whole(evidence.hugepages)
    own_tails = np.where(pages.remapped, 0, pages.read_only)
    count = own_tails + ~pages.head_writable
    for i in np.flatnonzero(count > 0).tolist():
        which = "the first among them" if not pages.head_writable[i] else "all of them tails"
        yield Breach(
            int(pages.pfn[i]),
            "a writable mapping of every vmemmap page with a frame of its own",
            f"{count[i]} read-only, {which}",
        )


def head_frame_unshared(evidence: Evidence) -> Iterator[Breach]:
    """No frame behind a hugepage's head is mapped elsewhere: up to 7.0, by its own tails too.

    All kernels. The head's words change while the hugepage is used, so whatever else were mapped
    to its frame would change along. mm/hugetlb_vmemmap.c, `vmemmap_remap_range()`.
    """
    pages, mappings = _seen_whole(evidence.hugepages), evidence.mappings
    if not len(mappings.frame):
        return
    at = np.minimum(np.searchsorted(mappings.frame, pages.head_frame), len(mappings.frame) - 1)
    times = np.where(mappings.frame[at] == pages.head_frame, mappings.times[at], 0)
    for i in np.flatnonzero(times > pages.on_head_frame).tolist():
        yield Breach(
            int(pages.pfn[i]),
            f"frame {pages.head_frame[i]:#x} mapped {pages.on_head_frame[i]} times, "
            "by this hugepage alone",
            f"mapped {times[i]} times",
            also=evidence.backing.pfns_on(pages.head_frame[i], evidence.kernel.page.size),
        )


def tails_on_the_zones_frame(evidence: Evidence) -> Iterator[Breach]:
    """From 7.1 on, the frame behind optimized tails is the one that the zone keeps for that order.

    `zone.vmemmap_tails[]`, 622026e87c40. The next hugepage of that order gets the zone's frame, and
    when one is restored the kernel expects to find it (mm/hugetlb_vmemmap.c,
    `vmemmap_get_tail()`). Nothing is said where the zone's frame cannot be read, nor of tails that
    share no frame, or the head's: another rule tells that.
    """
    pages = _seen_whole(evidence.hugepages)
    pages = pages.where(
        pages.remapped & (pages.strays == 0) & (pages.tail_frame != pages.head_frame)
    )
    for (node, zone, order), frame in sorted(evidence.tail_frames.items()):
        here = (pages.node == node) & (pages.zone == zone) & (pages.order == order)
        for i in np.flatnonzero(here & (pages.tail_frame != frame)).tolist():
            yield Breach(
                int(pages.pfn[i]),
                f"tails on frame {frame:#x}, of node {node}, zone {zone}, order {order}",
                f"tails on frame {pages.tail_frame[i]:#x}",
            )


def tails_decode_to_head(evidence: Evidence) -> Iterator[Breach]:
    """Every tail decodes to the head of its own compound page.

    All kernels, both encodings (include/linux/page-flags.h, `compound_head()`).
    `prep_compound_page()` writes the words, `free_tail_page_prepare()` clears those of tails. Told
    once a hugetlb page, and for each tail of any other.
    """
    pages = _seen_whole(evidence.hugepages)
    for i in np.flatnonzero(pages.lost_tails > 0).tolist():
        yield Breach(
            int(pages.lost_pfn[i]),
            f"head at pfn {pages.pfn[i]:#x} for all {(1 << int(pages.order[i])) - 1} tails",
            f"{pages.lost_tails[i]} resolve elsewhere, the first to "
            + _page_name(int(pages.lost_to[i])),
        )
    lost = evidence.lost
    for pfn, to in zip(lost.pfn.tolist(), lost.to.tolist(), strict=True):
        also = () if to == UNKNOWN_HEAD else (to,)
        yield Breach(pfn, "a compound word that names a head", _page_name(to), also=also)


def no_head_flag_in_tails(evidence: Evidence) -> Iterator[Breach]:
    """No tail of a hugetlb page has the flag PG_head, but for fake heads up to 7.0.

    All kernels. Code that looks at the flag alone would take the tail for a head
    (include/linux/page-flags.h, `PageHead()`). Told once a hugepage; of tails on the zone's shared
    frame `zones-tail-frame` tells it, once for all of them.
    """
    pages = _seen_whole(evidence.hugepages)
    for i in np.flatnonzero(pages.head_flags > 0).tolist():
        yield Breach(
            int(pages.head_flag_pfn[i]),
            f"PG_head in the head at pfn {pages.pfn[i]:#x} only",
            f"PG_head in {pages.head_flags[i]} of its tails",
        )


def flag_agrees_with_page_tables(evidence: Evidence) -> Iterator[Breach]:
    """HPG_vmemmap_optimized is set iff the page tables show shared tail frames.

    mm/hugetlb_vmemmap.c, `hugetlb_vmemmap_optimize_folio()` and `hugetlb_vmemmap_restore_folio()`.
    The flag is set before the remap, so on a live kernel they differ for a moment.
    """
    pages = _seen_whole(evidence.hugepages)
    pages = pages.where(pages.vmemmap_pages > 1)
    for i in np.flatnonzero(pages.flagged != pages.remapped).tolist():
        yield Breach(
            int(pages.pfn[i]),
            "shared tail frames" if pages.flagged[i] else "a frame for each vmemmap page",
            f"flag vmemmap_optimized {'set' if pages.flagged[i] else 'clear'}, "
            f"{pages.distinct[i]} frames behind {pages.vmemmap_pages[i]} vmemmap pages",
        )


RULES: tuple[Rule, ...] = (
    Rule(
        "tails-share-one-frame",
        "error",
        "Struct pages of this hugepage are not what the kernel reads there, or not kept at all.",
        tails_share_one_frame,
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
        "head-frame-unshared",
        "error",
        "What is written to this head shows in struct pages that are not its own.",
        head_frame_unshared,
    ),
    Rule(
        "tails-on-the-zones-frame",
        "error",
        "These tails read a frame that the kernel does not keep for them and may use again.",
        tails_on_the_zones_frame,
    ),
    Rule(
        "tail-decodes-to-head",
        "error",
        "Whoever takes a reference through such a tail counts it on a wrong page.",
        tails_decode_to_head,
    ),
    Rule(
        "no-head-flag-in-tails",
        "error",
        "The kernel takes such a tail for the head of a compound page of its own.",
        no_head_flag_in_tails,
    ),
    Rule(
        "flag-agrees-with-page-tables",
        "error",
        "When it frees the hugepage the kernel will restore frames that it has, or none.",
        flag_agrees_with_page_tables,
    ),
    *machine_checks.RULES,
)
"""All rules, in the order in which their findings are told."""


def _seen_whole(hugepages: Hugepages) -> Hugepages:
    """Return the hugepages all of whose vmemmap was read: of the others nothing can be said."""
    return hugepages.where(hugepages.unknown == 0)


def _page_name(pfn: int) -> str:
    if pfn == UNKNOWN_HEAD:
        return "no page: its compound word is neither mask nor pointer into the vmemmap"
    return f"pfn {pfn:#x}"
