"""A look at a part of the vmemmap: quick where that will do, in detail where not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeVar

import numpy as np

from hvoinspect.target.layout import VMEMMAP_PAGE, Kernel
from hvoinspect.vmemmap.chunks import CHUNK_PAGES, MappedPages, Window, map_chunk
from hvoinspect.vmemmap.detail import detailed_look
from hvoinspect.vmemmap.hugepages import orders
from hvoinspect.vmemmap.pagetable import Directory, walk_directory
from hvoinspect.vmemmap.part import Part
from hvoinspect.vmemmap.quick import can_be_quick, quick_look

Found = TypeVar("Found")

ATTEMPTS = 4
"""How often something is looked at whose mapping changes meanwhile."""


def look_at(kernel: Kernel, directory: Directory, first_pfn: int, *, exhaustive: bool) -> Part:
    """Look at the chunk from `first_pfn` on.

    On a live kernel its page tables are walked before and after the frames behind them are read,
    and what changed in between is read again: a frame that is not behind the vmemmap any more holds
    somebody else's data. `directory` is for memory that does not move. Raises nothing for memory
    that cannot be read.
    """
    if not kernel.live:
        mapped = map_chunk(kernel, directory, first_pfn)
        return _look(kernel, mapped, first_pfn, exhaustive=exhaustive)
    whole = (first_pfn, first_pfn + CHUNK_PAGES)
    look = partial(_look, kernel, first_pfn=first_pfn, exhaustive=exhaustive)
    return look_until_still(partial(map_now, kernel, whole, whole), look)


def look_closely(kernel: Kernel, windows: Sequence[Window]) -> Iterator[Part]:
    """Look at `windows` alone, and read all of them: of what is around them nothing is known.

    So what is read was read within the shortest time, one moment of a machine that moves.
    """
    span = close_span(kernel)
    for first in sorted({start // span * span for start, _ in windows}):
        inside = [
            (max(start, first), min(end, first + span))
            for start, end in windows
            if start < first + span and end > first
        ]
        look = partial(_look, kernel, first_pfn=first, exhaustive=True)
        yield look_until_still(partial(map_windows, kernel, (first, first + span), inside), look)


def close_span(kernel: Kernel) -> int:
    """Return how many struct pages a close look has around it: whole sections and hugepages."""
    return max(kernel.sections.pages, 1 << max(orders(kernel)))


def look_until_still(
    read_maps: Callable[[], MappedPages], look: Callable[[MappedPages], Found]
) -> Found:
    """Look at what page tables map until that is the same before and after, ATTEMPTS times at most.

    So what was read is what was there: a frame that is not behind the vmemmap any more holds
    somebody else's data.
    """
    mapped = read_maps()
    for _ in range(ATTEMPTS):
        found = look(mapped)
        before, mapped = mapped, read_maps()
        if all(np.array_equal(*pair) for pair in zip(before, mapped, strict=True)):
            break
    return found


def _look(kernel: Kernel, mapped: MappedPages, first_pfn: int, *, exhaustive: bool) -> Part:
    part = None
    if can_be_quick(kernel):
        part = quick_look(kernel, mapped, first_pfn, exhaustive=exhaustive)
    return part or detailed_look(kernel, mapped, first_pfn)


def map_windows(kernel: Kernel, whole: Window, windows: Sequence[Window]) -> MappedPages:
    """Walk the page tables of `windows`; all that is around them is `unknown`."""
    size, first = kernel.page.size, whole[0]
    chosen = np.zeros((whole[1] - first) * size // VMEMMAP_PAGE, np.bool_)
    for start, end in windows:
        low, high = (start - first) * size, (end - first) * size
        chosen[low // VMEMMAP_PAGE : -(-high // VMEMMAP_PAGE)] = True
    around = min(start for start, _ in windows), max(end for _, end in windows)
    mapped = map_now(kernel, whole, around)
    return MappedPages(
        frame=np.where(chosen, mapped.frame, np.uint64(0)),
        present=mapped.present & chosen,
        writable=mapped.writable & chosen,
        split=mapped.split & chosen,
        unknown=mapped.unknown | ~chosen,
    )


def map_now(kernel: Kernel, whole: Window, part: Window) -> MappedPages:
    """Return the mappings of the pfns `whole`: those of `part` as of now, the others as holes."""
    start = kernel.page_address(part[0])
    end = min(kernel.page_address(part[1]), kernel.vmemmap_end)
    directory = walk_directory(kernel.memory, kernel.paging, start, end)
    return map_chunk(kernel, directory, whole[0], whole[1] - whole[0])
