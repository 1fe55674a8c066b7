"""What is known of one kernel: every offset, bit and address that is used, as plain values.

Nothing here reads a kernel. `learn.py` fills these from VMCOREINFO, BTF, kallsyms and DWARF; the
tests fill them by hand. Offsets are bytes, addresses are virtual unless their name says physical.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hvoinspect.target.memory import Memory

VMEMMAP_PAGE = 4096
"""Bytes of one vmemmap page: the unit in which HVO remaps, whatever maps it now."""

SourceKind = Literal["kcore", "core", "qemu", "demo", "kpageflags"]
DebugInfo = Literal["vmcoreinfo", "btf", "dwarf"]
CompoundField = Literal["compound_head", "compound_info"]


@dataclass(frozen=True)
class Bits:
    """A bit field of a little-endian word: `(word >> shift) & mask`."""

    shift: int
    mask: int


@dataclass(frozen=True)
class PageField:
    """A value that a compound page keeps in the struct page `index` places after its head."""

    index: int
    offset: int
    size: int


@dataclass(frozen=True)
class HugetlbMark:
    """How this kernel marks a hugetlb head: `(value of where >> bits.shift) & bits.mask == value`.

    Up to 6.5 the destructor of the compound page, `page[1].compound_dtor == HUGETLB_PAGE_DTOR`;
    from 6.6 (9c5ccf2db04b) the flag PG_hugetlb of page[1]; from 6.9 (d99e3140a4d3) the head's
    `page_type`, whose highest byte is PGTY_hugetlb from 6.12 on. That holds other types too.
    """

    where: PageField
    bits: Bits
    value: int

    def among(self, values: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Tell which of `values`, uint64, read at `where`, are marked: bool, shaped as they are."""
        found = values >> np.uint64(self.bits.shift) & np.uint64(self.bits.mask)
        return np.asarray(found == np.uint64(self.value))


@dataclass(frozen=True)
class StructPage:
    """Where the words of `struct page` are, and which of their bits matter here."""

    size: int
    compound_field: CompoundField
    compound: int
    flags: int
    private: int
    head_bit: int
    order: PageField
    hugetlb: HugetlbMark | None
    hugetlb_free: int | None
    """Mask of HPG_freed in a hugetlb head's `private`; None where the kernel has none."""
    hugetlb_optimized: int | None
    """Mask of HPG_vmemmap_optimized in a hugetlb head's `private`; None without HVO."""
    node: Bits
    zone: Bits
    mapping: int | None = None
    """Where `page.mapping` is, poisoned in tails; None if not known."""
    mapcount: int | None = None
    """Where `page._mapcount` is, 4 bytes, -1 in tails; likewise."""
    refcount: int | None = None
    """Where `page._refcount` is, 0 while the page is in nobody's hands; None if not known."""
    buddy: HugetlbMark | None = None
    """How the first page of a free block is marked, whose order is in `private`; likewise."""


@dataclass(frozen=True)
class Paging:
    """The page tables the kernel runs on, x86-64's four or five levels."""

    root_physical: int
    levels: Literal[4, 5]
    encryption_mask: int = 0
    """AMD's memory encryption bit, set in every entry and no part of the address; 0 without."""


@dataclass(frozen=True)
class Sections:
    """The sections of physical memory that have struct pages (SPARSEMEM).

    `numbers` is uint64, ascending, one a present section; `online` is bool, as long.
    """

    pages: int
    numbers: NDArray[np.uint64]
    online: NDArray[np.bool_]

    @property
    def struct_pages(self) -> int:
        """How many struct pages the present sections have."""
        return self.pages * len(self.numbers)


@dataclass(frozen=True)
class Hstate:
    """One hugepage size and its pool's counters, a node each (`struct hstate`)."""

    order: int
    total: Mapping[int, int] | None = None
    """`nr_huge_pages_node`: node -> hugepages, those of none left out; None if not known."""
    free: Mapping[int, int] | None = None
    """`free_huge_pages_node`, as `total`."""


