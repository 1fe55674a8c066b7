"""Damage to the frame that a zone shares: what the tails of all its hugepages of a size hold."""

from __future__ import annotations

from collections.abc import Callable

from tests.damages.struct_pages import mask
from tests.madeup import COMPOUND
from tests.victim import Victim


def damaged_word_of_the_zones_frame(offset: int) -> Callable[[Victim], None]:
    """Damage the word at `offset` of one struct page of it, in half of its bits."""

    def damage(victim: Victim) -> None:
        victim.change_word(victim.late_tail(), offset, lambda word: word ^ 0x5A5A_5A5A_5A5A_5A5A)

    damage.__name__ = f"word_at_byte_{offset}_of_the_zones_frame"
    return damage


def every_tail_of_the_zones_frame(offset: int, name: str, word: int) -> Callable[[Victim], None]:
    """Give all its struct pages the same wrong word at `offset`."""

    def damage(victim: Victim) -> None:
        for tail in range(victim.each):
            victim.change_word(victim.head + victim.each + tail, offset, lambda _word: word)

    damage.__name__ = f"zones_frame_all_{name}"
    return damage


def head_flag_in_the_zones_frame(victim: Victim) -> None:
    page = victim.kernel.page
    victim.change_word(victim.late_tail(), page.flags, lambda word: word | page.head_bit)


def other_node_in_the_zones_frame(victim: Victim) -> None:
    page = victim.kernel.page
    victim.change_word(victim.late_tail(), page.flags, lambda word: word ^ 1 << page.node.shift)


def other_order_in_the_zones_frame(victim: Victim) -> None:
    every_tail_of_the_zones_frame(COMPOUND, "", mask(victim, 18))(victim)


def zones_frame_zeroed(victim: Victim) -> None:
    first = victim.word(victim.head + victim.each, 0)
    for offset in range(0, 4096, 8):
        victim.change(first + offset, lambda _word: 0)
