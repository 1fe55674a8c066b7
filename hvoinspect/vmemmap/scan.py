"""The scan: every chunk read, classified, accounted and checked, and all of them put together."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hvoinspect.target.layout import Counters, Kernel
from hvoinspect.vmemmap.backing import Backing, all_backing, backing_of
from hvoinspect.vmemmap.checks import RULES
from hvoinspect.vmemmap.chunks import chunk_starts, read_chunk
from hvoinspect.vmemmap.hugepages import Hugepages, find_hugepages, join
from hvoinspect.vmemmap.oddities import Oddities, join_oddities, oddities
from hvoinspect.vmemmap.pages import Encoding, PageClass
from hvoinspect.vmemmap.pagetable import Directory, Maps, walk_directory
from hvoinspect.vmemmap.rules import Evidence, Finding, judge
from hvoinspect.vmemmap.savings import Mappings, Savings, account, map_of, sum_of

REREADS = 3
PAUSE_SECONDS = 0.05
"""How often, and how far apart, a chunk that looks wrong on a live kernel is read again."""

Progress = Callable[[int, int], None]
"""Called with how many of how many struct pages are done."""


@dataclass(frozen=True)
class Part:
    """What one chunk comes to."""

    classes: NDArray[np.int64]
    encodings: NDArray[np.int64]
    offline: int
    hugepages: Hugepages
    mappings: Mappings
    oddities: Oddities
    backing: Backing


@dataclass(frozen=True)
class Scan:
    """What a scan found.

    `classes`: struct pages of each PageClass. `encodings`: tails that are no fake heads, by
    Encoding. `offline`: struct pages of offline sections, counted as single and not read.
    `ignored`: the names of the rules that were left out.
    """

    kernel: Kernel
    classes: Mapping[PageClass, int]
    encodings: Mapping[Encoding, int]
    offline: int
    hugepages: Hugepages
    mappings: Mappings
    pte_tables: int
    savings: Savings
    findings: tuple[Finding, ...]
    ignored: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        """Struct pages that are mapped, or whose mapping could not be read."""
        return sum(count for kind, count in self.classes.items() if kind != PageClass.HOLE)

    @property
    def read(self) -> int:
        """Struct pages whose content was read."""
        return self.total - self.classes[PageClass.UNREADABLE] - self.offline

    @property
    def inferred(self) -> int:
        """Struct pages whose class follows from something else: here, from an offline section."""
        return self.offline


def scan(
    kernel: Kernel,
    progress: Progress = lambda _done, _total: None,
    ignored: Collection[str] = (),
) -> Scan:
    """Scan the vmemmap of `kernel`, which has at least one present section.

    The rules whose names are `ignored` are left out.

    On a live kernel, chunks that look wrong are read again after a pause, and only what looks wrong
    the same way each time is reported. Raises nothing for memory that cannot be read: the result
    says how much of it there was.
    """
    starts = chunk_starts(kernel)
    directory = _directory(kernel)
    parts: dict[int, Part] = {}
    counters = kernel.counters()
    for done, start in enumerate(starts):
        progress(done, len(starts))
        parts[start] = _inspect(kernel, directory, start)
    progress(len(starts), len(starts))

    findings = judge(RULES, _evidence(kernel, parts, counters), ignored)
    if kernel.live:
        findings = _that_hold(kernel, findings, parts, counters, ignored)
    result = list(parts.values())
    hugepages = join([part.hugepages for part in result])
    mappings = sum_of([part.mappings for part in result])
    shared = np.array(sorted(set(kernel.tail_frames().values())), np.uint64)
    classes = np.sum([part.classes for part in result], axis=0)
    encodings = np.sum([part.encodings for part in result], axis=0)
    return Scan(
        kernel=kernel,
        classes={kind: int(classes[kind]) for kind in PageClass},
        encodings={encoding: int(encodings[encoding]) for encoding in Encoding},
        offline=sum(part.offline for part in result),
        hugepages=hugepages,
        mappings=mappings,
        pte_tables=int((directory.maps == Maps.PTE_TABLE).sum()),
        savings=account(hugepages, mappings, shared, kernel.hvo),
        findings=tuple(replace(finding, confirmed=True) for finding in findings),
        ignored=tuple(rule.name for rule in RULES if rule.name in ignored),
    )


def _directory(kernel: Kernel) -> Directory:
    return walk_directory(kernel.memory, kernel.paging, kernel.vmemmap, kernel.vmemmap_end)


def _inspect(kernel: Kernel, directory: Directory, first_pfn: int) -> Part:
    chunk = read_chunk(kernel, directory, first_pfn)
    hugepages = find_hugepages(kernel, chunk)
    kind = chunk.pages.kind
    is_tail = kind == PageClass.TAIL
    return Part(
        classes=np.bincount(kind, minlength=len(PageClass)),
        encodings=np.bincount(chunk.pages.encoding[is_tail], minlength=len(Encoding)),
        offline=int((~chunk.online & (kind != PageClass.HOLE)).sum()),
        hugepages=hugepages,
        mappings=map_of(chunk, kernel.page.size),
        oddities=oddities(kernel, chunk, hugepages),
        backing=backing_of(kernel, chunk),
    )


def _evidence(kernel: Kernel, parts: Mapping[int, Part], counters: Counters) -> Evidence:
    """Put what was read together; `counters` are those from before it was."""
    read = list(parts.values())
    return Evidence(
        kernel=kernel,
        hugepages=join([part.hugepages for part in read]),
        mappings=sum_of([part.mappings for part in read]),
        oddities=join_oddities([part.oddities for part in read]),
        backing=all_backing([part.backing for part in read]),
        tail_frames=kernel.tail_frames(),
        first_pfn=int(kernel.sections.numbers[0]) * kernel.sections.pages,
        masks=any(part.encodings[Encoding.MASK] for part in read),
        whole=not any(part.classes[PageClass.UNREADABLE] for part in read),
        counters=counters if kernel.counters() == counters else None,
    )


def _that_hold(
    kernel: Kernel,
    findings: list[Finding],
    parts: dict[int, Part],
    counters: Counters,
    ignored: Collection[str],
) -> list[Finding]:
    """Read the chunks of `findings` again, into `parts`, and return the findings that are still so.

    The optimized flag is set before the remap and TLB flushes are batched, and compound pages come
    and go, so a single look at a live kernel proves nothing. What a rule on the whole machine found
    takes a look at the whole machine.
    """
    whole = {rule.name for rule in RULES if rule.whole}
    for _ in range(REREADS):
        if not findings:
            break
        time.sleep(PAUSE_SECONDS)
        directory = _directory(kernel)
        starts = np.array(sorted(parts))
        pfns = np.array([finding.pfn for finding in findings])
        again = starts
        if whole.isdisjoint(finding.rule for finding in findings):
            again = np.unique(starts[np.searchsorted(starts, pfns, side="right") - 1])
        for start in again.tolist():
            parts[start] = _inspect(kernel, directory, start)
        before = {(finding.rule, finding.pfn) for finding in findings}
        now = judge(RULES, _evidence(kernel, parts, counters), ignored)
        findings = [finding for finding in now if (finding.rule, finding.pfn) in before]
    return findings
