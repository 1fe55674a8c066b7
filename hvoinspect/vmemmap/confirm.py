"""Which findings hold: on a live kernel, a single look proves nothing.

The optimized flag is set before the remap and TLB flushes are batched; compound pages come and go;
and what a scan compares was read at different moments. So what looks wrong is read again, after a
pause: the struct pages that it concerns, alone, one right after the other. It is reported only if
the very same was found each time, to the word and the frame. What does not hold still is told as
unstable, and is no finding.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from hvoinspect.target.layout import VMEMMAP_PAGE
from hvoinspect.vmemmap.census import Census
from hvoinspect.vmemmap.chunks import Window
from hvoinspect.vmemmap.hugepages import Hugepages
from hvoinspect.vmemmap.look import close_span
from hvoinspect.vmemmap.rules import Finding, Rule, judge

REREADS = 3
PAUSE_SECONDS = 0.05
"""How often, and how far apart, what looks wrong on a live kernel is read again."""


class Confirmed(NamedTuple):
    """What held, and by the names of rules, how much did not."""

    findings: tuple[Finding, ...]
    unstable: Mapping[str, int]


def confirm(
    census: Census, rules: Sequence[Rule], findings: Sequence[Finding], ignored: Collection[str]
) -> Confirmed:
    """Read again what `findings` were found from, and return those that hold.

    Where a rule compares counts of the whole machine, that is all of it, into `census`, and its
    hugepages must be the same ones each time.
    """
    close, whole = ([rule for rule in rules if rule.whole is kind] for kind in (False, True))
    compared = {rule.name for rule in whole}
    held = list(findings)
    for _ in range(REREADS):
        if not held:
            break
        time.sleep(PAUSE_SECONDS)
        near = [finding for finding in held if finding.rule not in compared]
        still = _held_closely(census, close, near, ignored)
        if len(near) < len(held):
            still |= _held_as_a_whole(census, whole, ignored)
        held = [finding for finding in held if finding in still]
    lost = Counter(finding.rule for finding in findings)
    lost.subtract(finding.rule for finding in held)
    return Confirmed(tuple(held), {rule: count for rule, count in sorted(lost.items()) if count})


def _held_closely(
    census: Census, rules: Sequence[Rule], findings: Iterable[Finding], ignored: Collection[str]
) -> set[Finding]:
    """Return what is found where `findings` were, those of the same places looked at together."""
    span = close_span(census.kernel)
    hugepages = census.evidence().hugepages
    together: dict[tuple[int, ...], set[Window]] = defaultdict(set)
    for finding in findings:
        windows = {_around(census, hugepages, finding.pfn, finding.pfn + 1)}
        windows |= {_around(census, hugepages, *window) for window in finding.also}
        together[tuple(sorted({start // span for start, _ in windows}))] |= windows
    found: set[Finding] = set()
    for windows in together.values():
        found |= set(judge(rules, census.read_closely(sorted(windows)), ignored))
    return found


def _around(census: Census, hugepages: Hugepages, first: int, end: int) -> Window:
    """Return the struct pages from `first` to before `end`, and all that belong to them.

    That is the hugepages that have some of them, else the rest of their vmemmap pages.
    """
    each = max(1, VMEMMAP_PAGE // census.kernel.page.size)
    low, high = first // each * each, -(-end // each) * each
    at = np.searchsorted(hugepages.pfn, np.array([first, end - 1], np.uint64), "right") - 1
    for i in at[at >= 0].tolist():
        start, count = int(hugepages.pfn[i]), 1 << int(hugepages.order[i])
        if start < end and first < start + count:
            low, high = min(low, start), max(high, start + count)
    return low, high


def _held_as_a_whole(
    census: Census, rules: Sequence[Rule], ignored: Collection[str]
) -> set[Finding]:
    before = census.evidence().hugepages.pfn
    census.read()
    evidence = census.evidence()
    if not np.array_equal(before, evidence.hugepages.pfn):
        return set()
    return set(judge(rules, evidence, ignored))
