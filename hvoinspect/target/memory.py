"""How the memory of an inspected kernel is read: by physical address, never written."""

from __future__ import annotations

from typing import Protocol


class UnreadableMemoryError(Exception):
    """A range of physical memory could not be read, or only partly.

    Not an error of the program: callers turn it into coverage. Excluded or absent memory raises
    this; it never reads as zeros.
    """

    def __init__(self, address: int, size: int) -> None:
        self.address = address
        self.size = size
        super().__init__(f"{size} bytes of physical memory at {address:#x} cannot be read")


class Memory(Protocol):
    """Physical memory of the inspected kernel."""

    def read(self, address: int, size: int) -> bytes:
        """Return the `size` bytes at physical `address`.

        Raises UnreadableMemoryError if any of them cannot be read.
        """
