"""Physical memory through drgn: QEMU guests, and dumps that no other reader knows."""

from __future__ import annotations

from drgn import FaultError, Program

from hvoinspect.target.memory import ByRanges, UnreadableMemoryError


class DrgnMemory(ByRanges):
    """Physical memory through drgn, which opens everything read-only.

    Not for the children of a fork: drgn reads with file positions and sockets that they share.
    """

    def __init__(self, prog: Program) -> None:
        self.program = prog

    def read(self, address: int, size: int) -> bytes:
        """Return physical memory. Raises UnreadableMemoryError."""
        try:
            data: bytes = self.program.read(address, size, physical=True)
        except (FaultError, OSError, ValueError, OverflowError) as error:
            raise UnreadableMemoryError(address, size) from error
        return data
