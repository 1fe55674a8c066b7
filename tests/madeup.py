"""A made-up machine: page tables and a vmemmap in memory, for the code that needs no kernel.

It is built the way a kernel builds the real thing (KERNEL sources are named in the package), can
be corrupted anywhere through `word_of` and `entry_of`, and costs memory only for the frames that
its vmemmap has. A frame is a row of `frames`; its physical address is `ARENA` plus 4096 times that.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hvoinspect.target.layout import (
    Bits,
    Counters,
    Descriptors,
    Hstate,
    HugetlbMark,
    Hvo,
    Identity,
    Kernel,
    PageField,
    Paging,
    Sections,
    Source,
    StructPage,
)
from hvoinspect.target.memory import ByRanges, UnreadableMemoryError

SECTION_PAGES = 1 << 15
ARENA = 1 << 30
DIRECT_MAP = 0xFFFF_8880_0000_0000
PRESENT, WRITABLE, LEAF = 1, 2, 1 << 7
PG_HEAD = 1 << 6
PG_SLAB = 1 << 9
PGTY_BUDDY, PGTY_TABLE, PGTY_HUGETLB = 0xF0, 0xF2, 0xF4
ZONE_DEVICE = 4
FREED, OPTIMIZED = 1 << 3, 1 << 4
ORDER_2M, ORDER_1G = 9, 18
COMPOUND, MAPPING, PRIVATE, PAGE_TYPE, REFCOUNT = 8, 24, 40, 48, 52
TAIL_MAPPING = 0xDEAD_0000_0000_0400
FLAGS_1 = PageField(1, 0, 1)

Tail = Literal["pointer", "mask"]
TAILS: tuple[Tail, Tail] = ("pointer", "mask")
MASK64 = (1 << 64) - 1


@dataclass
class Machine(ByRanges):
    """A machine with `sections` present (their numbers), whose memory can be read and corrupted."""

    sections: tuple[int, ...] = (0, 1)
    tail: Tail = "mask"
    page_size: int = 64
    levels: Literal[4, 5] = 4
    vmemmap: int = 0xFFFF_EA00_0000_0000
    encryption_mask: int = 0
    offline: frozenset[int] = frozenset()
    device: frozenset[int] = frozenset()
    """Sections that are ZONE_DEVICE, and so never online."""
    block_sections: int | None = 1
    base_pages: frozenset[int] = frozenset()
    """Sections whose vmemmap is mapped 4 KiB at a time from the start."""
    huge_leaves: bool = False
    """Map the vmemmap 1 GiB at a time where a whole one is in use."""
    live: bool = False
    key: int | None = 1
    """The count of the static key that kernels with fake heads have, as `compound_head()` asks."""
    optimized: int = 0
    """The same count, as each hugepage raises it."""
    total: dict[tuple[int, int], int] = field(default_factory=dict)
    """(order, node) -> the pool's counter; `free` likewise."""
    free: dict[tuple[int, int], int] = field(default_factory=dict)
    frames: NDArray[np.uint64] = field(default_factory=lambda: np.zeros((64, 512), np.uint64))
    used: int = 0
    unreadable: set[int] = field(default_factory=set)
    shared: dict[tuple[int, int, int], int] = field(default_factory=dict)
    freed: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.root = self.allocate()
        self._map_vmemmap()
        for section in self.sections:
            for node in [section % 2 if section >= 8 else 0]:
                self._initialise(section, node)

    # What the tools under test see.

    def read(self, address: int, size: int) -> bytes:
        first, last = (address - ARENA) >> 12, (address + size - 1 - ARENA) >> 12
        if first < 0 or last >= self.used or not self.unreadable.isdisjoint(range(first, last + 1)):
            raise UnreadableMemoryError(address, size)
        start = address - ARENA - (first << 12)
        return self.frames[first : last + 1].tobytes()[start : start + size]

    def present(self) -> Sections:
        """Its sections, as they are now."""
        numbers = np.array(sorted(self.sections), np.uint64)
        out = self.offline | self.device
        return Sections(SECTION_PAGES, numbers, np.array([int(n) not in out for n in numbers]))

    def kernel(self) -> Kernel:
        mark = HugetlbMark(PageField(0, PAGE_TYPE, 4), Bits(24, 0xFF), PGTY_HUGETLB)
        return Kernel(
            source=Source("core", "made-up", ("vmcoreinfo", "btf")),
            identity=Identity("7.1.0-made-up", None, "x86_64", 4096),
            memory=self,
            live=self.live,
            vmemmap=self.vmemmap,
            page=StructPage(
                size=self.page_size,
                compound_field="compound_info" if self.tail == "mask" else "compound_head",
                compound=COMPOUND,
                flags=0,
                private=PRIVATE,
                head_bit=PG_HEAD,
                order=FLAGS_1,
                hugetlb=mark,
                hugetlb_free=FREED,
                hugetlb_optimized=OPTIMIZED,
                node=Bits(54, 0x3FF),
                zone=Bits(51, 0x7),
                mapping=MAPPING,
                refcount=REFCOUNT,
                mapcount=PAGE_TYPE,
                buddy=HugetlbMark(PageField(0, PAGE_TYPE, 4), Bits(24, 0xFF), PGTY_BUDDY),
            ),
            paging=Paging(ARENA + (self.root << 12), self.levels, self.encryption_mask),
            sections=self.present(),
            sections_now=self.present,
            hstates=(Hstate(ORDER_2M), Hstate(ORDER_1G)),
            hvo=Hvo(
                supported=True,
                enabled=True,
                has_shared_tails=self.tail == "mask",
                fake_head_key=None if self.tail == "mask" else self.key,
            ),
            tail_frames=lambda: {key: (ARENA >> 12) + frame for key, frame in self.shared.items()},
            counters=self.counters,
            origins={},
            direct_map=DIRECT_MAP,
            descriptors=lambda: Descriptors(
                slab=HugetlbMark(PageField(0, 0, 8), Bits(PG_SLAB.bit_length() - 1, 1), 1),
                table=HugetlbMark(PageField(0, PAGE_TYPE, 4), Bits(24, 0xFF), PGTY_TABLE),
                zones={0: "DMA", 1: "Normal", ZONE_DEVICE: "Device"},
                block_sections=self.block_sections,
            ),
        )

    def counters(self) -> Counters:
        """What the kernel counts of hugetlb pages."""
        return Counters(
            tuple(
                Hstate(order, _of_order(self.total, order), _of_order(self.free, order))
                for order in (ORDER_2M, ORDER_1G)
            ),
            None if self.tail == "mask" or self.key is None else self.optimized,
        )

    # Where things are: for models that look, and for tests that corrupt.

    def address_of(self, pfn: int) -> int:
        """The virtual address of the struct page of `pfn`."""
        return self.vmemmap + pfn * self.page_size

    def walk(self, address: int) -> tuple[int, int, int] | None:
        """The table (its frame), entry index and level (0 is a PTE) of the leaf for `address`."""
        table = self.root
        for level in range(self.levels - 1, -1, -1):
            index = address >> (12 + 9 * level) & 511
            entry = int(self.frames[table, index])
            if not entry & PRESENT:
                return None
            if level == 0 or entry & LEAF:
                return table, index, level
            table = self._frame_in(entry)
        raise AssertionError("a walk ends at a leaf")

    def frame_of(self, address: int) -> int | None:
        """The frame behind a vmemmap address."""
        leaf = self.walk(address)
        if leaf is None:
            return None
        table, index, level = leaf
        within = (address >> 12) & ((1 << (9 * level)) - 1)
        return self._frame_in(int(self.frames[table, index])) + within

    def word(self, pfn: int, offset: int) -> int | None:
        """The 8-byte word at `offset` of a struct page, None where nothing is mapped."""
        address = self.address_of(pfn) + offset
        frame = self.frame_of(address)
        return None if frame is None else int(self.frames[frame, (address & 4095) // 8])

    def set_word(self, pfn: int, offset: int, value: int) -> None:
        """Write the word at `offset` of a struct page, and so of all that share its frame."""
        address = self.address_of(pfn) + offset
        frame = self.frame_of(address)
        assert frame is not None
        self.frames[frame, (address & 4095) // 8] = np.uint64(value & MASK64)

    def entry(self, pfn: int) -> tuple[int, int]:
        """The page table and index of the PTE behind a struct page, to corrupt in `frames`."""
        leaf = self.walk(self.address_of(pfn))
        assert leaf is not None
        assert leaf[2] == 0, "mapped by more than 4 KiB"
        return leaf[0], leaf[1]

    def allocate(self, count: int = 1, align: int = 1) -> int:
        """Take `count` zeroed frames; grows the arena."""
        first = -(-self.used // align) * align
        self.used = first + count
        if self.used > len(self.frames):
            grown = np.zeros((max(self.used, 2 * len(self.frames)), 512), np.uint64)
            grown[: len(self.frames)] = self.frames
            self.frames = grown
        return first

    # What a kernel does.

    def compound(self, pfn: int, order: int, *, flags: int = 0) -> None:
        """`prep_compound_page()`: a head, its tails, its order."""
        self._set_words(pfn, 1, 0, PG_HEAD | flags, keep=True)
        if self.tail == "mask" and self._masks:
            shift = order + self.page_size.bit_length() - 1
            word = (MASK64 << shift | 1) & MASK64
        else:
            word = self.address_of(pfn) | 1
        self._set_words(pfn + 1, (1 << order) - 1, COMPOUND, word)
        self._set_words(pfn + 1, (1 << order) - 1, MAPPING, TAIL_MAPPING)
        self._set_words(pfn + 1, 1, 0, order, keep=True)

    def slab(self, pfn: int, order: int) -> None:
        self.compound(pfn, order, flags=PG_SLAB)

    def hugetlb(
        self, pfn: int, order: int = ORDER_2M, *, hvo: bool = True, free: bool = False
    ) -> None:
        """A hugetlb page, optimized if `hvo`."""
        self.compound(pfn, order)
        references = 0 if free else 1  # those in the pool are frozen
        self.set_word(pfn, PAGE_TYPE, references << 32 | PGTY_HUGETLB << 24 | 0xFFFFFF)
        self.set_word(pfn, PRIVATE, FREED if free else 0)
        pool = (order, (self.word(pfn, 0) or 0) >> 54)
        self.total[pool] = self.total.get(pool, 0) + 1
        self.free[pool] = self.free.get(pool, 0) + free
        if hvo:
            self.optimize(pfn, order)

    def optimize(self, pfn: int, order: int) -> None:
        """`hugetlb_vmemmap_optimize_folio()`: remap the tails, set the flag."""
        address = self.address_of(pfn)
        pages = (self.page_size << order) >> 12
        self.optimized += 1
        self.set_word(pfn, PRIVATE, (self.word(pfn, PRIVATE) or 0) | OPTIMIZED)
        for at in range(address & -(1 << 21), address + (pages << 12), 1 << 21):
            self.split(at)
        head = self.frame_of(address)
        assert head is not None
        if self.tail == "mask":
            tail = self._shared_tail(pfn, order)
            copy = self.allocate()
            self.frames[copy] = self.frames[head]
            self.freed.append(head)
            self._remap(address, 1, copy, WRITABLE)
        else:
            tail = head
        for at in range(1, pages):
            frame = self.frame_of(address + (at << 12))
            assert frame is not None
            self.freed.append(frame)
        self._remap(address + 4096, pages - 1, tail, 0)

    def split(self, address: int) -> None:
        """Replace the 2 MiB mapping at `address` by a page table, as `vmemmap_split_pmd()` does."""
        leaf = self.walk(address)
        assert leaf is not None
        table, index, level = leaf
        if level == 0:
            return
        assert level == 1
        first = self._frame_in(int(self.frames[table, index]))
        ptes = self.allocate()
        self.frames[ptes] = [self._entry(first + i, WRITABLE) for i in range(512)]
        self.frames[table, index] = self._entry(ptes, WRITABLE)

    # Details.

    @property
    def _masks(self) -> bool:
        """`compound_info_has_mask()`: only a power-of-two struct page can be masked."""
        return self.page_size & (self.page_size - 1) == 0

    def _entry(self, frame: int, flags: int) -> int:
        return ARENA + (frame << 12) | PRESENT | flags | self.encryption_mask

    def _frame_in(self, entry: int) -> int:
        return ((entry & ~self.encryption_mask & 0xF_FFFF_FFFF_F000) - ARENA) >> 12

    def _table_for(self, address: int, level: int) -> tuple[int, int]:
        """The table of `level` for `address`, made where it is missing, and the index in it."""
        table = self.root
        for above in range(self.levels - 1, level, -1):
            index = address >> (12 + 9 * above) & 511
            if not int(self.frames[table, index]) & PRESENT:
                below = self.allocate()
                self.frames[table, index] = self._entry(below, WRITABLE)
            table = self._frame_in(int(self.frames[table, index]))
        return table, address >> (12 + 9 * level) & 511

    def _map_vmemmap(self) -> None:
        size = SECTION_PAGES * self.page_size
        blocks = sorted(
            {
                block
                for section in self.sections
                for block in range(
                    (self.vmemmap + section * size) >> 21,
                    (self.vmemmap + (section + 1) * size - 1 >> 21) + 1,
                )
            }
        )
        whole = {block >> 9 for block in blocks if self.huge_leaves}
        whole = {gib for gib in whole if all(gib << 9 | i in set(blocks) for i in range(512))}
        for gib in whole:
            # ARENA is aligned to 1 GiB, so an aligned frame has an aligned address.
            first = self.allocate(512 * 512, align=512 * 512)
            table, index = self._table_for(gib << 30, 2)
            self.frames[table, index] = self._entry(first, WRITABLE | LEAF)
        small = {self.vmemmap + section * size >> 21 for section in self.base_pages}
        for block in blocks:
            if block >> 9 in whole:
                continue
            table, index = self._table_for(block << 21, 1)
            first = self.allocate(512, align=512)
            self.frames[table, index] = self._entry(first, WRITABLE | LEAF)
            if block in small:
                self.split(block << 21)

    def _initialise(self, section: int, node: int) -> None:
        """`__init_single_page()`: node and zone in the flags."""
        zone = ZONE_DEVICE if section in self.device else 1
        self._set_words(section * SECTION_PAGES, SECTION_PAGES, 0, node << 54 | zone << 51)

    def _set_words(
        self, pfn: int, count: int, offset: int, value: int, *, keep: bool = False
    ) -> None:
        """Write one word of `count` struct pages; `keep` or's it to what is there."""
        pfns = np.arange(pfn, pfn + count, dtype=np.uint64)
        address = (
            np.uint64(self.address_of(0)) + pfns * np.uint64(self.page_size) + np.uint64(offset)
        )
        pages, where = np.unique(address >> np.uint64(12), return_inverse=True)
        frames = np.array([self.frame_of(int(page) << 12) for page in pages])[where]
        index = ((address & np.uint64(4095)) // np.uint64(8)).astype(np.intp)
        if keep:
            self.frames[frames, index] |= np.uint64(value)
        else:
            self.frames[frames, index] = np.uint64(value)

    def _shared_tail(self, pfn: int, order: int) -> int:
        """`vmemmap_get_tail()`: the zone's frame for tails of this order, made at first use."""
        flags = self.word(pfn, 0)
        word = self.word(pfn + 2, COMPOUND)
        assert flags is not None
        assert word is not None
        key = (flags >> 54, flags >> 51 & 7, order)
        if key not in self.shared:
            frame = self.shared[key] = self.allocate()
            each = self.page_size // 8
            self.frames[frame, 0::each] = flags >> 51 << 51
            self.frames[frame, COMPOUND // 8 :: each] = np.uint64(word)
            self.frames[frame, MAPPING // 8 :: each] = np.uint64(TAIL_MAPPING)
            self.frames[frame, PAGE_TYPE // 8 :: each] = np.uint64(0xFFFF_FFFF)
        return self.shared[key]

    def _remap(self, address: int, pages: int, frame: int, flags: int) -> None:
        for at in range(address, address + (pages << 12), 4096):
            leaf = self.walk(at)
            assert leaf is not None
            self.frames[leaf[0], leaf[1]] = self._entry(frame, flags)


def _of_order(counts: dict[tuple[int, int], int], order: int) -> dict[int, int]:
    return {node: count for (of, node), count in counts.items() if of == order and count}
