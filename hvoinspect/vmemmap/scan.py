"""The scan: every chunk read, classified, accounted and checked, and all of them put together."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from hvoinspect.target.layout import Kernel
from hvoinspect.vmemmap.census import Census, Progress, no_progress
from hvoinspect.vmemmap.checks import RULES
from hvoinspect.vmemmap.confirm import Confirmed, confirm
from hvoinspect.vmemmap.hugepages import Hugepages, join
from hvoinspect.vmemmap.jobs import jobs_for
from hvoinspect.vmemmap.pages import Encoding, PageClass
from hvoinspect.vmemmap.pagetable import Maps, walk_directory
from hvoinspect.vmemmap.rules import Finding, judge
from hvoinspect.vmemmap.savings import Mappings, Savings, account

ATTEMPTS = 3
"""How often a live kernel is scanned whose memory is plugged or pulled meanwhile."""


@dataclass(frozen=True)
class Scan:
    """What a scan found.

    `classes`: struct pages of each PageClass. `encodings`: tails that are no fake heads, by
    Encoding. `offline`: struct pages of offline sections, counted as single and not read.
    `covered`: struct pages that were not read because the head of a compound page or of a free
    block tells what they are. `ignored`: the names of the rules that were left out. `unstable`:
    rule -> how often something looked wrong, but not the same way when it was read again.
    """

    kernel: Kernel
    classes: Mapping[PageClass, int]
    encodings: Mapping[Encoding, int]
    offline: int
    covered: int
    hugepages: Hugepages
    mappings: Mappings
    pte_tables: int
    savings: Savings
    findings: tuple[Finding, ...]
    ignored: tuple[str, ...] = ()
    unstable: Mapping[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Struct pages that are mapped, or whose mapping could not be read."""
        return sum(count for kind, count in self.classes.items() if kind != PageClass.HOLE)

    @property
    def read(self) -> int:
        """Struct pages whose content was read."""
        return self.total - self.classes[PageClass.UNREADABLE] - self.inferred

    @property
    def inferred(self) -> int:
        """Struct pages whose class follows from something else that was read."""
        return self.offline + self.covered


def scan(
    kernel: Kernel,
    progress: Progress = no_progress,
    ignored: Collection[str] = (),
    *,
    exhaustive: bool = False,
    jobs: int | None = None,
) -> Scan:
    """Scan the vmemmap of `kernel`, which has at least one present section.

    Unless `exhaustive`, struct pages that the head of a compound page or of a free block covers are
    not read where nothing is shared. The rules whose names are `ignored` are left out. `jobs`: in
    how many processes, as the size of the machine wants if None.

    On a live kernel, what looks wrong is read again after a pause, and only what looks wrong the
    same way each time is reported. Raises nothing for memory that cannot be read: the result says
    how much of it there was.
    """
    for _ in range(ATTEMPTS):
        kernel = as_of_now(kernel)
        directory = walk_directory(kernel.memory, kernel.paging, kernel.vmemmap, kernel.vmemmap_end)
        census = Census(
            kernel,
            directory,
            exhaustive=exhaustive,
            jobs=jobs_for(kernel) if jobs is None else jobs,
        )
        census.read(progress)
        if as_of_now(kernel) is kernel:
            break
    evidence = census.evidence()
    held = Confirmed(tuple(judge(RULES, evidence, ignored)), {})
    if kernel.live and held.findings:
        held = confirm(census, RULES, held.findings, ignored)
        evidence = census.evidence()

    parts = list(census.parts.values())
    classes = np.sum([part.classes for part in parts], axis=0)
    encodings = np.sum([part.encodings for part in parts], axis=0)
    hugepages = join([evidence.hugepages, evidence.changing])
    hugepages = hugepages.where(np.argsort(hugepages.pfn))
    shared = np.array(sorted(set(evidence.tail_frames.values())), np.uint64)
    return Scan(
        kernel=kernel,
        classes={kind: int(classes[kind]) for kind in PageClass},
        encodings={encoding: int(encodings[encoding]) for encoding in Encoding},
        offline=sum(part.offline for part in parts),
        covered=sum(part.inferred for part in parts),
        hugepages=hugepages,
        mappings=evidence.mappings,
        pte_tables=int((directory.maps == Maps.PTE_TABLE).sum()),
        savings=account(hugepages, evidence.mappings, shared, kernel.hvo),
        findings=tuple(replace(finding, confirmed=True) for finding in held.findings),
        ignored=tuple(rule.name for rule in RULES if rule.name in ignored),
        unstable=held.unstable,
    )


def as_of_now(kernel: Kernel) -> Kernel:
    """Return a live kernel with the memory that it has by now: it may be plugged and pulled."""
    if not kernel.live or kernel.sections_now is None:
        return kernel
    now, known = kernel.sections_now(), kernel.sections
    same = np.array_equal(now.numbers, known.numbers) and np.array_equal(now.online, known.online)
    return kernel if same else replace(kernel, sections=now)
