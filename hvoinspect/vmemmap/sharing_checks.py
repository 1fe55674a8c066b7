"""Rules on the frames behind hugepages' struct pages: which, and with whom they are shared.

The way of the kernel is in mm/hugetlb_vmemmap.c: `vmemmap_remap_pte()` maps the first vmemmap page
of a hugepage with PAGE_KERNEL and all others to one frame with PAGE_KERNEL_RO,
`vmemmap_restore_pte()` maps each of those to a frame of its own again, with PAGE_KERNEL.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from hvoinspect.target.layout import VMEMMAP_PAGE, TailFrames
from hvoinspect.target.ranges import each_once
from hvoinspect.vmemmap.hugepages import Hugepages
from hvoinspect.vmemmap.pages import Encoding
from hvoinspect.vmemmap.rules import Breach, Evidence, Rule, seen_whole


def tails_share_one_frame(evidence: Evidence) -> Iterator[Breach]:
    """All tail vmemmap pages of an optimized hugepage are mapped to one frame.

    Up to 7.0 that is the frame of the first vmemmap page, the head's; from 7.1 on (622026e87c40) it
    is another, which the zone's tails of that order share (mm/hugetlb_vmemmap.c,
    `vmemmap_remap_pte()`). A tail vmemmap page with a writable frame of its own is no breach: the
    hugepage is partly remapped, which is a state and is counted as such.
    """
    pages = evidence.hugepages
    each = VMEMMAP_PAGE // evidence.kernel.page.size
    for i in np.flatnonzero(pages.wrong > 0).tolist():
        yield Breach(
            int(pages.pfn[i]) + int(pages.wrong_page[i]) * each,
            f"the {pages.vmemmap_pages[i] - 1} tail vmemmap pages of the hugepage at pfn "
            f"{pages.pfn[i]:#x} on frame {pages.tail_frame[i]:#x}, or on writable own ones",
            f"{pages.wrong[i]} on neither, the first on frame {pages.wrong_frame[i]:#x}"
            + _whose(pages, int(pages.wrong_frame[i])),
            also=evidence.mapped_to(pages.wrong_frame[i]),
        )
    pages = pages.where(misplaced(pages))
    for i in range(len(pages)):
        others = evidence.hugepages.where(evidence.hugepages.pfn != pages.pfn[i])
        mask = pages.encoding[i] == Encoding.MASK
        yield Breach(
            int(pages.pfn[i]),
            "tails on a frame that the zone shares, not on the head's"
            if mask
            else f"tails on the frame of the head, {pages.head_frame[i]:#x}"
            + _whose(others, int(pages.head_frame[i])),
            f"tails on frame {pages.tail_frame[i]:#x}"
            + (", the head's" if mask else _whose(others, int(pages.tail_frame[i]))),
            also=evidence.mapped_to(pages.head_frame[i]) + evidence.mapped_to(pages.tail_frame[i]),
        )


def head_frame_unshared(evidence: Evidence) -> Iterator[Breach]:
    """No frame behind a hugepage's head is mapped elsewhere: up to 7.0, by its own tails too.

    All kernels. The head's words change while the hugepage is used, so whatever else were mapped
    to its frame would change along. mm/hugetlb_vmemmap.c, `vmemmap_remap_range()`. Where another
    rule tells that tails are on that frame, nothing more is said of it.
    """
    pages, mappings = seen_whole(evidence.hugepages), evidence.mappings
    if not len(mappings.frame):
        return
    at = np.minimum(np.searchsorted(mappings.frame, pages.head_frame), len(mappings.frame) - 1)
    times = np.where(mappings.frame[at] == pages.head_frame, mappings.times[at], 0)
    told = np.isin(pages.head_frame, _told_otherwise(evidence))
    for i in np.flatnonzero((times > pages.on_head_frame) & ~told).tolist():
        yield Breach(
            int(pages.pfn[i]),
            f"frame {pages.head_frame[i]:#x} mapped {_times(int(pages.on_head_frame[i]))}, "
            "by this hugepage alone",
            f"mapped {_times(int(times[i]))}",
            also=evidence.mapped_to(pages.head_frame[i]),
        )


def own_frames_unshared(evidence: Evidence) -> Iterator[Breach]:
    """No frame that is a hugepage's own is mapped elsewhere, whichever of its tails it is behind.

    All kernels: all frames of a hugepage that is not optimized, and those that one has that is
    partly remapped (mm/hugetlb_vmemmap.c, `vmemmap_restore_pte()`). With masks nothing else would
    tell: the tails of two hugepages hold the same words. Told once a frame.
    """
    pages, mappings, backing = evidence.hugepages, evidence.mappings, evidence.backing
    if not len(pages):
        return
    several = mappings.times > 1
    frame, times = mappings.frame[several], mappings.times[several]
    zones = np.array(list(evidence.tail_frames.values()), np.uint64)
    shared = pages.tail_frame[pages.remapped | (pages.unknown > 0)]
    known = each_once(np.concatenate([zones, shared, pages.head_frame, _told_otherwise(evidence)]))
    at = np.minimum(np.searchsorted(known, frame), len(known) - 1)
    frame, times = frame[known[at] != frame], times[known[at] != frame]
    first = np.searchsorted(frame, backing.frame)
    hits = np.searchsorted(frame, backing.frame + backing.count) - first
    run = np.repeat(np.arange(len(hits)), hits)
    at = np.arange(len(run)) - np.repeat(np.cumsum(hits) - hits, hits) + first[run]
    each = np.uint64(VMEMMAP_PAGE // evidence.kernel.page.size)
    pfn = backing.pfn[run] + (frame[at] - backing.frame[run]) * each
    owner = np.searchsorted(pages.pfn, pfn, side="right") - 1
    of_one = (owner >= 0) & (pfn - pages.pfn[owner] < 1 << pages.order[owner].astype(np.uint64))
    pfn, at, owner = pfn[of_one], at[of_one], owner[of_one]
    order = np.lexsort((pfn, at))
    for i in order[np.unique(at[order], return_index=True)[1]].tolist():
        yield Breach(
            int(pfn[i]),
            f"frame {frame[at[i]]:#x} mapped once, by the hugepage at pfn "
            f"{pages.pfn[owner[i]]:#x} alone",
            f"mapped {_times(int(times[at[i]]))}",
            also=evidence.mapped_to(frame[at[i]]),
        )


def tails_on_the_zones_frame(evidence: Evidence) -> Iterator[Breach]:
    """From 7.1 on, the frame behind optimized tails is the one that the zone keeps for that order.

    `zone.vmemmap_tails[]`, 622026e87c40. The next hugepage of that order gets the zone's frame, and
    a frame that no zone keeps may be freed (mm/hugetlb_vmemmap.c, `vmemmap_get_tail()`). Nothing
    is said where the zone's frame is not known, nor of tails that share no frame, or the head's:
    another rule tells that.
    """
    pages, frames = evidence.hugepages, evidence.tail_frames
    for i in np.flatnonzero(not_the_zones(pages, frames)).tolist():
        node, zone, order = int(pages.node[i]), int(pages.zone[i]), int(pages.order[i])
        own, found = frames.get((node, zone, order)), int(pages.tail_frame[i])
        others = [key for key, frame in sorted(frames.items()) if frame == found]
        yield Breach(
            int(pages.pfn[i]),
            f"tails on the frame of node {node}, zone {zone}, order {order}"
            + ("" if own is None else f", {own:#x}"),
            f"tails on frame {found:#x}"
            + _whose(pages, found)
            + "".join(", that of node {}, zone {}, order {}".format(*key) for key in others),
            also=evidence.mapped_to(found),
        )


RULES: tuple[Rule, ...] = (
    Rule(
        "tails-share-one-frame",
        "error",
        "Struct pages of this hugepage are not what the kernel reads there, or not kept at all.",
        tails_share_one_frame,
    ),
    Rule(
        "head-frame-unshared",
        "error",
        "What is written to this head shows in struct pages that are not its own.",
        head_frame_unshared,
    ),
    Rule(
        "own-frames-unshared",
        "error",
        "When one of the two hugepages gives up that frame, the other loses its struct pages.",
        own_frames_unshared,
    ),
    Rule(
        "tails-on-the-zones-frame",
        "error",
        "These tails read a frame that the kernel does not keep for them and may use again.",
        tails_on_the_zones_frame,
    ),
)


def misplaced(pages: Hugepages) -> NDArray[np.bool_]:
    """Tell whose tails share a frame of the wrong kind: the head's with masks, another without."""
    masks, on_heads = pages.encoding == Encoding.MASK, pages.tail_frame == pages.head_frame
    settled = pages.remapped & (pages.unknown == 0) & (pages.wrong == 0)
    return np.asarray(settled & (masks == on_heads))


