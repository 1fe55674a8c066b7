"""The detailed look at a chunk, struct page by struct page, whatever they hold."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hvoinspect.target.layout import VMEMMAP_PAGE, Kernel, PageField
from hvoinspect.vmemmap.backing import backing_of
from hvoinspect.vmemmap.chunks import Chunk, MappedPages, read_chunk
from hvoinspect.vmemmap.distinct import distinct
from hvoinspect.vmemmap.hugepages import find_hugepages
from hvoinspect.vmemmap.oddities import oddities
from hvoinspect.vmemmap.pages import Encoding, PageClass
from hvoinspect.vmemmap.part import Part
from hvoinspect.vmemmap.savings import map_of


def detailed_look(kernel: Kernel, mapped: MappedPages, first_pfn: int) -> Part:
    """Look at the chunk from `first_pfn` on, whose p vmemmap pages are `mapped`; read all of it."""
    chunk = read_chunk(kernel, mapped, first_pfn)
    hugepages = find_hugepages(kernel, chunk)
    kind, size = chunk.pages.kind, kernel.page.size
    is_tail = kind == PageClass.TAIL
    frames = distinct(mapped.frame, mapped.present)
    begins = -(-np.arange(len(mapped.frame), dtype=np.int64) * VMEMMAP_PAGE // size)
    free = free_blocks(kernel, chunk)
    return Part(
        classes=np.bincount(kind, minlength=len(PageClass)),
        encodings=np.bincount(chunk.pages.encoding[is_tail], minlength=len(Encoding)),
        offline=int((~chunk.online & (kind != PageClass.HOLE)).sum()),
        inferred=0,
        hugepages=hugepages,
        mappings=map_of(mapped, frames, first_pfn, size),
        oddities=oddities(kernel, chunk, hugepages),
        backing=backing_of(
            frames,
            begins.astype(np.uint64) + np.uint64(first_pfn),
            free,
            chunk.values(free, PageField(0, kernel.page.private, 8)),
        ),
    )


def free_blocks(kernel: Kernel, chunk: Chunk) -> NDArray[np.uint64]:
    """Return the pfns of the struct pages marked as the first of a free block."""
    mark = kernel.page.buddy
    if mark is None:
        return np.zeros(0, np.uint64)
    shift = np.uint64(8 * (mark.where.offset & 7) + mark.bits.shift)
    mask, value = np.uint64(mark.bits.mask) << shift, np.uint64(mark.value) << shift
    marked = chunk.content.matches(len(chunk.online), mark.where.offset & ~7, mask, value)
    free = np.flatnonzero(marked & (chunk.pages.kind == PageClass.SINGLE) & chunk.online)
    return free.astype(np.uint64) + np.uint64(chunk.first_pfn)
