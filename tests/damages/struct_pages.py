"""Damage to what struct pages hold: of hugetlb pages, of slabs, and of single pages."""

from __future__ import annotations

from tests.madeup import FREED, OPTIMIZED, PAGE_TYPE, PGTY_HUGETLB
from tests.victim import Victim

# What heads say.


def flag_cleared(victim: Victim) -> None:
    victim.change_word(victim.head, victim.kernel.page.private, lambda word: word & ~OPTIMIZED)


def mark_lost(victim: Victim) -> None:
    victim.change_word(victim.head, PAGE_TYPE, lambda word: word | 0xFFFF_FFFF)


def order_of_no_hugepage(victim: Victim) -> None:
    victim.change_word(victim.head + 1, 0, lambda word: word & ~0xFF | 8)


def hugetlb_mark_on_a_slab(victim: Victim) -> None:
    victim.change_word(
        victim.slab, PAGE_TYPE, lambda word: word & ~0xFFFF_FFFF | PGTY_HUGETLB << 24
    )


def taken_for_free_or_used(victim: Victim) -> None:
    """By its flag and by its reference count: the flag alone is a hugepage on its way."""
    at = victim.kernel.page.refcount
    assert at is not None
    victim.change_word(victim.head, victim.kernel.page.private, lambda word: word ^ FREED)
    victim.change_word(victim.head, at & ~7, lambda word: word ^ 1 << 8 * (at & 7))


def on_another_node(victim: Victim) -> None:
    shift = victim.kernel.page.node.shift
    victim.change_word(victim.head, victim.kernel.page.flags, lambda word: word ^ 1 << shift)


def head_flag_lost(victim: Victim) -> None:
    bit = victim.kernel.page.head_bit
    victim.change_word(victim.head, victim.kernel.page.flags, lambda word: word & ~bit)


def tail_bit_in_a_head(victim: Victim) -> None:
    victim.change_word(victim.head, victim.kernel.page.compound, lambda word: word | 1)


# What tails hold.


def word_of_a_tail(victim: Victim, word: int, tail: int | None = None) -> None:
    """Give a tail, one on its head's own vmemmap page if none is given, another compound word."""
    chosen = victim.early_tail() if tail is None else tail
    victim.change_word(chosen, victim.kernel.page.compound, lambda _word: word)


def mask(victim: Victim, order: int) -> int:
    """The word of tails of compound pages of this order, where tails hold masks."""
    return -victim.kernel.page.size << order & (1 << 64) - 1 | 1


def flipped_bit(victim: Victim) -> None:
    bit = 1 << victim.random.randrange(16, 24)
    victim.change_word(victim.early_tail(), victim.kernel.page.compound, lambda word: word ^ bit)


def mask_of_a_lower_order(victim: Victim) -> None:
    """Tail 3 is among the first 8, so a mask of order 3 leads it to the right head."""
    word_of_a_tail(victim, mask(victim, 3), victim.head + 3)


def mask_of_a_higher_order(victim: Victim) -> None:
    word_of_a_tail(victim, mask(victim, 18))


def pointer_to_another_head(victim: Victim) -> None:
    word_of_a_tail(victim, victim.kernel.page_address(victim.other) | 1)


def pointer_into_a_struct_page(victim: Victim) -> None:
    word_of_a_tail(victim, victim.kernel.page_address(victim.head) + 16 | 1)


def pointer_beyond_the_vmemmap(victim: Victim) -> None:
    word_of_a_tail(victim, victim.kernel.vmemmap_end | 1)


def no_tail_any_more(victim: Victim) -> None:
    word_of_a_tail(victim, 0)


def head_flag_in_a_tail(victim: Victim) -> None:
    page = victim.kernel.page
    victim.change_word(victim.early_tail(), page.flags, lambda word: word | page.head_bit)


# Compound pages that are no hugetlb pages.


def slab_tail(victim: Victim) -> int:
    """The last but one of an order that is 2 or more, which holds nothing of its head's."""
    return victim.slab + 2


def slab_tail_to_another_head(victim: Victim) -> None:
    word_of_a_tail(victim, victim.kernel.page_address(victim.other) | 1, slab_tail(victim))


def slab_tail_to_a_single_page(victim: Victim) -> None:
    word_of_a_tail(victim, victim.kernel.page_address(victim.single) | 1, slab_tail(victim))


def slab_tail_cleared(victim: Victim) -> None:
    word_of_a_tail(victim, 0, slab_tail(victim))


def slab_tail_with_a_higher_mask(victim: Victim) -> None:
    word_of_a_tail(victim, mask(victim, 20), slab_tail(victim))


def slab_tail_with_a_lower_mask(victim: Victim) -> None:
    word_of_a_tail(victim, mask(victim, 1), victim.slab + 1)


def slab_of_too_low_an_order(victim: Victim) -> None:
    victim.change_word(victim.slab + 1, 0, lambda word: word & ~0xFF | 1)


def slab_of_too_high_an_order(victim: Victim) -> None:
    victim.change_word(victim.slab + 1, 0, lambda word: word & ~0xFF | 11)


def slab_without_a_head_flag(victim: Victim) -> None:
    bit = victim.kernel.page.head_bit
    victim.change_word(victim.slab, victim.kernel.page.flags, lambda word: word & ~bit)


def head_flag_in_a_slab_tail(victim: Victim) -> None:
    page = victim.kernel.page
    victim.change_word(slab_tail(victim), page.flags, lambda word: word | page.head_bit)


def single_page_that_is_a_tail(victim: Victim) -> None:
    word_of_a_tail(victim, victim.kernel.page_address(victim.head) | 1, victim.single)


def single_page_that_is_a_head(victim: Victim) -> None:
    page = victim.kernel.page
    victim.change_word(victim.single, page.flags, lambda word: word | page.head_bit)
