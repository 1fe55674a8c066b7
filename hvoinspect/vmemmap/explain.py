"""Explains one struct page: what it is, how the kernel finds its head, and what maps it.

Only what this takes is read: some words of the page and of its head, and the page tables behind
its hugepage, or behind the 2 MiB of vmemmap around it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from hvoinspect.errors import HvoinspectError
from hvoinspect.target.layout import Bits, Kernel, PageField
from hvoinspect.target.ranges import each_once
from hvoinspect.vmemmap.confirm import PAUSE_SECONDS, REREADS
from hvoinspect.vmemmap.pages import PageClass
from hvoinspect.vmemmap.pagetable import BLOCK
from hvoinspect.vmemmap.resolve import Resolved, resolve
from hvoinspect.vmemmap.window import Window, open_window


@dataclass(frozen=True)
class Zone:
    """A zone: its node, and its index among the node's zones."""

    node: int
    index: int


@dataclass(frozen=True)
class Hugepage:
    """A hugetlb page. What is None could not be read, or this kernel does not tell it.

    `free`: in its pool (HPG_freed). `flagged`: HPG_vmemmap_optimized. `vmemmap_pages`: how many
    hold its struct pages; `frames`: how many distinct frames are behind them. `optimized`: fewer
    than those that are mapped, whatever the flag says.
    """

    pfn: int
    order: int
    zone: Zone
    free: bool | None
    flagged: bool | None
    vmemmap_pages: int
    frames: int | None

    @property
    def optimized(self) -> bool | None:
        """Whether some of its vmemmap pages share a frame."""
        return None if self.frames is None else self.frames < self.vmemmap_pages


@dataclass(frozen=True)
class Backing:
    """What a struct page is mapped to.

    `shared_by`: how many vmemmap pages are mapped to `frame`, this one included, of the `looked_at`
    ones: those of the hugepage, or those of the same 2 MiB of vmemmap. `tail_of`: the zone whose
    shared tail frame it is (7.1+), and so that of all optimized hugepages of that size in it.
    """

    frame: int
    writable: bool
    large: bool
    """Mapped 2 MiB or more at a time."""
    shared_by: int
    looked_at: int
    tail_of: Zone | None


@dataclass(frozen=True)
class Explanation:
    """All that is known of one struct page.

    `order` is that of the compound page that it belongs to, 0 if it is single, None if its head
    cannot be looked at. `problem` says what is wrong with it, `missing` what could not be read.
    """

    kernel: Kernel
    pfn: int
    online: bool
    resolved: Resolved
    order: int | None
    hugepage: Hugepage | None
    backing: Backing
    problem: str | None
    missing: str | None

    @property
    def address(self) -> int:
        """Where the struct page is."""
        return self.kernel.page_address(self.pfn)


def explain(kernel: Kernel, pfn: int) -> Explanation:
    """Explain the struct page of `pfn`, which a present section has.

    What looks wrong on a live kernel is read again, for compound pages come and go. Raises
    HvoinspectError if no struct page is mapped there, or if it cannot be read.
    """
    found = _look_at(kernel, pfn)
    for _ in range(REREADS if kernel.live else 0):
        if found.problem is None:
            break
        time.sleep(PAUSE_SECONDS)
        found = _look_at(kernel, pfn)
    return found


