"""Damage to shipped and made-up kernels' memory: each is found by its rule, and by no other."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from hvoinspect.target.choice import DEMOS, Target
from hvoinspect.target.layout import Kernel
from hvoinspect.target.open import open_target
from hvoinspect.vmemmap.checks import RULES
from hvoinspect.vmemmap.scan import Scan, scan
from tests.damages.table import DAMAGES, Damage
from tests.madeup import ARENA, ORDER_2M, SECTION_PAGES, Machine, Tail
from tests.victim import Places, places_in, victim_of

ARENA_SECTION = (ARENA >> 12) // SECTION_PAGES
"""The section of the made-up machine's own frames."""


def made_up(tail: Tail, **shape: int) -> tuple[Kernel, Places]:
    """Four optimized hugepages, one that is not, slabs, and single pages."""
    machine = Machine((0, 1, ARENA_SECTION), tail=tail, **shape)  # type: ignore[arg-type]
    heads = tuple(slot << ORDER_2M for slot in (5, 6, 9, 11))
    for head in heads:
        machine.hugetlb(head, free=True)
    machine.hugetlb(7 << ORDER_2M, hvo=False)
    machine.slab(SECTION_PAGES + 64, 3)
    machine.slab(SECTION_PAGES + 72, 2)
    return machine.kernel(), Places(heads, SECTION_PAGES + 64, SECTION_PAGES + 1000)


def shipped(demo: str) -> tuple[Kernel, Places]:
    kernel = open_target(Target(demo=demo))
    return kernel, places_in(kernel, scan(kernel))


KERNELS: dict[str, Callable[[], tuple[Kernel, Places]]] = {
    "pointers": lambda: made_up("pointer"),
    "masks": lambda: made_up("mask"),
    "masks, five levels, struct pages of 128 bytes": lambda: made_up(
        "mask", levels=5, page_size=128
    ),
    **{demo: lambda demo=demo: shipped(demo) for demo in DEMOS},  # type: ignore[misc]
}


@cache
def intact(name: str) -> tuple[Kernel, Places, Scan]:
    """A kernel to damage, where, and what a scan finds before that; each is made once."""
    kernel, places = KERNELS[name]()
    return kernel, places, scan(kernel, exhaustive=True)


def rules_of(damage: Damage, name: str) -> tuple[str, ...] | None:
    """The rules that must find it in this kernel, None if it cannot be damaged so."""
    if name in DEMOS and not damage.demos:
        return None
    return damage.masks if name.startswith("masks") or name == "after" else damage.pointers


CASES = [
    pytest.param(name, damage, id=f"{damage.name}-{name}")
    for damage in DAMAGES
    for name in KERNELS
    if rules_of(damage, name) is not None
]


@pytest.mark.parametrize(("name", "damage"), CASES)
def test_damage_is_found_by_its_rule_and_by_no_other(name: str, damage: Damage) -> None:
    kernel, places, before = intact(name)
    victim = victim_of(kernel, places, f"{damage.name} {name}")
    damage.do(victim)
    known = {(finding.rule, finding.severity, finding.pfn) for finding in before.findings}
    found = {(f.rule, f.severity, f.pfn) for f in scan(victim.kernel, exhaustive=True).findings}
    assert found >= known, "the one warning that intact kernels of 7.0 and 7.1 have"
    assert {rule for rule, _, _ in found - known} == set(rules_of(damage, name) or ())


@pytest.mark.parametrize("name", KERNELS)
def test_an_intact_kernel_has_no_finding_but_the_one_measured(name: str) -> None:
    """6.18 to 7.1 leave most tails of 1 GiB pages set up at boot writable: once a page size."""
    found = [(finding.rule, finding.severity) for finding in intact(name)[2].findings]
    assert found == ([("tails-read-only", "warning")] if name in DEMOS else [])


def test_every_rule_finds_damage() -> None:
    found = {rule for damage in DAMAGES for rule in (damage.masks or ()) + (damage.pointers or ())}
    assert found == {rule.name for rule in RULES}
    assert len({damage.name for damage in DAMAGES}) == len(DAMAGES) >= 40
