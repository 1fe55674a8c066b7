"""All that was read of a machine, chunk by chunk, as evidence for the rules."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from hvoinspect.target.layout import Counters, Kernel
from hvoinspect.vmemmap.backing import all_backing
from hvoinspect.vmemmap.chunks import Window, chunk_starts
from hvoinspect.vmemmap.hugepages import join
from hvoinspect.vmemmap.jobs import looks
from hvoinspect.vmemmap.look import look_at, look_closely
from hvoinspect.vmemmap.oddities import join_oddities
from hvoinspect.vmemmap.pages import Encoding, PageClass
from hvoinspect.vmemmap.pagetable import Directory
from hvoinspect.vmemmap.part import Part
from hvoinspect.vmemmap.rules import Evidence
from hvoinspect.vmemmap.savings import sum_of

Progress = Callable[[int, int], None]
"""Called with how many of how many chunks are done."""


def no_progress(_done: int, _total: int) -> None:
    """Show nothing."""


class Census:
    """What each chunk of a kernel's vmemmap came to, when it was read last.

    `parts`: the first pfn of each chunk -> what it came to.
    """

    def __init__(
        self, kernel: Kernel, directory: Directory, *, exhaustive: bool, jobs: int
    ) -> None:
        self.kernel = kernel
        self.parts: dict[int, Part] = {}
        self._starts = chunk_starts(kernel)
        self._jobs = jobs
        self._look = functools.partial(look_at, kernel, directory, exhaustive=exhaustive)
        self._counters: Counters | None = None

    def read(self, progress: Progress = no_progress) -> None:
        """Read all chunks, again if they were read before, and the kernel's own counts."""
        before = self.kernel.counters()
        total = len(self._starts)
        progress(0, total)
        for done, (start, part) in enumerate(looks(self._look, self._starts, self._jobs), 1):
            self.parts[start] = part
            progress(done, total)
        # What changed while the rest was read cannot be held against it. Pools that shrank and grew
        # again show by how many hugepages were ever allocated.
        still = not self.kernel.live or self.kernel.counters() == before
        self._counters = before if still else None

    def read_closely(self, windows: Sequence[Window]) -> Evidence:
        """Read just the struct pages of `windows`, within a short time; return evidence of them."""
        return self._evidence(list(look_closely(self.kernel, windows)))

    def evidence(self) -> Evidence:
        """Put all that was read together."""
        return self._evidence(list(self.parts.values()))

    def _evidence(self, read: list[Part]) -> Evidence:
        kernel = self.kernel
        hugepages = join([part.hugepages for part in read])
        changing = hugepages.changing
        if kernel.live:
            # In 6.1 one that is dissolved is given a reference before it loses HPG_freed
            # (mm/hugetlb.c, __remove_hugetlb_page()); elsewhere the flag is damaged.
            changing |= hugepages.free & ~hugepages.frozen
        return Evidence(
            kernel=kernel,
            hugepages=hugepages.where(~changing),
            changing=hugepages.where(changing),
            mappings=sum_of([part.mappings for part in read]),
            oddities=join_oddities([part.oddities for part in read]),
            backing=all_backing([part.backing for part in read]),
            tail_frames=kernel.tail_frames(),
            first_pfn=int(kernel.sections.numbers[0]) * kernel.sections.pages,
            masks=any(part.encodings[Encoding.MASK] for part in read),
            whole=not any(part.classes[PageClass.UNREADABLE] for part in read),
            counters=self._counters,
        )
