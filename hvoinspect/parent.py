"""A process that ends with the one that began it."""

from __future__ import annotations

import ctypes
import functools
import signal

_PR_SET_PDEATHSIG = 1
"""include/uapi/linux/prctl.h."""


def end_with_parent() -> None:
    """Let the kernel kill this process when its parent ends; what it executes, too.

    See PR_SET_PDEATHSIG(2const). A parent that has ended by now is not noticed.
    """
    _libc().prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)
