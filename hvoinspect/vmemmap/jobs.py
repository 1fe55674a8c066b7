"""Looks at many chunks in several processes at once."""

from __future__ import annotations

import ctypes
import functools
import multiprocessing
import os
import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from hvoinspect.target.layout import Kernel
from hvoinspect.vmemmap.part import Part

MANY_PAGES = 1 << 24
"""Struct pages, 64 GiB of memory, from which on it pays to start more than one process."""
MOST_JOBS = 8
"""Processes that are started unasked: beyond these the host's own work matters more."""
_PR_SET_PDEATHSIG = 1
"""include/uapi/linux/prctl.h."""

Look = Callable[[int], Part]
"""Looks at the chunk that begins at a pfn."""

_look: Look | None = None
"""In a child: what it looks with."""


def jobs_for(kernel: Kernel) -> int:
    """Return how many processes a scan of `kernel` takes by itself."""
    if kernel.sections.struct_pages < MANY_PAGES or not kernel.memory.forkable:
        return 1
    return min(len(os.sched_getaffinity(0)), MOST_JOBS)


def looks(look: Look, starts: Sequence[int], jobs: int) -> Iterator[tuple[int, Part]]:
    """Look at the chunks at `starts`, in their order, in `jobs` processes.

    The processes are forked, and so share what is open and known. One that dies (the kernel may
    kill it for its memory) loses nothing: what is left is looked at here.
    """
    done = 0
    if jobs > 1 and len(starts) > 1:
        try:
            for part in _forked(look, starts, min(jobs, len(starts))):
                yield starts[done], part
                done += 1
        except BrokenProcessPool:
            pass
    for start in starts[done:]:
        yield start, look(start)


def _forked(look: Look, starts: Sequence[int], jobs: int) -> Iterator[Part]:
    context = multiprocessing.get_context("fork")
    pool = ProcessPoolExecutor(jobs, context, _begin, (look, os.getpid()))
    try:
        with warnings.catch_warnings():
            # The other threads are NumPy's, which takes care of forks itself, or draw a progress
            # bar; a child calls neither.
            warnings.filterwarnings("ignore", "This process .* is multi-threaded")
            parts = pool.map(_do, starts, chunksize=max(1, len(starts) // (16 * jobs)))
        yield from parts
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _begin(look: Look, parent: int) -> None:
    """Begin a child: it ends with its parent, which alone hears of Ctrl-C."""
    global _look  # noqa: PLW0603 - what a child has from its parent, once
    _look = look
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _libc().prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _do(start: int) -> Part:
    if _look is None:
        raise AssertionError("a child begins with _begin()")
    return _look(start)


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)
