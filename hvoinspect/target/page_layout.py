"""Where the words of `struct page` are in one kernel, and what their bits mean there.

Decided by which members, constants and VMCOREINFO entries exist, never by a version number: stable
trees and distributions backport.
"""

from __future__ import annotations

from hvoinspect.errors import HvoinspectError
from hvoinspect.target.facts import Facts
from hvoinspect.target.layout import Bits, CompoundField, HugetlbMark, PageField, StructPage

PAGE_TYPE_BASE = 0xF000_0000
"""Set in `page_type` of every typed page up to 6.11 (include/linux/page-flags.h)."""


def learn_page_layout(facts: Facts) -> StructPage:
    """Return the layout of `struct page`. Raises HvoinspectError naming what is not known."""
    size = facts.size("page")
    if size is None or size % 8 or not 32 <= size <= 4096:
        raise facts.missing(f"a usable size of struct page (found {size})")
    field, compound = _compound(facts)
    flags, private = facts.offset("page", "flags"), facts.offset("page", "private")
    if flags is None or private is None:
        raise facts.missing("where page.flags and page.private are")
    node, zone = _node_and_zone(facts)
    page = StructPage(
        size=size,
        compound_field=field,
        compound=compound,
        flags=flags,
        private=private,
        head_bit=_head_bit(facts),
        order=_order(facts, flags),
        hugetlb=_hugetlb_mark(facts, flags),
        hugetlb_free=_bit(facts, "HPG_freed"),
        hugetlb_optimized=_bit(facts, "HPG_vmemmap_optimized"),
        node=node,
        zone=zone,
        mapping=facts.offset("page", "mapping"),
        mapcount=facts.offset("page", "_mapcount"),
        refcount=facts.offset("page", "_refcount"),
        buddy=type_mark(facts, "PAGE_BUDDY_MAPCOUNT_VALUE", "PGTY_buddy"),
    )
    words = ((flags, "flags"), (compound, field), (private, "private"))
    fields = [(PageField(0, offset, 8), name) for offset, name in words]
    if page.mapping is not None:
        fields.append((PageField(0, page.mapping, 8), "mapping"))
    if page.mapcount is not None:
        fields.append((PageField(0, page.mapcount, 4), "_mapcount"))
    fields.append((page.order, "order"))
    if page.hugetlb:
        fields.append((page.hugetlb.where, "hugetlb mark"))
    if page.buddy:
        fields.append((page.buddy.where, "buddy mark"))
    for where, name in fields:
        # A field is read out of the aligned word that it is in.
        if where.offset % where.size or where.offset + where.size > size:
            raise _damaged(f"{name} would be at byte {where.offset} of {size}")
    return page


def _damaged(what: str) -> HvoinspectError:
    return HvoinspectError(
        f"the {what} of struct page",
        "this kernel's debug information is damaged; try another source of it",
    )


def _compound(facts: Facts) -> tuple[CompoundField, int]:
    # Renamed in d50569612c29 "mm: rename the 'compound_head' field in the 'struct page' to
    # 'compound_info'" (7.1). The name says nothing of the encoding: see vmemmap/pages.py.
    offset = facts.offset("page", "compound_info")
    if offset is not None:
        return "compound_info", offset
    offset = facts.offset("page", "compound_head")
    if offset is not None:
        return "compound_head", offset
    raise facts.missing("page.compound_info or page.compound_head")


def _head_bit(facts: Facts) -> int:
    mask = facts.number("PG_head_mask")
    if mask is None:
        mask = _bit(facts, "PG_head")
    if mask is None:
        raise facts.missing("which page flag is PG_head")
    if mask <= 0 or mask & (mask - 1) or mask >= 1 << 64:
        raise _damaged(f"PG_head would be {mask:#x} in the flags")
    return mask


def _order(facts: Facts, flags: int) -> PageField:
    # page[1].compound_order up to 6.2, folio._folio_order up to 6.5, and since ebc1baf5c9b4
    # "mm: store compound_order in folio->flags" (6.6) the low byte of page[1].flags.
    for struct, member in (("page", "compound_order"), ("folio", "_folio_order")):
        offset = facts.offset(struct, member)
        if offset is not None:
            size = facts.size("page") or 0
            return PageField(1, offset % size, 1)
    return PageField(1, flags, 1)


def type_mark(facts: Facts, in_vmcoreinfo: str, in_types: str) -> HugetlbMark | None:
    """Return the mark of a type that `page_type` holds, None where it has no such type."""
    page_type = facts.offset("page", "page_type")
    if page_type is None:
        page_type = facts.offset("page", "_mapcount")  # one union
    # VMCOREINFO: ~PG_hugetlb, say, up to 6.11, PGTY_hugetlb << 24 from then on.
    number = facts.number(in_vmcoreinfo)
    kind = facts.constant(in_types)
    if kind is None and number is not None and not number & 0xFF_FFFF:
        kind = number >> 24
    if kind is not None and page_type is not None:
        return HugetlbMark(PageField(0, page_type, 4), Bits(24, 0xFF), kind & 0xFF)
    # Up to 6.11 (hugetlb from 6.9, buddy from 4.18): a type is a bit that is clear in page_type.
    if number is not None and page_type is not None:
        mask = ~number & 0xFFFF_FFFF | PAGE_TYPE_BASE
        return HugetlbMark(PageField(0, page_type, 4), Bits(0, mask), PAGE_TYPE_BASE)
    return None


def _hugetlb_mark(facts: Facts, flags: int) -> HugetlbMark | None:
    mark = type_mark(facts, "PAGE_HUGETLB_MAPCOUNT_VALUE", "PGTY_hugetlb")
    if mark is not None:
        return mark
    flag = facts.number("PG_hugetlb")  # 6.6 to 6.8
    if flag is not None and 0 <= flag < 64:
        return HugetlbMark(PageField(1, flags, 8), Bits(flag, 1), 1)
    destructor, dtor = facts.offset("page", "compound_dtor"), facts.number("HUGETLB_PAGE_DTOR")
    if destructor is not None and dtor is not None:
        return HugetlbMark(PageField(1, destructor, 1), Bits(0, 0xFF), dtor)
    return None


def _bit(facts: Facts, name: str) -> int | None:
    """Return the mask of the bit whose number is the constant `name`."""
    bit = facts.constant(name)
    if bit is None:
        return None
    if not 0 <= bit < 64:
        raise _damaged(f"{name} would be bit {bit} in a word")
    return 1 << bit


def _node_and_zone(facts: Facts) -> tuple[Bits, Bits]:
    """Return where `page.flags` keeps node and zone: include/linux/page-flags-layout.h.

    With SPARSEMEM_VMEMMAP the section takes no bits, so the node is at the very top and the zone
    right below it.
    """
    nodes = facts.array_length("hstate", "nr_huge_pages_node") or 1
    zones = facts.constant("__MAX_NR_ZONES") or facts.array_length("pglist_data", "node_zones") or 1
    node_bits, zone_bits = (nodes - 1).bit_length(), (zones - 1).bit_length()
    node = Bits(64 - node_bits, nodes - 1) if node_bits else Bits(0, 0)
    zone = Bits(64 - node_bits - zone_bits, (1 << zone_bits) - 1) if zone_bits else Bits(0, 0)
    return node, zone