@dataclass(frozen=True)
class Counters:
    """What the kernel itself counts of hugetlb pages, at one moment."""

    hstates: tuple[Hstate, ...] = ()
    optimized_key: int | None = None
    """Of the static key that each optimized hugepage raises by one; None where there is none."""
    allocated: int | None = None
    """How many hugepages the page allocator ever gave (HTLB_BUDDY_PGALLOC); None if not known. It
    tells whether pools have moved that are as large as they were."""


TailFrames = Mapping[tuple[int, int, int], int]
"""(node, zone index, order) -> pfn of the frame that all optimized tails of it share (7.1+)."""


@dataclass(frozen=True)
class Descriptors:
    """What is told of memory beside what every scan looks at, for whoever asks about memdescs.

    `slab`, `table`: how the head of a slab, and a page table, is marked. `zones`: zone index -> its
    name as in /proc/zoneinfo. `block_sections`: sections of one memory block, the least that is
    plugged. None, or nothing, where it is not known.
    """

    slab: HugetlbMark | None = None
    table: HugetlbMark | None = None
    zones: Mapping[int, str] = field(default_factory=dict)
    block_sections: int | None = None


@dataclass(frozen=True)
class Hvo:
    """What the kernel says of HVO itself."""

    supported: bool
    enabled: bool | None
    """`vmemmap_optimize_enabled`; None where it cannot be read."""
    has_shared_tails: bool
    """struct zone has `vmemmap_tails` (622026e87c40, 7.1)."""
    fake_head_key: int | None = None
    """How often the static key is on that makes `compound_head()` look for fake heads.

    `hugetlb_optimize_vmemmap_key`, from 5.18 to 7.0. None where there is no such key, or where it
    cannot be read; 0 is off."""


@dataclass(frozen=True)
class Source:
    """Which memory is read, and what was known about it."""

    kind: SourceKind
    path: str | None
    debug_info: tuple[DebugInfo, ...]


@dataclass(frozen=True)
class Identity:
    """Which kernel it is."""

    release: str
    build_id: str | None
    arch: str
    page_size: int


@dataclass(frozen=True)
class Kernel:
    """One kernel, ready to be inspected: its memory and all that is known of how to read it."""

    source: Source
    identity: Identity
    memory: Memory
    live: bool
    """Memory moves while it is read, so what looks wrong is read again before it is reported."""
    vmemmap: int
    page: StructPage
    paging: Paging
    sections: Sections
    hstates: tuple[Hstate, ...]
    hvo: Hvo
    tail_frames: Callable[[], TailFrames]
    """Reads the zones' shared tail frames anew: a live kernel allocates them at first use."""
    origins: Mapping[str, str]
    """Fact -> where it came from, as "vmcoreinfo" or "btf"."""
    counters: Callable[[], Counters] = Counters
    """Reads the kernel's own counts anew."""
    sections_now: Callable[[], Sections] | None = None
    """Reads the present sections anew: memory is taken out of a live kernel. None if they stay."""
    hvo_now: Callable[[], Hvo] | None = None
    """Reads anew what a live kernel says of HVO, which root may switch. None if it stays."""
    descriptors: Callable[[], Descriptors] = Descriptors
    """Learns what only memdesc asks for."""
    node_name: Callable[[], str | None] = lambda: None
    """Reads the host's name, which no analysis needs, so that no capture has it."""
    direct_map: int | None = None
    """Where all physical memory is mapped one to one (`page_offset_base`); None if not known."""

    @property
    def vmemmap_end(self) -> int:
        """The address just after the struct page of the last present section's last page."""
        last = int(self.sections.numbers[-1]) + 1 if len(self.sections.numbers) else 0
        return self.vmemmap + last * self.sections.pages * self.page.size

    def page_address(self, pfn: int) -> int:
        """Return the address of the struct page of `pfn`, whether one is mapped there or not."""
        return self.vmemmap + pfn * self.page.size
