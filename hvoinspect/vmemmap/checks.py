"""What must hold of a vmemmap, as named rules; a breach of one is a finding.

`sharing_checks.py` has the rules on which frames are behind hugepages, `mapping_checks.py` those on
how they are mapped, `tail_checks.py` those on what struct pages hold, `machine_checks.py` those on
the machine as a whole.
"""

from __future__ import annotations

from hvoinspect.vmemmap import machine_checks, mapping_checks, sharing_checks, tail_checks
from hvoinspect.vmemmap.rules import Rule

RULES: tuple[Rule, ...] = (
    *sharing_checks.RULES,
    *mapping_checks.RULES,
    *tail_checks.RULES,
    *machine_checks.RULES,
)
"""All rules, in the order in which their findings are told."""
