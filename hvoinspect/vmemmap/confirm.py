"""Which findings hold: on a live kernel, a single look proves nothing.

The optimized flag is set before the remap and TLB flushes are batched; compound pages come and go;
and what is compared was read at different moments. So what looks wrong is read again, after a
pause, and is reported only if the very same was found each time, to the word and the frame. What
does not hold still is told as unstable, and is no finding.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from hvoinspect.vmemmap.census import Census
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
    """Read again what `findings` were found from, into `census`, and return those that hold.

    That is the chunks of the struct pages that a finding names, one right after the other; and
    where a rule compares counts of the whole machine, all of it.
    """
    whole = {rule.name for rule in rules if rule.whole}
    held = list(findings)
    for _ in range(REREADS):
        if not held:
            break
        time.sleep(PAUSE_SECONDS)
        if whole.isdisjoint(finding.rule for finding in held):
            census.read_around(pfn for finding in held for pfn in (finding.pfn, *finding.also))
        else:
            census.read()
        now = set(judge(rules, census.evidence(), ignored))
        held = [finding for finding in held if finding in now]
    lost = Counter(finding.rule for finding in findings)
    lost.subtract(finding.rule for finding in held)
    return Confirmed(tuple(held), {rule: count for rule, count in sorted(lost.items()) if count})
