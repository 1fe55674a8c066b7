"""Helpers for drgn's prompt and its scripts: what hvoinspect knows of the kernel that is open.

    >>> from hvoinspect.plugin.helpers import *
    >>> hvo_page(page)["class"]
    'fake_head'

They take the program first, as all of drgn's helpers do, and it may be left out as in these. The
program is only read. What is learned of its kernel is kept in `prog.cache`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from drgn import IntegerLike, Object, Program
from drgn.helpers.common.prog import takes_program_or_default

from hvoinspect.api.page import explain_in
from hvoinspect.api.scan import scan_kernel
from hvoinspect.api.watch import as_it_is
from hvoinspect.report.page import PageJson
from hvoinspect.report.result import ScanResult
from hvoinspect.target.address import Address, parse_address
from hvoinspect.target.choice import Target
from hvoinspect.target.layout import Kernel
from hvoinspect.target.open import open_target
from hvoinspect.vmemmap.scan import scan

__all__ = ("HugetlbPage", "for_each_hugetlb_page", "hvo_page", "hvo_scan")

_KEY = "hvoinspect.kernel"


class HugetlbPage(NamedTuple):
    """A hugetlb page, in use or free.

    `page` is the `struct page *` of its head, `order` log2 of its pages, `node` its NUMA node.
    `optimized`: tail vmemmap pages of it share a frame, whatever the flag on it says. `partly`:
    some of them do, and all others have writable frames of their own.
    """

    page: Object
    order: int
    node: int
    optimized: bool
    partly: bool


@takes_program_or_default
def hvo_scan(prog: Program, *, exhaustive: bool = False) -> ScanResult:
    """
    Scan the kernel: what ``hvoinspect scan --json`` prints.

    :param exhaustive: Read every struct page; infer nothing.
    :raises HvoinspectError: if it cannot be looked at
    """
    return scan_kernel(_kernel(prog), exhaustive=exhaustive)


@takes_program_or_default
def hvo_page(prog: Program, page: IntegerLike | str) -> PageJson:
    """
    Explain a struct page: what ``hvoinspect page --json`` prints.

    :param page: ``struct page *``, or any address as ``%hvo page`` takes it: ``"pfn:0x40001"``
    :raises HvoinspectError: if it leads to no struct page, or the kernel cannot be looked at
    """
    text = isinstance(page, str)
    address = parse_address(page) if text else Address("virtual", int(page) & (1 << 64) - 1)
    return explain_in(_kernel(prog), address)


@takes_program_or_default
def for_each_hugetlb_page(prog: Program) -> Iterator[HugetlbPage]:
    """
    Iterate over all hugetlb pages, free ones and those in use, in the order of their addresses.

    :raises LookupError: if drgn has no type ``struct page``
    :raises HvoinspectError: if the kernel cannot be looked at
    """
    kernel, pointer = _kernel(prog), prog.type("struct page *")
    pages = scan(kernel).hugepages
    columns = (pages.pfn, pages.order, pages.node, pages.remapped, pages.partly)
    for pfn, order, node, optimized, partly in zip(*(c.tolist() for c in columns), strict=True):
        page = Object(prog, pointer, kernel.vmemmap + pfn * kernel.page.size)
        yield HugetlbPage(page, order, node, optimized, partly)


def _kernel(prog: Program) -> Kernel:
    known: Kernel | None = prog.cache.get(_KEY)
    kernel = as_it_is(known) or open_target(Target(program=prog))
    prog.cache[_KEY] = kernel
    return kernel
