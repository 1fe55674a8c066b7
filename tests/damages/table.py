"""Damage that a vmemmap can suffer, and which rule must find it in any kernel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.damages import bookkeeping, mappings, shared_frame, struct_pages
from tests.madeup import MAPPING, PAGE_TYPE, PRIVATE, TAIL_MAPPING
from tests.victim import Victim


@dataclass(frozen=True)
class Damage:
    """Damage, the rules that must find it where tails hold masks, and where they hold pointers.

    None where such a kernel cannot be damaged so, or where it is as it should be.
    """

    do: Callable[[Victim], None]
    masks: tuple[str, ...] | None
    pointers: tuple[str, ...] | None
    demos: bool = True

    @property
    def name(self) -> str:
        """What it is."""
        return self.do.__name__


def either(do: Callable[[Victim], None], *rules: str) -> Damage:
    """Damage that the same rules must find, whatever tails hold."""
    return Damage(do, rules, rules)


LOST_HUGEPAGE = ("pool-counters-agree", "tail-decodes-to-head")
"""Its tails are still there, and lead to what is no head."""

DAMAGES = (
    either(mappings.tail_on_a_copy, "tails-share-one-frame"),
    either(mappings.tail_on_rubbish, "tails-share-one-frame"),
    either(mappings.tail_outside_of_memory, "tails-share-one-frame"),
    either(mappings.tail_on_another_heads_frame, "tails-share-one-frame"),
    Damage(mappings.tail_on_its_own_heads_frame, ("tails-share-one-frame",), None),
    either(mappings.two_tails_on_one_copy, "tails-share-one-frame"),
    Damage(mappings.tails_of_two_hugepages_on_one_copy, ("own-frames-unshared",), None),
    Damage(mappings.all_tails_on_a_copy, ("tails-on-the-zones-frame",), ("tails-share-one-frame",)),
    Damage(
        mappings.all_tails_on_another_heads_frame,
        ("tails-on-the-zones-frame",),
        ("tails-share-one-frame",),
    ),
    Damage(mappings.all_tails_on_their_own_heads_frame, ("tails-share-one-frame",), None),
    Damage(
        mappings.head_on_another_heads_frame,
        ("head-frame-unshared",),
        ("head-frame-unshared", *LOST_HUGEPAGE),
    ),
    either(mappings.head_on_a_blank_frame, *LOST_HUGEPAGE),
    either(mappings.writable_tail, "tails-read-only"),
    either(mappings.writable_tails, "tails-read-only"),
    either(mappings.read_only_head, "own-frames-writable"),
    either(mappings.read_only_page_table, "own-frames-writable"),
    either(mappings.tail_not_present, "online-memory-mapped"),
    either(mappings.no_page_table, "online-memory-mapped"),
    either(mappings.large_mapping_for_a_page_table, "flag-agrees-with-page-tables"),
    either(struct_pages.flag_cleared, "flag-agrees-with-page-tables"),
    either(struct_pages.mark_lost, "pool-counters-agree"),
    either(struct_pages.order_of_no_hugepage, "mark-is-of-hugepages"),
    either(struct_pages.hugetlb_mark_on_a_slab, "mark-is-of-hugepages"),
    either(struct_pages.taken_for_free_or_used, "pool-counters-agree"),
    Damage(
        struct_pages.on_another_node,
        ("pool-counters-agree", "tails-on-the-zones-frame"),
        ("pool-counters-agree",),
    ),
    either(struct_pages.head_flag_lost, *LOST_HUGEPAGE),
    either(struct_pages.tail_bit_in_a_head, *LOST_HUGEPAGE),
    either(struct_pages.flipped_bit, "tail-decodes-to-head"),
    Damage(struct_pages.mask_of_a_lower_order, ("tail-order-is-the-heads",), None),
    Damage(struct_pages.mask_of_a_higher_order, ("tail-decodes-to-head",), None),
    either(struct_pages.pointer_to_another_head, "tail-decodes-to-head"),
    either(struct_pages.pointer_into_a_struct_page, "tail-decodes-to-head"),
    either(struct_pages.pointer_beyond_the_vmemmap, "tail-decodes-to-head"),
    either(struct_pages.no_tail_any_more, "tail-decodes-to-head"),
    either(struct_pages.head_flag_in_a_tail, "no-head-flag-in-tails"),
    *(
        Damage(shared_frame.damaged_word_of_the_zones_frame(offset), ("zones-tail-frame",), None)
        for offset in range(0, 64, 8)
    ),
    *(
        Damage(shared_frame.every_tail_of_the_zones_frame(*what), ("zones-tail-frame",), None)
        for what in (
            (PRIVATE, "private", 1),
            (MAPPING, "unpoisoned", TAIL_MAPPING & ~0xFFF),
            (PAGE_TYPE, "mapped", 0),
        )
    ),
    Damage(shared_frame.head_flag_in_the_zones_frame, ("zones-tail-frame",), None),
    Damage(shared_frame.other_node_in_the_zones_frame, ("zones-tail-frame",), None),
    Damage(shared_frame.other_order_in_the_zones_frame, ("zones-tail-frame",), None),
    Damage(shared_frame.zones_frame_zeroed, ("zones-tail-frame",), None),
    either(struct_pages.slab_tail_to_another_head, "tail-decodes-to-head"),
    either(struct_pages.slab_tail_to_a_single_page, "tail-decodes-to-head"),
    either(struct_pages.slab_tail_cleared, "tail-decodes-to-head"),
    Damage(struct_pages.slab_tail_with_a_higher_mask, ("tail-decodes-to-head",), None),
    Damage(struct_pages.slab_tail_with_a_lower_mask, ("tail-order-is-the-heads",), None),
    Damage(
        struct_pages.slab_of_too_low_an_order,
        ("tail-order-is-the-heads",),
        ("tail-decodes-to-head",),
    ),
    Damage(
        struct_pages.slab_of_too_high_an_order,
        ("tail-order-is-the-heads",),
        ("tail-decodes-to-head",),
    ),
    either(struct_pages.slab_without_a_head_flag, "tail-decodes-to-head"),
    either(struct_pages.head_flag_in_a_slab_tail, "no-head-flag-in-tails"),
    either(struct_pages.single_page_that_is_a_tail, "tail-decodes-to-head"),
    either(struct_pages.single_page_that_is_a_head, "tail-decodes-to-head"),
    either(bookkeeping.freed_frame_of_a_head, "vmemmap-frames-in-use"),
    either(bookkeeping.freed_frame_of_tails, "vmemmap-frames-in-use"),
    either(bookkeeping.frame_in_a_free_block, "vmemmap-frames-in-use"),
    Damage(bookkeeping.misaligned_vmemmap, ("vmemmap-aligned",), None, demos=False),
    Damage(bookkeeping.frame_of_another_zone, ("tails-on-the-zones-frame",), None),
    either(bookkeeping.one_hugepage_too_many_counted, "pool-counters-agree"),
    either(bookkeeping.one_free_hugepage_too_few_counted, "pool-counters-agree"),
    Damage(bookkeeping.key_too_high, None, ("static-key-counts-optimized",)),
    Damage(bookkeeping.key_too_low, None, ("static-key-counts-optimized",)),
)
"""All of it, by what is damaged."""
