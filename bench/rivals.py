"""What people would use instead: /proc/kpageflags, and drgn's helpers one page at a time."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from drgn import Program
from drgn.helpers.linux.mm import PageHead, compound_head, pfn_to_page

from hvoinspect.target.kernelview import COMPOUND_HEAD, COMPOUND_TAIL, HUGE, NO_PAGE
from hvoinspect.target.layout import Kernel

READ_BYTES = 1 << 20
KPAGEFLAGS = Path("/proc/kpageflags")


def count_kpageflags(every: int = 1, path: Path = KPAGEFLAGS) -> dict[str, int]:
    """Count heads, tails and hugetlb heads, and all struct pages, as fast as this file is read.

    1 MiB a read, always to the same place; NumPy looks at the bits. Of `every` so many reads just
    one is done.
    """
    words = np.empty(READ_BYTES // 8, "<u8")
    place = words.data.cast("B")
    counts = dict.fromkeys(("struct_pages", "heads", "tails", "huge_heads"), 0)
    offset = 0
    with path.open("rb", buffering=0) as file:
        while size := os.preadv(file.fileno(), [place], offset):
            offset += every * READ_BYTES
            flags = words[: size // 8]
            head = (flags & np.uint64(COMPOUND_HEAD)) != 0
            counts["struct_pages"] += int(np.count_nonzero((flags & np.uint64(NO_PAGE)) == 0))
            counts["heads"] += int(np.count_nonzero(head))
            counts["tails"] += int(np.count_nonzero(flags & np.uint64(COMPOUND_TAIL)))
            counts["huge_heads"] += int(np.count_nonzero(flags[head] & np.uint64(HUGE)))
    return counts


def sample(kernel: Kernel, count: int) -> list[int]:
    """Return `count` pfns of online sections, chosen at random but always the same."""
    sections = kernel.sections
    chosen = np.random.default_rng(0)
    numbers = sections.numbers[sections.online][
        chosen.integers(int(sections.online.sum()), size=count)
    ]
    within = chosen.integers(sections.pages, size=count).astype(np.uint64)
    pfns: list[int] = np.sort(numbers * np.uint64(sections.pages) + within).tolist()
    return pfns


def drgn_loop(prog: Program, pfns: list[int]) -> int:
    """Ask drgn of each page whether it is a head, and which page its head is; return the heads."""
    heads = 0
    for pfn in pfns:
        page = pfn_to_page(prog, pfn)
        heads += bool(PageHead(page))
        compound_head(page).value_()
    return heads