def _look_at(kernel: Kernel, pfn: int) -> Explanation:
    page, sections = kernel.page, kernel.sections
    address = kernel.page_address(pfn)
    block = address & -BLOCK
    around = open_window(kernel, block, max(BLOCK, address + 2 * page.size - block))
    online = bool(sections.online[np.searchsorted(sections.numbers, pfn // sections.pages)])
    resolved = resolve(kernel, pfn, around.word) if online else _offline(kernel, pfn, around)
    head = _look_at_head(kernel, pfn, resolved, around)
    return Explanation(
        kernel=kernel,
        pfn=pfn,
        online=online,
        resolved=resolved,
        order=head.order,
        hugepage=head.hugepage,
        backing=_backing(kernel, address, head.vmemmap_pages or around),
        problem=head.problem,
        missing=head.missing,
    )


def _offline(kernel: Kernel, pfn: int, window: Window) -> Resolved:
    page = kernel.page
    address = kernel.page_address(pfn)
    return Resolved(
        PageClass.SINGLE,
        pfn,
        window.word(address + page.flags),
        window.word(address + page.compound),
        (
            f"Section {pfn // kernel.sections.pages} of memory is offline: the kernel looks at "
            "none of its struct pages, so what this one holds means nothing.",
        ),
    )


@dataclass(frozen=True)
class _Head:
    """What the head of a page tells; `vmemmap_pages` are those of its hugepage."""

    order: int | None = None
    hugepage: Hugepage | None = None
    vmemmap_pages: Window | None = None
    problem: str | None = None
    missing: str | None = None


def _look_at_head(kernel: Kernel, pfn: int, resolved: Resolved, around: Window) -> _Head:
    """Look at the head of `pfn`; `around` is a window that may hold it already."""
    if resolved.kind == PageClass.SINGLE:
        return _Head(order=0)
    if resolved.head is None:
        return _Head(problem="the word that should lead to its head leads to no struct page")
    try:
        return _read_head(kernel, pfn, resolved.head, around)
    except HvoinspectError as error:
        return _Head(missing=error.why)


def _read_head(kernel: Kernel, pfn: int, head: int, around: Window) -> _Head:
    """Read the head of `pfn`. Raises HvoinspectError if that is not possible."""
    page = kernel.page
    address = kernel.page_address(head)
    size = 2 * page.size
    window = around if around.holds(address, size) else open_window(kernel, address, size)
    flags, info = window.word(address + page.flags), window.word(address + page.compound)
    if info & 1 or not flags & page.head_bit:
        return _Head(problem=f"pfn {head:#x}, to which it leads, is not a head")
    order = _value(kernel, window, address, page.order)
    if not 0 <= pfn - head < 1 << order:
        return _Head(
            problem=f"it leads to pfn {head:#x}, whose compound page of order {order} does not "
            "include it"
        )
    if not _is_hugetlb(kernel, window, head, order):
        return _Head(order)
    return _hugepage(kernel, window, head, order)


def _is_hugetlb(kernel: Kernel, window: Window, head: int, order: int) -> bool:
    """Tell whether a head is a hugetlb page's, by the rules of `hugepages.find_hugepages`."""
    mark = kernel.page.hugetlb
    if mark is None or head % (1 << order) or order not in {h.order for h in kernel.hstates}:
        return False
    value = _value(kernel, window, kernel.page_address(head), mark.where)
    return _bits(value, mark.bits) == mark.value


def _hugepage(kernel: Kernel, window: Window, head: int, order: int) -> _Head:
    page = kernel.page
    address = kernel.page_address(head)
    flags, private = window.word(address + page.flags), window.word(address + page.private)
    vmemmap_pages = open_window(kernel, address, page.size << order)
    mapped = vmemmap_pages.pages
    unseen = int((~mapped.present).sum())
    hugepage = Hugepage(
        pfn=head,
        order=order,
        zone=Zone(_bits(flags, page.node), _bits(flags, page.zone)),
        free=_flag(private, page.hugetlb_free),
        flagged=_flag(private, page.hugetlb_optimized),
        vmemmap_pages=len(mapped.frame),
        frames=None if unseen else len(each_once(mapped.frame)),
    )
    missing = f"{unseen} vmemmap pages of its hugepage are not mapped, or cannot be followed"
    return _Head(order, hugepage, vmemmap_pages, missing=missing if unseen else None)


def _backing(kernel: Kernel, address: int, window: Window) -> Backing:
    """Return what the struct page at `address` is mapped to, and what else in `window` is so.

    Raises HvoinspectError if that cannot be told.
    """
    frame, at, mapped = window.frame(address), window.index(address), window.pages
    tails = {frame: Zone(node, zone) for (node, zone, _), frame in kernel.tail_frames().items()}
    return Backing(
        frame=frame,
        writable=bool(mapped.writable[at]),
        large=not mapped.split[at],
        shared_by=int((mapped.present & (mapped.frame == frame)).sum()),
        looked_at=int(mapped.present.sum()),
        tail_of=tails.get(frame),
    )


def _value(kernel: Kernel, window: Window, head: int, where: PageField) -> int:
    """Return a value that the compound page with its head at the address `head` keeps."""
    address = head + where.index * kernel.page.size + where.offset
    return _bits(window.word(address & -8), Bits(8 * (address & 7), (1 << 8 * where.size) - 1))


def _flag(word: int, mask: int | None) -> bool | None:
    return None if mask is None else word & mask != 0


def _bits(word: int, bits: Bits) -> int:
    return word >> bits.shift & bits.mask
