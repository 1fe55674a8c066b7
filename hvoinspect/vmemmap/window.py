"""A few struct pages, read by their addresses: for questions about one page, not about all."""

from __future__ import annotations

from dataclasses import dataclass

from hvoinspect.errors import HvoinspectError
from hvoinspect.target.layout import VMEMMAP_PAGE, Kernel
from hvoinspect.target.memory import Memory, UnreadableMemoryError
from hvoinspect.vmemmap.chunks import MappedPages, map_range
from hvoinspect.vmemmap.pagetable import walk_directory

_INCOMPLETE = "a dump may lack it: take one with the kernel's data, or look at the running kernel"


@dataclass(frozen=True)
class Window:
    """The vmemmap pages from the address `start` on, and what they are mapped to."""

    memory: Memory
    start: int
    pages: MappedPages

    def word(self, address: int) -> int:
        """Return the word at `address`, a multiple of 8 inside of the window.

        Raises HvoinspectError if nothing is mapped there, or if it cannot be read.
        """
        frame = self.frame(address)
        try:
            data = self.memory.read(frame * VMEMMAP_PAGE + address % VMEMMAP_PAGE, 8)
        except UnreadableMemoryError as error:
            raise HvoinspectError(
                f"what is at {address:#x} cannot be read: frame {frame:#x} is missing",
                _INCOMPLETE,
            ) from error
        return int.from_bytes(data, "little")

    def frame(self, address: int) -> int:
        """Return the pfn behind `address`. Raises HvoinspectError as `word` does."""
        at = self.index(address)
        if self.pages.unknown[at]:
            raise HvoinspectError(
                f"what is mapped at {address:#x} cannot be read: a page table is missing",
                _INCOMPLETE,
            )
        if not self.pages.present[at]:
            raise HvoinspectError(
                f"nothing is mapped at {address:#x}, where the struct page would be: a hole",
                "the page has no struct page; scan shows which part of the vmemmap is mapped",
            )
        return int(self.pages.frame[at])

    def holds(self, address: int, size: int) -> bool:
        """Tell whether the `size` bytes at `address` are inside of the window."""
        end = self.start + len(self.pages.frame) * VMEMMAP_PAGE
        return self.start <= address and address + size <= end

    def index(self, address: int) -> int:
        """Return the place of the vmemmap page at `address` in `pages`."""
        return (address - self.start) // VMEMMAP_PAGE


def open_window(kernel: Kernel, start: int, size: int) -> Window:
    """Walk the page tables behind the `size` bytes of vmemmap from `start` on; read no frame yet.

    Page tables that cannot be read are `unknown` pages: this raises nothing.
    """
    first = start & -VMEMMAP_PAGE
    count = -(-(start + size - first) // VMEMMAP_PAGE)
    end = first + count * VMEMMAP_PAGE
    directory = walk_directory(kernel.memory, kernel.paging, first, end)
    return Window(kernel.memory, first, map_range(kernel, directory, first, count))
