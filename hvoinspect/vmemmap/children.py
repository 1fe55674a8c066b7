"""The processes that a scan of a large machine is shared among: forked, for a while."""

from __future__ import annotations

import multiprocessing
import os
import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from hvoinspect.parent import end_with_parent
from hvoinspect.vmemmap.jobs import Found

__all__ = ["BrokenProcessPool", "forked"]

_look: Callable[[int], Any] | None = None
"""In a child: what it looks with."""


def forked(look: Callable[[int], Found], starts: Sequence[int], jobs: int) -> Iterator[Found]:
    """Look at the chunks at `starts`, in their order, in `jobs` children.

    Raises BrokenProcessPool if one of them dies, after what was looked at before.
    """
    context = multiprocessing.get_context("fork")
    pool = ProcessPoolExecutor(jobs, context, _begin, (look, os.getpid()))
    try:
        with warnings.catch_warnings():
            # The other threads are NumPy's, which takes care of forks itself, or draw a progress
            # bar; a child calls neither.
            warnings.filterwarnings("ignore", "This process .* is multi-threaded")
            parts = pool.map(_do, starts, chunksize=max(1, len(starts) // (16 * jobs)))
        yield from parts
        pool.shutdown()  # so that whoever counts processors' time has theirs
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _begin(look: Callable[[int], Any], parent: int) -> None:
    """Begin a child: it ends with its parent, which alone hears of Ctrl-C.

    SIGTERM ends it at once, whatever its parent does with that signal.
    """
    global _look  # noqa: PLW0603 - what a child has from its parent, once
    _look = look
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    end_with_parent()
    if os.getppid() != parent:
        os._exit(1)


def _do(start: int) -> Any:
    if _look is None:
        raise AssertionError("a child begins with _begin()")
    return _look(start)
