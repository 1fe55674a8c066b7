"""Every page's class and head, a page at a time: of an open kernel, or run in a guest of its own.

python tests/lab/census.py FILE.npz
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from hvoinspect.target.layout import VMEMMAP_PAGE, Kernel
from hvoinspect.target.open import open_running
from hvoinspect.vmemmap.chunks import CHUNK_PAGES, chunk_starts, map_chunk, read_chunk
from hvoinspect.vmemmap.pages import PageClass
from hvoinspect.vmemmap.pagetable import walk_directory

PR_SET_THP_DISABLE = 41  # include/uapi/linux/prctl.h


class Census:
    """The class and the head of every pfn, as the project has them: read anew at each `read`.

    `kind` uint8[pfns], `head` uint64[pfns], `frame` uint64[vmemmap pages]: what backs them.
    """

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.read()

    def read(self) -> None:
        kernel = self.kernel
        directory = walk_directory(kernel.memory, kernel.paging, kernel.vmemmap, kernel.vmemmap_end)
        end = chunk_starts(kernel)[-1] + CHUNK_PAGES
        self.kind = np.zeros(end, np.uint8)
        self.head = np.zeros(end, np.uint64)
        each = VMEMMAP_PAGE // kernel.page.size
        self.frame = np.zeros(end // each, np.uint64)
        for start in chunk_starts(kernel):
            mapped = map_chunk(kernel, directory, start)
            self.frame[start // each : (start + CHUNK_PAGES) // each] = mapped.frame
            pages = read_chunk(kernel, mapped, start).pages
            self.kind[start : start + CHUNK_PAGES] = pages.kind
            self.head[start : start + CHUNK_PAGES] = pages.head

    def outside(self, held: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which struct pages are in a frame that is not `held`, bool[frames]; bool[pfns]."""
        known = self.frame < np.uint64(len(held))
        outside = ~known
        outside[known] = ~held[self.frame[known].astype(np.intp)]
        each = len(self.kind) // len(self.frame)
        found: NDArray[np.bool_] = np.repeat(outside, each) & (self.kind != PageClass.HOLE)
        return found

    def hugetlb(self, marked: NDArray[np.bool_]) -> NDArray[np.intp]:
        """The pfns of struct pages whose head the kernel shows as hugetlb."""
        inside = self.head < np.uint64(len(marked))
        huge = np.zeros(len(self.kind), np.bool_)
        huge[inside] = marked[self.head[inside].astype(np.intp)]
        return np.flatnonzero(huge & (self.kind != PageClass.HOLE))


def keep_out_of_the_picture() -> None:
    """Use no transparent hugepages: arrays that come and go would change what is looked at."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_THP_DISABLE)")


def main() -> None:
    keep_out_of_the_picture()
    census = Census(open_running())
    np.savez(sys.argv[1], kind=census.kind, head=census.head)


if __name__ == "__main__":
    main()
