"""A kernel whose memory can be damaged, shipped or made-up, while its own stays as it is."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from hvoinspect.target.layout import Kernel
from hvoinspect.target.memory import ByRanges, Memory
from hvoinspect.vmemmap.explain import explain
from hvoinspect.vmemmap.pages import PageClass
from hvoinspect.vmemmap.scan import Scan
from hvoinspect.vmemmap.window import open_window

PRESENT, WRITABLE, LEAF = 1, 2, 1 << 7
FRAME_BITS = 0x000F_FFFF_FFFF_F000
SPARE = 1 << 44
"""Physical address from which on there are spare frames: no machine here has memory so high."""


@dataclass
class Damaged(ByRanges):
    """Memory in which some words are not what they were, and which has spare frames besides."""

    memory: Memory
    words: dict[int, int] = field(default_factory=dict)
    spare: bytearray = field(default_factory=bytearray)

    def read(self, address: int, size: int) -> bytes:
        if address >= SPARE and address + size <= SPARE + len(self.spare):
            data = self.spare[address - SPARE : address - SPARE + size]
        else:
            data = bytearray(self.memory.read(address, size))
        for at, word in self.words.items():
            if address <= at < address + size:
                struct.pack_into("<Q", data, at - address, word)
        return bytes(data)


@dataclass
class Victim:
    """A kernel that can be damaged, and struct pages of it that may be hit.

    `head`, `other`: of optimized 2 MiB pages. `slab`: of a compound page of order 2 or more that is
    no hugetlb page. `single`: of none.
    """

    kernel: Kernel
    memory: Damaged
    head: int
    other: int
    slab: int
    single: int
    random: random.Random

    @property
    def masks(self) -> bool:
        """Whether tails hold masks, and share their zone's frame."""
        return self.kernel.hvo.has_shared_tails

    # Where things are.

    @property
    def each(self) -> int:
        """Struct pages of a vmemmap page."""
        return 4096 // self.kernel.page.size

    @property
    def vmemmap_pages(self) -> int:
        """Vmemmap pages of a 2 MiB page."""
        return 512 // self.each

    def early_tail(self) -> int:
        """A tail on the head's own vmemmap page, but not the first two, which hold more."""
        return self.head + self.random.randrange(3, self.each)

    def late_tail(self) -> int:
        """A tail on another vmemmap page, but no fake head."""
        return self.late_page() + self.random.randrange(1, self.each)

    def late_page(self) -> int:
        """The struct page that begins one of the other vmemmap pages of `head`."""
        return self.head + self.each * self.random.randrange(1, self.vmemmap_pages)

    def late_pages(self) -> list[int]:
        """The struct pages that begin the other vmemmap pages of `head`."""
        return [self.head + self.each * at for at in range(1, self.vmemmap_pages)]

    def entries(self, pfn: int) -> list[int]:
        """The physical addresses of the page-table entries behind a struct page, the last first."""
        paging, address = self.kernel.paging, self.kernel.page_address(pfn)
        table, found = paging.root_physical, []
        for level in range(paging.levels - 1, -1, -1):
            found.append(table + (address >> 12 + 9 * level & 511) * 8)
            entry = self.read(found[-1])
            if entry & LEAF and level in (1, 2):
                break
            table = entry & FRAME_BITS & ~paging.encryption_mask
        return found[::-1]

    def word(self, pfn: int, offset: int) -> int:
        """The physical address of a word of a struct page."""
        address = self.kernel.page_address(pfn) + offset
        return open_window(self.kernel, address, 8).frame(address) * 4096 + (address & 4095)

    def frame(self, pfn: int) -> int:
        """The frame behind a struct page."""
        return self.word(pfn, 0) // 4096

    def word_of(self, pfn: int, offset: int) -> int:
        """What a word of a struct page holds."""
        return self.read(self.word(pfn, offset))

    def read(self, at: int) -> int:
        """The word at a physical address."""
        return int(struct.unpack("<Q", self.memory.read(at, 8))[0])

    # Damage.

    def change(self, at: int, change: Callable[[int], int]) -> None:
        """Change the word at a physical address."""
        self.memory.words[at] = change(self.read(at)) & (1 << 64) - 1

    def change_entry(self, pfn: int, change: Callable[[int], int], level: int = 0) -> None:
        """Change the page-table entry behind a struct page: the last, or one of a level above."""
        self.change(self.entries(pfn)[level], change)

    def change_word(self, pfn: int, offset: int, change: Callable[[int], int]) -> None:
        """Change a word of a struct page, and so of all that share its frame."""
        self.change(self.word(pfn, offset), change)

    def map(self, pfn: int, frame: int) -> None:
        """Map the vmemmap page of a struct page to another frame, writable or not as it was."""
        encryption = self.kernel.paging.encryption_mask
        keep = ~FRAME_BITS | encryption
        self.change_entry(pfn, lambda entry: entry & keep | frame << 12)

    def new_frame(self, content: bytes, align: int = 1) -> int:
        """Put `content`, one frame or more, into spare frames and return the first."""
        spare = self.memory.spare
        spare.extend(bytes(-len(spare) % (4096 * align)))
        frame = (SPARE + len(spare)) // 4096
        spare.extend(content)
        spare.extend(bytes(4096))  # so that no two are one run
        return frame

    def content(self, pfn: int) -> bytes:
        """What the frame behind a struct page holds."""
        return self.memory.read(self.frame(pfn) * 4096, 4096)


@dataclass(frozen=True)
class Places:
    """Struct pages of a kernel that may be hit, as in Victim: `heads` are of 2 MiB pages."""

    heads: tuple[int, ...]
    slab: int
    single: int


def victim_of(kernel: Kernel, places: Places, seed: str) -> Victim:
    """Choose two of the heads as victims, and make the kernel's memory one that can be damaged."""
    chosen, memory = random.Random(seed), Damaged(kernel.memory)
    # None that is aligned to 1 GiB: a mask of that order would lead to itself.
    head, other = chosen.sample([head for head in places.heads if head % (1 << 18)], 2)
    return Victim(
        replace(kernel, memory=memory), memory, head, other, places.slab, places.single, chosen
    )


def places_in(kernel: Kernel, intact: Scan) -> Places:
    """Find places in a real kernel, of which `intact` is a scan."""
    pages, chosen = intact.hugepages, random.Random(0)
    heads = pages.pfn[(pages.order == 9) & pages.remapped].tolist()
    slab = single = None
    while slab is None or single is None:
        pfn = chosen.choice(kernel.sections.numbers.tolist()) * kernel.sections.pages
        pfn += chosen.randrange(8, kernel.sections.pages - 8)
        near = [explain(kernel, pfn + at) for at in range(-1, 3)]
        if {found.resolved.kind for found in near} == {PageClass.SINGLE}:
            single = pfn
        if near[0].hugepage is None and 2 <= (near[0].order or 0) <= 5:
            slab = near[0].resolved.head
    return Places(tuple(heads), slab, single)
