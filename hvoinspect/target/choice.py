"""Which kernel a user wants to look at, and what they say about it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from drgn import Program

DEMOS = ("before", "after")
"""Captures that are shipped: of Linux 7.0 and of 7.1 (scripts/make-demos)."""


@dataclass(frozen=True)
class Target:
    """A crash dump or capture, a QEMU guest, a demo, or else the running kernel.

    `qemu` is the address of a guest's QMP socket, a path or host:port; `demo` one of DEMOS;
    `program` the kernel that a drgn session has open, which is left as it is.
    `symbols` is a vmlinux with DWARF of the same build, `vmcoreinfo` a file with the VMCOREINFO of
    the same boot, for dumps and guests that do not tell it themselves.
    """

    core: Path | None = None
    qemu: str | None = None
    demo: str | None = None
    program: Program | None = None
    symbols: Path | None = None
    vmcoreinfo: Path | None = None
