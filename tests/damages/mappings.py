"""Damage to page tables: what is mapped where."""

from __future__ import annotations

from tests.victim import LEAF, PRESENT, WRITABLE, Victim


def tail_on_a_copy(victim: Victim) -> None:
    """Read-only, so it is no partial remap."""
    page = victim.late_page()
    victim.map(page, victim.new_frame(victim.content(page)))


def tail_on_rubbish(victim: Victim) -> None:
    victim.map(victim.late_page(), victim.new_frame(victim.random.randbytes(4096)))


def tail_outside_of_memory(victim: Victim) -> None:
    victim.map(victim.late_page(), 1 << 33)


def tail_on_another_heads_frame(victim: Victim) -> None:
    victim.map(victim.late_page(), victim.frame(victim.other))


def tail_on_its_own_heads_frame(victim: Victim) -> None:
    victim.map(victim.late_page(), victim.frame(victim.head))


def two_tails_on_one_copy(victim: Victim) -> None:
    """Writable, as after a partial remap, but such frames are each behind one vmemmap page."""
    copy = victim.new_frame(victim.content(victim.head + victim.each))
    for page in victim.random.sample(victim.late_pages(), 2):
        victim.map(page, copy)
        victim.change_entry(page, lambda entry: entry | WRITABLE)


def tails_of_two_hugepages_on_one_copy(victim: Victim) -> None:
    """Writable, as after a partial remap; with masks both read what they should."""
    copy = victim.new_frame(victim.content(victim.head + victim.each))
    for page in (victim.late_page(), victim.late_page() - victim.head + victim.other):
        victim.map(page, copy)
        victim.change_entry(page, lambda entry: entry | WRITABLE)


def all_tails_on_a_copy(victim: Victim) -> None:
    copy = victim.new_frame(victim.content(victim.head + victim.each))
    for page in victim.late_pages():
        victim.map(page, copy)


def all_tails_on_another_heads_frame(victim: Victim) -> None:
    frame = victim.frame(victim.other)
    for page in victim.late_pages():
        victim.map(page, frame)


def all_tails_on_their_own_heads_frame(victim: Victim) -> None:
    frame = victim.frame(victim.head)
    for page in victim.late_pages():
        victim.map(page, frame)


def head_on_another_heads_frame(victim: Victim) -> None:
    victim.map(victim.head, victim.frame(victim.other))


def head_on_a_blank_frame(victim: Victim) -> None:
    """A hugepage is lost, and its tails lead nowhere."""
    victim.map(victim.head, victim.new_frame(bytes(4096)))


def writable_tail(victim: Victim) -> None:
    victim.change_entry(victim.late_page(), lambda entry: entry | WRITABLE)


def writable_tails(victim: Victim) -> None:
    for page in victim.late_pages():
        victim.change_entry(page, lambda entry: entry | WRITABLE)


def read_only_head(victim: Victim) -> None:
    victim.change_entry(victim.head, lambda entry: entry & ~WRITABLE)


def read_only_page_table(victim: Victim) -> None:
    """A level above, so that all struct pages in the same 2 MiB of vmemmap are."""
    victim.change_entry(victim.head, lambda entry: entry & ~WRITABLE, level=1)


def tail_not_present(victim: Victim) -> None:
    victim.change_entry(victim.late_page(), lambda entry: entry & ~PRESENT)


def no_page_table(victim: Victim) -> None:
    """Of single pages; where there are none of their own, with all that is beside them."""
    level = 1 if len(victim.entries(victim.single)) > victim.kernel.paging.levels - 1 else 0
    victim.change_entry(victim.single, lambda _entry: 0, level)


def large_mapping_for_a_page_table(victim: Victim) -> None:
    """Of as many frames with the same content, as if nothing had ever been shared."""
    first = victim.head & -512 * victim.each
    content = b"".join(victim.content(first + at * victim.each) for at in range(512))
    frame = victim.new_frame(content, align=512)
    victim.change_entry(victim.head, lambda _e: frame << 12 | LEAF | WRITABLE | PRESENT, level=1)
