"""Rules on what struct pages of compound pages hold: of hugetlb pages and of all others."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from hvoinspect.target.layout import VMEMMAP_PAGE, StructPage
from hvoinspect.vmemmap.chunks import Window
from hvoinspect.vmemmap.frames import read_frames
from hvoinspect.vmemmap.oddities import Oddity
from hvoinspect.vmemmap.pages import UNKNOWN_HEAD, Encoding
from hvoinspect.vmemmap.rules import Breach, Evidence, Rule, seen_whole
from hvoinspect.vmemmap.sharing_checks import misplaced, not_the_zones

TAIL_MAPPING = 0x400
"""Low bits of what `mapping` of a tail is poisoned with (include/linux/poison.h, TAIL_MAPPING); the
high ones hang on CONFIG_ILLEGAL_POINTER_VALUE."""
MASK64 = (1 << 64) - 1


def tails_decode_to_head(evidence: Evidence) -> Iterator[Breach]:
    """Every struct page of a compound page but the first is a tail that decodes to its head.

    All kernels, both encodings (include/linux/page-flags.h, `compound_head()`).
    `prep_compound_page()` writes the words, `free_tail_page_prepare()` clears those of tails. Told
    once a hugetlb page, and once a run of tails of any other. What is on the zone's shared frame is
    told once for all hugepages, by `zones-tail-frame`, and what is on a wrong frame by
    `tails-share-one-frame`.
    """
    pages = seen_whole(evidence.hugepages)
    pages = pages.where(~misplaced(pages))
    for i in np.flatnonzero(pages.lost_tails > 0).tolist():
        yield Breach(
            int(pages.lost_pfn[i]),
            f"head at pfn {pages.pfn[i]:#x} for all {(1 << int(pages.order[i])) - 1} tails",
            f"{pages.lost_tails[i]} resolve elsewhere, the first to "
            + _page_name(int(pages.lost_to[i]))
            + (", for it is no tail" if pages.lost_to[i] == pages.lost_pfn[i] else ""),
        )
    for pfn, count, head, order, _ in evidence.oddities.of(Oddity.ASTRAY):
        what = ""
        if head != UNKNOWN_HEAD:
            far = "here" if count == 1 else "that far"
            what = f", whose order {order} does not reach {far}" if order else ", which is no head"
        yield Breach(
            pfn,
            "a compound word that names the head of a compound page around it",
            f"{_tails(count)} to {_page_name(head)}{what}",
            also=((pfn, pfn + count), *_one(head)),
        )
    for pfn, count, head, order, _ in evidence.oddities.of(Oddity.NO_TAIL):
        yield Breach(
            pfn,
            f"a tail of the compound page of order {order} at pfn {head:#x}",
            f"{count} of its struct pages {'is' if count == 1 else 'are'} no tail"
            + ("" if count == 1 else "s, this one first"),
            also=((head, head + (1 << order)),),
        )


def tail_order_is_the_heads(evidence: Evidence) -> Iterator[Breach]:
    """Where tails hold masks, each mask is of the order that the head says.

    8c846c879e22 (7.1), `set_compound_head()`: a mask of order n leaves out the bytes of 2^n struct
    pages. One of another order leads the first tails to the right head all the same, and others
    elsewhere once it is copied to them. The order is in the head's first tail (`folio_order()`).
    """
    pages = seen_whole(evidence.hugepages)
    for i in np.flatnonzero(pages.other_order > 0).tolist():
        yield Breach(
            int(pages.other_order_pfn[i]),
            f"masks of order {pages.order[i]} in the tails of the hugepage at pfn "
            f"{pages.pfn[i]:#x}",
            f"{pages.other_order[i]} of another order, the first of order {pages.mask_order[i]}",
        )
    for pfn, count, head, order, of_mask in evidence.oddities.of(Oddity.OTHER_ORDER):
        yield Breach(
            pfn,
            f"masks of order {order}, as the head at pfn {head:#x} says",
            f"{count} of order {of_mask}",
            also=((pfn, pfn + count), *_one(head)),
        )


def no_head_flag_in_tails(evidence: Evidence) -> Iterator[Breach]:
    """No tail of a compound page has the flag PG_head, but for fake heads up to 7.0.

    All kernels. Code that looks at the flag alone would take the tail for a head
    (include/linux/page-flags.h, `PageHead()`). Told once a hugepage, and for each tail of any other
    compound page; of tails on the zone's shared frame `zones-tail-frame` tells it, once for all.
    """
    pages = seen_whole(evidence.hugepages)
    pages = pages.where(~misplaced(pages))
    for i in np.flatnonzero(pages.head_flags > 0).tolist():
        yield Breach(
            int(pages.head_flag_pfn[i]),
            f"PG_head in the head at pfn {pages.pfn[i]:#x} only",
            f"PG_head in {pages.head_flags[i]} of its tails",
        )
    for pfn, _, head, _, _ in evidence.oddities.of(Oddity.HEAD_FLAG):
        yield Breach(
            pfn,
            "no PG_head in a tail",
            f"PG_head, though it is a tail of {_page_name(head)}",
            also=_one(head),
        )


def zones_tail_frame(evidence: Evidence) -> Iterator[Breach]:
    """From 7.1 on, all of a zone's shared tail frame is tails of that zone and order, all alike.

    622026e87c40. One frame stands for the tails of every optimized hugepage of the zone and order,
    so damage to it is damage to all of them. `init_compound_tail()` writes it: node and zone in the
    flags, no PG_head, a mask of that order, `mapping` poisoned, `private` 0, `_mapcount` -1.
    Measured on 7.1 to 7.3, nothing differs from one struct page to the next, but for the list head
    that lies over the compound word: the frame for 1 GiB pages set up at boot is left with lists
    of one, which name themselves, and with reference counts of 1. mm/hugetlb_vmemmap.c,
    `vmemmap_get_tail()` and `hugetlb_vmemmap_init()`. Nothing is said of a frame that is not the
    zone's: `tails-on-the-zones-frame` tells that.
    """
    page, pages = evidence.kernel.page, seen_whole(evidence.hugepages)
    shared = pages.remapped & (pages.tail_frame != pages.head_frame)
    shared &= (pages.encoding == Encoding.MASK) & ~not_the_zones(pages, evidence.tail_frames)
    pages = pages.where(shared)
    keys = np.stack([pages.tail_frame, pages.node, pages.zone, pages.order], axis=1)
    _, first, users = np.unique(keys, axis=0, return_index=True, return_counts=True)
    words, readable = read_frames(evidence.kernel.memory, pages.tail_frame[first])
    for i in np.flatnonzero(readable).tolist():
        user = pages.where(first[i : i + 1])
        node, zone, order = int(user.node[0]), int(user.zone[0]), int(user.order[0])
        wrong = _odd_words(page, words[i], node, zone, order)
        if not wrong.any():
            continue
        names = [_word_name(page, at) for at in np.flatnonzero(wrong.any(axis=0)).tolist()]
        at = int(np.argmax(wrong.any(axis=1)))
        yield Breach(
            int(user.pfn[0]) + VMEMMAP_PAGE // page.size + at,
            f"tails of order {order}, node {node}, zone {zone}, all alike, in frame "
            f"{user.tail_frame[0]:#x}",
            f"{int(wrong.any(axis=1).sum())} of {len(wrong)} are not, by {', '.join(names)}",
            meaning=f"All hugepages that have their tails there read damaged struct pages: "
            f"{users[i]} were seen.",
        )


def mark_is_of_hugepages(evidence: Evidence) -> Iterator[Breach]:
    """Whatever is marked as a hugetlb page is of one of the kernel's sizes, and aligned to it.

    All kernels (mm/hugetlb.c, `init_new_hugetlb_folio()`). From 6.6 (9c5ccf2db04b) until
    d99e3140a4d3 (6.9) the mark is a flag of the second struct page, and a compound page that is
    being split bears that for a moment though it never was a hugetlb page: there, a warning. All
    that counts hugetlb pages leaves out what is told here, and so do the other rules.
    """
    mark = evidence.kernel.page.hugetlb
    flag = mark is not None and mark.where.index == 1 and mark.bits.mask == 1
    orders = ", ".join(str(hstate.order) for hstate in evidence.kernel.hstates)
    for pfn, _, _, order, _ in evidence.oddities.of(Oddity.NO_HUGEPAGE):
        yield Breach(
            pfn,
            f"a hugetlb page of order {orders.replace(', ', ' or ')}, aligned to it",
            f"order {order}" + (", not aligned" if pfn & ((1 << order) - 1) else ""),
            "warning" if flag else None,
            "A compound page was being split just then, or its order is damaged." if flag else None,
        )


RULES: tuple[Rule, ...] = (
    Rule(
        "tail-decodes-to-head",
        "error",
        "Whoever takes a reference through such a tail counts it on a wrong page.",
        tails_decode_to_head,
    ),
    Rule(
        "tail-order-is-the-heads",
        "error",
        "Either the tail or the head is damaged, and both are trusted.",
        tail_order_is_the_heads,
    ),
    Rule(
        "no-head-flag-in-tails",
        "error",
        "The kernel takes such a tail for the head of a compound page of its own.",
        no_head_flag_in_tails,
    ),
    Rule(
        "zones-tail-frame",
        "error",
        "Every optimized hugepage of that zone and size reads damaged struct pages.",
        zones_tail_frame,
    ),
    Rule(
        "mark-is-of-hugepages",
        "error",
        "The kernel takes it for a hugepage of a size that it has no pool for.",
        mark_is_of_hugepages,
    ),
)


def _odd_words(
    page: StructPage, content: NDArray[np.uint64], node: int, zone: int, order: int
) -> NDArray[np.bool_]:
    """Tell which words of the struct pages of a shared tail frame are not as they should be.

    bool[s, w]: s struct pages of w words of 8 bytes.
    """
    tails = content.reshape(-1, page.size // 8)
    wrong = tails != np.sort(tails, axis=0)[len(tails) // 2]  # than most of them
    back = page.compound // 8 + 1  # of the list head that lies over the compound word
    own_list = np.arange(len(tails)) * page.size + page.compound
    wrong[:, back] = (tails[:, back] != 0) & (tails[:, back] % VMEMMAP_PAGE != own_list)
    for offset, bits, value in _known_bits(page, node, zone, order):
        shift = np.uint64(8 * (offset & 7))
        wrong[:, offset // 8] |= (tails[:, offset // 8] >> shift & np.uint64(bits)) != value
    return np.asarray(wrong)


def _known_bits(
    page: StructPage, node: int, zone: int, order: int
) -> Iterator[tuple[int, int, int]]:
    """Yield what is known of a shared tail: offset in the struct page, bits, and their value."""
    where = page.node.mask << page.node.shift | page.zone.mask << page.zone.shift
    yield page.flags, page.head_bit | where, node << page.node.shift | zone << page.zone.shift
    yield page.compound, MASK64, -page.size << order & MASK64 | 1
    yield page.private, MASK64, 0
    if page.mapping is not None:
        yield page.mapping, VMEMMAP_PAGE - 1, TAIL_MAPPING
    if page.mapcount is not None:
        yield page.mapcount, 0xFFFF_FFFF, 0xFFFF_FFFF


def _word_name(page: StructPage, word: int) -> str:
    """Name the 8-byte word `word` of a struct page."""
    names = {
        page.flags: "flags",
        page.compound: page.compound_field,
        page.private: "private",
        page.mapping: "mapping",
        page.mapcount: "_mapcount",
    }
    held = [name for at, name in names.items() if at is not None and at // 8 == word]
    return held[0] if held else f"the word at byte {8 * word}"


def _one(pfn: int) -> tuple[Window, ...]:
    """Return the window of one struct page, none if it is not known which."""
    return () if pfn == UNKNOWN_HEAD else ((pfn, pfn + 1),)


def _page_name(pfn: int) -> str:
    if pfn == UNKNOWN_HEAD:
        return "no page: the compound word is neither mask nor pointer into the vmemmap"
    return f"pfn {pfn:#x}"


def _tails(count: int) -> str:
    return "it leads" if count == 1 else f"{count} tails from here on lead"
