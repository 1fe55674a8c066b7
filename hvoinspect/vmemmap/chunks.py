"""A piece of the vmemmap, read: its mappings, the frames behind them, and its struct pages.

The machine is looked at a chunk at a time, so that memory stays bounded however big it is. A chunk
is a run of pfns aligned to more than any hugepage, so no hugepage crosses from one to the next.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hvoinspect.target.layout import VMEMMAP_PAGE, Kernel, PageField
from hvoinspect.target.memory import WORDS
from hvoinspect.target.ranges import each_once
from hvoinspect.vmemmap.distinct import distinct
from hvoinspect.vmemmap.pages import Pages, Words, classify
from hvoinspect.vmemmap.pagetable import BLOCK, ENTRIES, Directory, Maps, map_pages

CHUNK_PAGES = 1 << 20
"""Struct pages of one chunk: 4 GiB of memory, 64 MiB of vmemmap."""


Window = tuple[int, int]
"""A range of pfns: the first, and the one after the last."""


@dataclass(frozen=True)
class Chunk:
    """One chunk: n struct pages in p vmemmap pages.

    `read` bool[p]: the content of a vmemmap page is there; `online` bool[n].
    """

    first_pfn: int
    mapped: MappedPages
    read: NDArray[np.bool_]
    pages: Pages
    online: NDArray[np.bool_]
    content: Content

    def values(self, pfns: NDArray[np.uint64], where: PageField) -> NDArray[np.uint64]:
        """Read `where` of the compound pages with heads `pfns` in this chunk: uint64, as long.

        Zero where the vmemmap page that holds it could not be read.
        """
        indices = (pfns - np.uint64(self.first_pfn)).astype(np.intp) + where.index
        word = self.content.words_of(indices, where.offset & ~7)
        value = word >> np.uint64(8 * (where.offset & 7))
        return value & np.uint64((1 << (8 * where.size)) - 1) if where.size < 8 else value


@dataclass(frozen=True)
class Content:
    """The frames of a chunk, each distinct one once.

    `words` uint64[f, 512]; `row` intp[p]: which of them stands behind a vmemmap page, the last
    row, all zeros, where none was read.
    """

    words: NDArray[np.uint64]
    row: NDArray[np.intp]
    page_size: int

    def all_words(self, count: int, offset: int) -> NDArray[np.uint64]:
        """Return the word at `offset` of each of the first `count` struct pages, uint64[count]."""
        if VMEMMAP_PAGE % self.page_size == 0:
            each = np.ascontiguousarray(self.words[:, offset // 8 :: self.page_size // 8])
            return each[self.row].reshape(-1)[:count]
        return self.words_of(np.arange(count, dtype=np.intp), offset)

    def matches(
        self, count: int, offset: int, mask: np.uint64, value: np.uint64
    ) -> NDArray[np.bool_]:
        """Tell of each of the first `count` struct pages whether `word & mask == value`."""
        if VMEMMAP_PAGE % self.page_size == 0:
            # Each frame once, and no copy of the words but of what comes out.
            each = (self.words[:, offset // 8 :: self.page_size // 8] & mask) == value
            return np.asarray(each[self.row].reshape(-1)[:count])
        return np.asarray((self.all_words(count, offset) & mask) == value)

    def words_of(self, indices: NDArray[np.intp], offset: int) -> NDArray[np.uint64]:
        """Return the word at `offset` of the struct pages at `indices` of the chunk."""
        position = indices * self.page_size + offset
        row = self.row[np.minimum(position // VMEMMAP_PAGE, len(self.row) - 1)]
        return self.words[row, position % VMEMMAP_PAGE // 8]


def chunk_starts(kernel: Kernel) -> list[int]:
    """Return the first pfn of each chunk that has a present section, ascending."""
    first = kernel.sections.numbers * np.uint64(kernel.sections.pages)
    chunks = each_once(first // np.uint64(CHUNK_PAGES))
    return [int(chunk) * CHUNK_PAGES for chunk in chunks]


def map_chunk(
    kernel: Kernel, directory: Directory, first_pfn: int, count: int = CHUNK_PAGES
) -> MappedPages:
    """Return what the vmemmap pages of the chunk at `first_pfn` are mapped to.

    `count`: struct pages of the chunk, a number of whole sections.
    """
    size = kernel.page.size
    start = kernel.vmemmap + first_pfn * size
    return map_range(kernel, directory, start, count * size // VMEMMAP_PAGE)


def read_chunk(kernel: Kernel, mapped: MappedPages, first_pfn: int) -> Chunk:
    """Read each distinct frame behind the chunk at `first_pfn` once, and classify what it holds."""
    size = kernel.page.size
    count = len(mapped.frame) * VMEMMAP_PAGE // size
    in_section, online = in_sections(kernel, first_pfn, count)
    frame, present, unknown = mapped.frame, mapped.present, mapped.unknown

    wanted = present & _touched(online, size, len(frame))
    frames = distinct(frame, wanted)
    last = len(frames.values)
    words = np.zeros((last + 1, WORDS), np.uint64)
    readable = kernel.memory.read_frames(frames.values, words[:last])
    row = np.where(np.append(readable, False)[frames.row], frames.row, last)
    content = Content(words, row, size)
    read = row < last

    there = in_section & _covered(present | unknown, size, count)
    was_read = _covered(read, size, count)
    seen = there & was_read & online
    compound = content.all_words(count, kernel.page.compound)
    flags = content.all_words(count, kernel.page.flags)
    struct_pages = Words(
        first_pfn,
        mapped=there,
        readable=was_read | ~online,
        online=online,
        compound=np.where(seen, compound, np.uint64(0)),
        flags=np.where(seen, flags, np.uint64(0)),
    )
    pages = classify(struct_pages, kernel.page, (kernel.vmemmap, kernel.vmemmap_end))
    return Chunk(first_pfn, mapped, read, pages, online, content)


class MappedPages(NamedTuple):
    """What consecutive vmemmap pages are mapped to, p of them.

    `frame` uint64[p]: the pfn behind it. `present`, `writable`, bool[p]; `split` bool[p]: mapped by
    a page table of its own 4 KiB entries; `unknown` bool[p]: its page table could not be read.
    """

    frame: NDArray[np.uint64]
    present: NDArray[np.bool_]
    writable: NDArray[np.bool_]
    split: NDArray[np.bool_]
    unknown: NDArray[np.bool_]


def map_range(kernel: Kernel, directory: Directory, start: int, count: int) -> MappedPages:
    """Return what the `count` vmemmap pages from the address `start` on are mapped to."""
    blocks = directory.between(start, start + count * VMEMMAP_PAGE)
    page_map = map_pages(kernel.memory, kernel.paging, blocks)
    frame = np.zeros(count, np.uint64)
    present, writable, split, unknown = (np.zeros(count, np.bool_) for _ in range(4))
    is_split = page_map.present & (page_map.maps == Maps.PTE_TABLE)[:, None]
    found = (page_map.frame, page_map.present, page_map.writable, is_split, page_map.unreadable)
    # Signed, because a chunk of struct pages of an odd size can begin inside a block.
    first = (page_map.address.astype(np.int64) - np.int64(start - (1 << 64))) // VMEMMAP_PAGE
    if start % BLOCK == 0 and count % ENTRIES == 0:
        for whole, part in zip((frame, present, writable, split, unknown), found, strict=True):
            whole.reshape(-1, ENTRIES)[first // ENTRIES] = part
    else:
        place = first[:, None] + np.arange(ENTRIES)
        inside = (place >= 0) & (place < count)
        for whole, part in zip((frame, present, writable, split, unknown), found, strict=True):
            whole[place[inside]] = part[inside]
    return MappedPages(frame, present, writable, split, unknown)


def in_sections(
    kernel: Kernel, first_pfn: int, pages: int, each: int = 1
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return, for each `each` of `pages` pfns, whether their section is present, and online."""
    sections = kernel.sections
    count = pages // sections.pages
    number = sections.numbers - np.uint64(first_pfn // sections.pages)
    here = number < np.uint64(count)  # smaller numbers have wrapped around to huge ones
    present, online = np.zeros(count, np.bool_), np.zeros(count, np.bool_)
    present[number[here].astype(np.intp)] = True
    online[number[here].astype(np.intp)] = sections.online[here]
    return present.repeat(sections.pages // each), online.repeat(sections.pages // each)


def _ends(size: int, count: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the vmemmap page of the first and of the last byte of each of `count` struct pages."""
    first = np.arange(count, dtype=np.intp) * size
    return first // VMEMMAP_PAGE, (first + size - 1) // VMEMMAP_PAGE


def _covered(vmemmap_pages: NDArray[np.bool_], size: int, count: int) -> NDArray[np.bool_]:
    """Spread a property of vmemmap pages over the struct pages that lie wholly in such pages."""
    if VMEMMAP_PAGE % size == 0:
        return vmemmap_pages.repeat(VMEMMAP_PAGE // size)
    first, last = _ends(size, count)
    covered: NDArray[np.bool_] = vmemmap_pages[first] & vmemmap_pages[last]
    return covered


def _touched(struct_pages: NDArray[np.bool_], size: int, count: int) -> NDArray[np.bool_]:
    """Gather a property of struct pages to the vmemmap pages that any such page touches."""
    if VMEMMAP_PAGE % size == 0:
        return np.asarray(struct_pages.reshape(count, -1).any(axis=1))
    touched = np.zeros(count, np.bool_)
    first, last = _ends(size, len(struct_pages))
    touched[first[struct_pages]] = True
    touched[last[struct_pages]] = True
    return touched
