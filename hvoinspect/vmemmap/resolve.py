"""From one struct page to its head, a step at a time, as the kernel at hand goes.

The steps are those of `_compound_head()` and `page_fixed_fake_head()` in
include/linux/page-flags.h; `pages.py` does the same for a whole array and tells no steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hvoinspect.target.layout import VMEMMAP_PAGE, Kernel
from hvoinspect.vmemmap.pages import UNKNOWN_HEAD, Encoding, PageClass, decode

KEY = "hugetlb_optimize_vmemmap_key"


@dataclass(frozen=True)
class Resolved:
    """What a struct page is and how the kernel finds that out.

    `flags` and `info` are the words that were read, `head` the pfn of its head, None if its
    compound word is neither a mask nor an address in the vmemmap.
    """

    kind: PageClass
    head: int | None
    flags: int
    info: int
    steps: tuple[str, ...]


def resolve(kernel: Kernel, pfn: int, word: Callable[[int], int]) -> Resolved:
    """Resolve the struct page of `pfn`; `word` reads the word at an address.

    Only what the kernel itself would read is read: of this struct page, and of the next where it
    may be a fake head. Raises what `word` does.
    """
    page = kernel.page
    address = kernel.page_address(pfn)
    flags, info = word(address + page.flags), word(address + page.compound)
    steps = [
        f"page is {address:#x}, the struct page of pfn {pfn:#x}: page->{page.compound_field} is "
        f"{info:#x}, page->flags is {flags:#x}."
    ]
    if info & 1:
        head, more = _follow(kernel, address, info)
        return Resolved(PageClass.TAIL, head, flags, info, (*steps, *more))
    head, more = _fix_fake_head(kernel, pfn, flags, word)
    if head != pfn:
        kind = PageClass.FAKE_HEAD
    else:
        kind = PageClass.HEAD if flags & page.head_bit else PageClass.SINGLE
    return Resolved(kind, head, flags, info, (*steps, *more))


def _follow(kernel: Kernel, address: int, info: int) -> tuple[int | None, list[str]]:
    """Return the pfn of the head that a tail's compound word gives, and the steps to it."""
    page, field = kernel.page, kernel.page.compound_field
    encoding, heads = decode(
        np.array([info], np.uint64),
        np.array([address], np.uint64),
        page,
        (kernel.vmemmap, kernel.vmemmap_end),
    )
    tail = f"Bit 0 of {field} is set: a tail"
    if heads[0] == UNKNOWN_HEAD:
        return None, [
            f"{tail}. But the other bits are neither a mask nor the address of a struct page: "
            "there is no head to be found."
        ]
    head = int(heads[0])
    at = kernel.page_address(head)
    if encoding[0] == Encoding.MASK:  # 8c846c879e22 (7.1)
        clear = (info & ~1 & -(info & ~1)).bit_length() - 1
        shift = page.size.bit_length() - 1
        steps = [
            f"{tail}, and the word is the mask that leads to the head. Its low {clear} bits are "
            f"clear (bit 0 aside), {shift} of them for the {page.size} bytes of a struct page: "
            f"order {clear - shift}.",
            f"head = page & {field} = {address:#x} & {info:#x} = {at:#x}.",
        ]
    else:
        steps = [
            f"{tail}, and the other bits are the address of the head.",
            f"head = {field} - 1 = {info:#x} - 1 = {at:#x}.",
        ]
    return head, [*steps, f"That is the struct page of pfn {head:#x}."]


def _fix_fake_head(
    kernel: Kernel, pfn: int, flags: int, word: Callable[[int], int]
) -> tuple[int | None, list[str]]:
    """Return the head of a page that is no ordinary tail, and the steps to it.

    Fake heads came with e7d324850bfc (5.18) and went with 622026e87c40 (7.1), which came after the
    compound word had been renamed (d50569612c29, 7.1).
    """
    page, key = kernel.page, kernel.hvo.fake_head_key
    address = kernel.page_address(pfn)
    if page.compound_field == "compound_info":
        return pfn, ["Bit 0 of compound_info is clear: not a tail, so the head is page itself."]
    steps = ["Bit 0 of compound_head is clear: not an ordinary tail."]
    if key is None and not kernel.hvo.supported:
        return pfn, [*steps, "This kernel has no fake heads, so the head is page itself."]
    if key == 0:
        return pfn, [
            *steps,
            f"The static key {KEY} is off: no hugepage is optimized, so there are no fake heads, "
            "and the head is page itself.",
        ]
    state = "not known here, so it is taken for on" if key is None else f"on (its count is {key})"
    steps.append(f"The static key {KEY} is {state}: there may be fake heads.")
    if address % VMEMMAP_PAGE:
        return pfn, [
            *steps,
            f"page is not aligned to {VMEMMAP_PAGE} bytes, so it cannot be one: the head is page "
            "itself.",
        ]
    if not flags & page.head_bit:
        return pfn, [
            *steps,
            f"page is aligned to {VMEMMAP_PAGE} bytes, but PG_head ({page.head_bit:#x}) is clear "
            "in page->flags: no head of any kind, so the head is page itself.",
        ]
    steps.append(
        f"page is aligned to {VMEMMAP_PAGE} bytes and PG_head ({page.head_bit:#x}) is set in "
        "page->flags: a head, real or fake, which page[1] tells."
    )
    return _ask_next(kernel, pfn, word(address + page.size + page.compound), steps)


def _ask_next(
    kernel: Kernel, pfn: int, info: int, steps: list[str]
) -> tuple[int | None, list[str]]:
    """Return the head that the compound word of page[1], `info`, gives, and the steps to it."""
    if not info & 1:
        return pfn, [
            *steps,
            f"page[1].compound_head is {info:#x}: bit 0 is clear, so the head is page itself.",
        ]
    steps = [
        *steps,
        f"page[1].compound_head is {info:#x}: bit 0 is set, so "
        f"head = {info:#x} - 1 = {info - 1:#x}.",
    ]
    head, rest = divmod(info - 1 - kernel.vmemmap, kernel.page.size)
    if rest or not kernel.vmemmap <= info - 1 < kernel.vmemmap_end:
        return None, [*steps, "That is not the address of a struct page: there is no head."]
    if head == pfn:
        return pfn, [*steps, "That is page itself: a real head."]
    return head, [
        *steps,
        f"That is another page, pfn {head:#x}: page is a fake head. The frame that it reads is "
        "that of the real head, so it looks the same.",
    ]
