"""What a rule of the scan is, what it judges, and what it finds."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from hvoinspect.target.layout import Counters, Kernel, TailFrames
from hvoinspect.vmemmap.backing import Backing
from hvoinspect.vmemmap.chunks import Window
from hvoinspect.vmemmap.hugepages import Hugepages
from hvoinspect.vmemmap.oddities import Oddities
from hvoinspect.vmemmap.savings import Mappings

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """A breach of a rule, at the struct page `pfn`.

    `confirmed` says that it still held when the memory was read again, or that the memory does not
    move. `meaning` is one sentence on what follows from it. `also` are other struct pages that it
    was found from. Neither makes it another finding.
    """

    rule: str
    severity: Severity
    pfn: int
    expected: str
    found: str
    confirmed: bool = False
    meaning: str = field(default="", compare=False)
    also: tuple[Window, ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class Evidence:
    """All that was read of a machine, for rules to judge.

    `changing`: the hugepages that the kernel is making or dissolving just now. They are in nobody's
    hands, are not counted, and nothing need hold of them yet, or any more; `hugepages` are all
    others. `first_pfn`: of the first present section, where what concerns the machine as a whole is
    found.
    `masks`: whether any tail's word is a mask. `whole`: every struct page was read. `counters`:
    the kernel's own counts, None where they changed while the rest was read, and hugepages may have
    come and gone, so that they cannot be held against it.
    """

    kernel: Kernel
    hugepages: Hugepages
    changing: Hugepages
    mappings: Mappings
    oddities: Oddities
    backing: Backing
    tail_frames: TailFrames
    first_pfn: int
    masks: bool
    whole: bool
    counters: Counters | None

    def mapped_to(self, frame: np.uint64 | int) -> tuple[Window, ...]:
        """Return struct pages on `frame`: of each chunk one where it is mapped first, and last."""
        pfns = self.backing.pfns_on(np.uint64(frame), self.kernel.page.size)
        return tuple((pfn, pfn + 1) for pfn in pfns)


@dataclass(frozen=True)
class Breach:
    """What a rule finds: what was expected and what was found, at the struct page `pfn`.

    `severity` and `meaning` only where they are not the rule's own. `also` as in Finding.
    """

    pfn: int
    expected: str
    found: str
    severity: Severity | None = None
    meaning: str | None = None
    also: tuple[Window, ...] = ()


@dataclass(frozen=True)
class Rule:
    """Something that must hold of a vmemmap.

    The docstring of `look` says what must hold, on which kernels, why, and where that comes from;
    its first line is what is listed. `meaning`: one sentence on what a breach comes to. `whole`
    marks a rule that compares counts of the whole machine, which no look at a part of it can
    confirm.
    """

    name: str
    severity: Severity
    meaning: str
    look: Callable[[Evidence], Iterator[Breach]]
    whole: bool = False

    @property
    def holds(self) -> str:
        """What must hold, in one line."""
        return self.about.splitlines()[0]

    @property
    def about(self) -> str:
        """What must hold, on which kernels, why, and where that comes from: lines of text."""
        return inspect.getdoc(self.look) or self.name

    def findings(self, evidence: Evidence) -> Iterator[Finding]:
        """Judge `evidence`."""
        for breach in self.look(evidence):
            yield Finding(
                self.name,
                breach.severity or self.severity,
                breach.pfn,
                breach.expected,
                breach.found,
                meaning=breach.meaning or self.meaning,
                also=breach.also,
            )


def judge(rules: Sequence[Rule], evidence: Evidence, ignored: Collection[str]) -> list[Finding]:
    """Return the findings of all `rules` but those whose names are `ignored`."""
    return [
        finding for rule in rules if rule.name not in ignored for finding in rule.findings(evidence)
    ]


def seen_whole(hugepages: Hugepages) -> Hugepages:
    """Return the hugepages all of whose vmemmap was read: of the others little can be said."""
    return hugepages.where(hugepages.unknown == 0)