def not_the_zones(pages: Hugepages, frames: TailFrames) -> NDArray[np.bool_]:
    """Tell whose tails share another frame than the one that their zone has for them.

    Where it is not known which that is, a frame that is known to be for other tails is another.
    """
    settled = pages.remapped & (pages.unknown == 0) & (pages.wrong == 0)
    settled &= pages.tail_frame != pages.head_frame
    right = np.zeros(len(pages), np.bool_)
    known = np.isin(pages.tail_frame, np.array(list(frames.values()), np.uint64))
    for (node, zone, order), frame in frames.items():
        here = (pages.node == node) & (pages.zone == zone) & (pages.order == order)
        known |= here
        right |= here & (pages.tail_frame == frame)
    return np.asarray(settled & known & ~right)


def _told_otherwise(evidence: Evidence) -> NDArray[np.uint64]:
    """Return the frames behind hugepages whose tails, or head, other rules tell to be misplaced."""
    pages = evidence.hugepages
    apart, elsewhere = misplaced(pages), not_the_zones(pages, evidence.tail_frames)
    return np.concatenate(
        [
            pages.wrong_frame[pages.wrong > 0],
            pages.tail_frame[apart | elsewhere],
            pages.head_frame[apart],
        ]
    )


def _whose(pages: Hugepages, frame: int) -> str:
    """Say whose head is on `frame`, if that of one of `pages` is."""
    owner = pages.pfn[pages.head_frame == frame]
    return f", that of the head at pfn {owner[0]:#x}" if len(owner) else ""


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
