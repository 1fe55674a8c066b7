"""Damage to what the kernel keeps of its vmemmap: free blocks, zones, counters."""

from __future__ import annotations

from dataclasses import replace

from hvoinspect.target.layout import Counters, Hstate
from tests.madeup import PAGE_TYPE, PGTY_BUDDY, Machine
from tests.victim import Victim


def free_block(victim: Victim, frame: int, order: int) -> None:
    """`set_buddy_order()`."""
    victim.change_word(frame, PAGE_TYPE, lambda _word: PGTY_BUDDY << 24)
    victim.change_word(frame, victim.kernel.page.private, lambda _word: order)


def freed_frame_of_a_head(victim: Victim) -> None:
    free_block(victim, victim.frame(victim.head), 0)


def freed_frame_of_tails(victim: Victim) -> None:
    free_block(victim, victim.frame(victim.late_page()), 0)


def frame_in_a_free_block(victim: Victim) -> None:
    """In the middle of eight."""
    free_block(victim, victim.frame(victim.single) & ~7, 3)


def misaligned_vmemmap(victim: Victim) -> None:
    machine = Machine((0,), vmemmap=0xFFFF_EA00_0020_0000)
    machine.hugetlb(5 << 9)
    victim.kernel = machine.kernel()


def frame_of_another_zone(victim: Victim) -> None:
    """The zone's word names another frame than that behind its tails."""
    frames = {key: frame + (key[2] == 9) for key, frame in victim.kernel.tail_frames().items()}
    victim.kernel = replace(victim.kernel, tail_frames=lambda: frames)


def count(victim: Victim, **changed: int | None) -> None:
    """Let the kernel count otherwise."""
    counters = victim.kernel.counters()
    (pool, *rest) = counters.hstates
    total, free, key = ({**(pool.total or {})}, {**(pool.free or {})}, counters.optimized_key)
    total[0] = total.get(0, 0) + (changed.get("total") or 0)
    free[0] = free.get(0, 0) + (changed.get("free") or 0)
    key = None if key is None else key + (changed.get("key") or 0)
    told = Counters((Hstate(pool.order, total, free), *rest), key)
    victim.kernel = replace(victim.kernel, counters=lambda: told)


def one_hugepage_too_many_counted(victim: Victim) -> None:
    count(victim, total=1)


def one_free_hugepage_too_few_counted(victim: Victim) -> None:
    count(victim, free=-1)


def key_too_high(victim: Victim) -> None:
    count(victim, key=1)


def key_too_low(victim: Victim) -> None:
    count(victim, key=-1)
