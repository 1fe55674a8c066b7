"""Looks at many chunks in several processes at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from hvoinspect.target.layout import Kernel

MANY_PAGES = 1 << 24
"""Struct pages, 64 GiB of memory, from which on it pays to start more than one process."""
MOST_JOBS = 8
"""Processes that are started unasked: beyond these the host's own work matters more."""

Found = TypeVar("Found")
"""What looking at a chunk, given by its first pfn, comes to; it goes from process to process."""


def jobs_for(kernel: Kernel) -> int:
    """Return how many processes a scan of `kernel` takes by itself."""
    if kernel.sections.struct_pages < MANY_PAGES or not kernel.memory.forkable:
        return 1
    return min(len(os.sched_getaffinity(0)), MOST_JOBS)


def looks(
    look: Callable[[int], Found], starts: Sequence[int], jobs: int
) -> Iterator[tuple[int, Found]]:
    """Look at the chunks at `starts`, in their order, in `jobs` processes.

    The processes are forked, and so share what is open and known. One that dies (the kernel may
    kill it for its memory) loses nothing: what is left is looked at here.
    """
    done = 0
    if jobs > 1 and len(starts) > 1:
        # What it takes to have children costs a scan that has none 20 ms.
        from hvoinspect.vmemmap.children import BrokenProcessPool, forked  # noqa: PLC0415

        try:
            for part in forked(look, starts, min(jobs, len(starts))):
                yield starts[done], part
                done += 1
        except BrokenProcessPool:
            pass
    for start in starts[done:]:
        yield start, look(start)
