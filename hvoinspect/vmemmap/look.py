"""A look at one chunk: quick where that will do, in detail where not, again where it moved."""

from __future__ import annotations

import numpy as np

from hvoinspect.target.layout import Kernel
from hvoinspect.vmemmap.chunks import CHUNK_PAGES, MappedPages, map_chunk
from hvoinspect.vmemmap.detail import detailed_look
from hvoinspect.vmemmap.pagetable import Directory, walk_directory
from hvoinspect.vmemmap.part import Part
from hvoinspect.vmemmap.quick import can_be_quick, quick_look

ATTEMPTS = 4
"""How often a chunk is looked at whose mapping changes meanwhile."""


def look_at(kernel: Kernel, directory: Directory, first_pfn: int, *, exhaustive: bool) -> Part:
    """Look at the chunk from `first_pfn` on.

    On a live kernel its page tables are walked before and after the frames behind them are read,
    and what changed in between is read again: a frame that is not behind the vmemmap any more holds
    somebody else's data. `directory` is for memory that does not move. Raises nothing for memory
    that cannot be read.
    """
    if not kernel.live:
        return _look(kernel, map_chunk(kernel, directory, first_pfn), first_pfn, exhaustive)
    mapped = _map_now(kernel, first_pfn)
    for _ in range(ATTEMPTS):
        part = _look(kernel, mapped, first_pfn, exhaustive)
        before, mapped = mapped, _map_now(kernel, first_pfn)
        if all(np.array_equal(*pair) for pair in zip(before, mapped, strict=True)):
            break
    return part


def _look(kernel: Kernel, mapped: MappedPages, first_pfn: int, exhaustive: bool) -> Part:
    part = None
    if can_be_quick(kernel):
        part = quick_look(kernel, mapped, first_pfn, exhaustive=exhaustive)
    return part or detailed_look(kernel, mapped, first_pfn)


def _map_now(kernel: Kernel, first_pfn: int) -> MappedPages:
    start = kernel.page_address(first_pfn)
    end = min(kernel.page_address(first_pfn + CHUNK_PAGES), kernel.vmemmap_end)
    directory = walk_directory(kernel.memory, kernel.paging, start, end)
    return map_chunk(kernel, directory, first_pfn)
