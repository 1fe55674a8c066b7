"""What the vmemmap costs and what HVO saves of it, read off the page tables.

Growing or freeing a pool takes longer with HVO, and a vmemmap that was mapped 2 MiB at a time is
split: each split costs one page-table page, which is never given back. So savings are told gross
and net of the splits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hvoinspect.target.layout import VMEMMAP_PAGE, Hvo
from hvoinspect.vmemmap.chunks import MappedPages
from hvoinspect.vmemmap.distinct import Distinct
from hvoinspect.vmemmap.hugepages import Hugepages
from hvoinspect.vmemmap.pagetable import ENTRIES


@dataclass(frozen=True)
class Mappings:
    """What maps a chunk's vmemmap pages, or that of many chunks.

    `frame` uint64[f], ascending: the distinct frames mapped by 4 KiB entries, and `times` int64[f],
    how often. `block` uint64[b]: the number of each 2 MiB block of vmemmap in use, counted from the
    start of the vmemmap; `block_mapped`, `block_shared`, `block_large`, int64[b]: how many of its
    vmemmap pages are mapped; to a frame that is mapped again in the same chunk; 2 MiB at a time.
    """

    virtual_pages: int
    read_only_pages: int
    large_pages: int
    """Vmemmap pages mapped 2 MiB or more at a time."""
    full_tables: int
    """Page tables with all 512 entries in use: what the split of a 2 MiB mapping leaves."""
    frame: NDArray[np.uint64]
    times: NDArray[np.int64]
    block: NDArray[np.uint64]
    block_mapped: NDArray[np.int64]
    block_shared: NDArray[np.int64]
    block_large: NDArray[np.int64]


def map_of(mapped: MappedPages, frames: Distinct, first_pfn: int, page_size: int) -> Mappings:
    """Count the mappings of the chunk at `first_pfn`; `frames`: the distinct ones of all."""
    present, split = mapped.present, mapped.split
    times = np.bincount(frames.row[split], minlength=len(frames.values))
    shared = np.zeros(len(present), np.bool_)
    shared[split] = times[frames.row[split]] > 1
    count = present.reshape(-1, ENTRIES).sum(axis=1)
    used = np.flatnonzero(count)
    large = present & ~split
    first_block = first_pfn * page_size // (VMEMMAP_PAGE * ENTRIES)
    return Mappings(
        virtual_pages=int(present.sum()),
        read_only_pages=int((present & ~mapped.writable).sum()),
        large_pages=int(large.sum()),
        full_tables=int(split.reshape(-1, ENTRIES).all(axis=1).sum()),
        frame=frames.values[times > 0],
        times=times[times > 0],
        block=used.astype(np.uint64) + np.uint64(first_block),
        block_mapped=count[used],
        block_shared=shared.reshape(-1, ENTRIES).sum(axis=1)[used],
        block_large=large.reshape(-1, ENTRIES).sum(axis=1)[used],
    )


def sum_of(parts: list[Mappings]) -> Mappings:
    """Put the mappings of many chunks together; a frame mapped in several counts once."""
    frames = np.concatenate([part.frame for part in parts])
    counts = np.concatenate([part.times for part in parts])
    frame, where = np.unique(frames, return_inverse=True)
    times = np.zeros(len(frame), np.int64)
    np.add.at(times, where, counts)
    return Mappings(
        virtual_pages=sum(part.virtual_pages for part in parts),
        read_only_pages=sum(part.read_only_pages for part in parts),
        large_pages=sum(part.large_pages for part in parts),
        full_tables=sum(part.full_tables for part in parts),
        frame=frame,
        times=times,
        block=np.concatenate([part.block for part in parts]),
        block_mapped=np.concatenate([part.block_mapped for part in parts]),
        block_shared=np.concatenate([part.block_shared for part in parts]),
        block_large=np.concatenate([part.block_large for part in parts]),
    )


@dataclass(frozen=True)
class Savings:
    """What HVO saves, in 4 KiB pages.

    `kept` and `freed`, int64[h], a hugepage each: the frames of its vmemmap that are its own, and
    those it would have without HVO but has not. A shared tail frame (7.1+) is nobody's own.
    """

    kept: NDArray[np.int64]
    freed: NDArray[np.int64]
    potential: int
    split_tables: int

    @property
    def saved(self) -> int:
        """Frames that all hugetlb pages together do without."""
        return int(self.freed.sum())


def account(
    hugepages: Hugepages, mappings: Mappings, shared_tails: NDArray[np.uint64], hvo: Hvo
) -> Savings:
    """Account for what HVO saves; `shared_tails` uint64: the zones' shared tail frames (7.1+).

    A tail frame also counts as shared if the tails of several hugepages are mapped to it, for
    kernels that keep their shared frames where this project does not look.
    """
    frame, where, users = np.unique(hugepages.tail_frame, return_inverse=True, return_counts=True)
    nobodys = np.isin(frame, shared_tails) | (users > 1)
    foreign = nobodys[where] & (hugepages.tail_frame != hugepages.head_frame)
    foreign &= hugepages.vmemmap_pages > 1
    kept = hugepages.distinct - foreign
    freed = hugepages.vmemmap_pages - hugepages.unknown - kept
    possible = hugepages.vmemmap_pages - 1 - freed - hugepages.unknown
    return Savings(
        kept=kept,
        freed=freed,
        potential=int(np.maximum(possible, 0).sum()) if hvo.supported else 0,
        split_tables=mappings.full_tables if hvo.supported else 0,
    )
