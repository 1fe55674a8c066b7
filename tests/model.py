"""A slow model of the kernel's `compound_head()`, one struct page at a time, in plain integers.

Written from the kernel's include/linux/page-flags.h and nothing of the package: it says what the
vectorised classifier must find on a made-up machine.
"""

from __future__ import annotations

from typing import Literal

from tests.madeup import COMPOUND, PG_HEAD, Machine

Class = Literal["hole", "head", "fake_head", "tail", "single"]


def compound_head(machine: Machine, pfn: int) -> int | None:
    """The pfn of the head of `pfn`, itself for a head or single; None if nothing is mapped."""
    address = machine.address_of(pfn)
    word = machine.word(pfn, COMPOUND)
    last = machine.word(pfn, machine.page_size - 8)
    if word is None or last is None:
        return None
    if word & 1:
        if machine.tail == "mask" and machine.page_size & (machine.page_size - 1) == 0:
            return (address & word & ~1) // machine.page_size - machine.vmemmap // machine.page_size
        return (word - 1 - machine.vmemmap) // machine.page_size
    return page_fixed_fake_head(machine, pfn)


def page_fixed_fake_head(machine: Machine, pfn: int) -> int:
    """What a struct page that reads like a head really belongs to."""
    flags = machine.word(pfn, 0)
    assert flags is not None
    if machine.tail == "mask" or machine.address_of(pfn) % 4096 or not flags & PG_HEAD:
        return pfn
    word = machine.word(pfn + 1, COMPOUND)
    if word is None or not word & 1:
        return pfn
    return (word - 1 - machine.vmemmap) // machine.page_size


def class_of(machine: Machine, pfn: int) -> Class:
    """What the struct page of `pfn` is."""
    head = compound_head(machine, pfn)
    if head is None:
        return "hole"
    word, flags = machine.word(pfn, COMPOUND), machine.word(pfn, 0)
    assert word is not None
    assert flags is not None
    if word & 1:
        return "tail"
    if not flags & PG_HEAD:
        return "single"
    return "head" if head == pfn else "fake_head"
