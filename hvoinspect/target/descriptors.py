"""What a kernel tells of its memory that only the question about memdescs needs."""

from __future__ import annotations

import contextlib

from drgn import FaultError, Program

from hvoinspect.target.facts import Facts
from hvoinspect.target.layout import Bits, Descriptors, HugetlbMark, PageField
from hvoinspect.target.page_layout import type_mark

DEVICE = "Device"
ZONES = ("DMA", "DMA32", "Normal", "HighMem", "Movable", DEVICE)
"""As /proc/zoneinfo calls them (mm/mm_init.c, `zone_names`); `enum zone_type` has them in capitals,
those that a kernel is built with."""

MAX_BLOCK_SECTIONS = 1 << 16
"""More than any memory block has: x86-64's largest is 2 GiB, 16 sections."""


def learn_descriptors(prog: Program, facts: Facts) -> Descriptors:
    """Return what `prog` tells; what it does not tell is left unknown."""
    size = facts.size("page") or 0
    zones = {facts.constant(f"ZONE_{name.upper()}"): name for name in ZONES}
    return Descriptors(
        slab=_inside(_slab(facts), size),
        table=_inside(type_mark(facts, "PAGE_TABLE_MAPCOUNT_VALUE", "PGTY_table"), size),
        zones={index: name for index, name in zones.items() if index is not None},
        block_sections=_block_sections(prog),
    )


def _inside(mark: HugetlbMark | None, size: int) -> HugetlbMark | None:
    """Return `mark` if it is in a struct page of `size` bytes, as none but a damaged one is not."""
    if mark is None or mark.where.offset % mark.where.size:
        return None
    return mark if mark.where.offset + mark.where.size <= size else None


def _slab(facts: Facts) -> HugetlbMark | None:
    # A page type since 46df8e73a4a3 "mm: free up PG_slab" (6.10), a flag before.
    mark = type_mark(facts, "PAGE_SLAB_MAPCOUNT_VALUE", "PGTY_slab")
    if mark is not None:
        return mark
    flag, flags = facts.number("PG_slab"), facts.offset("page", "flags")
    if flag is None or flags is None or not 0 <= flag < 64:
        return None
    return HugetlbMark(PageField(0, flags, 8), Bits(flag, 1), 1)


def _block_sections(prog: Program) -> int | None:
    """Return `sections_per_block` (drivers/base/memory.c)."""
    with contextlib.suppress(LookupError, FaultError):
        count = int(prog["sections_per_block"].value_())
        if 0 < count <= MAX_BLOCK_SECTIONS:
            return count
    return None
