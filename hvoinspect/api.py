"""Whole questions in one call each: what the commands ask, for other programs to ask too."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np

from hvoinspect.errors import HvoinspectError
from hvoinspect.report.page import PageJson, page_json
from hvoinspect.report.result import ScanResult, Taken, result_of, result_of_view
from hvoinspect.target import kernelview
from hvoinspect.target.address import Address, parse_address, place_of
from hvoinspect.target.capture import write_capture
from hvoinspect.target.choice import Target
from hvoinspect.target.layout import Kernel
from hvoinspect.target.open import NoKcoreError, open_program, open_target
from hvoinspect.target.sections import PAGE_TABLES
from hvoinspect.vmemmap.explain import explain
from hvoinspect.vmemmap.pages import PageClass
from hvoinspect.vmemmap.scan import Scan, scan

Progress = Callable[[int, int], None]


def no_progress(_done: int, _total: int) -> None:
    """Show nothing."""


def scan_target(
    target: Target, progress: Progress = no_progress, ignored: Collection[str] = ()
) -> ScanResult:
    """Scan a kernel; where the running one's memory cannot be read, return its own view instead.

    The rules whose names are `ignored` are left out, as `report.rules.known_rules` checks them.
    Raises HvoinspectError if neither can be had.
    """
    clock = _Clock()
    try:
        kernel = open_target(target)
    except NoKcoreError as no_kcore:
        return _own_view(no_kcore, clock, progress)
    result = scan(kernel, progress, ignored)
    return result_of(result, clock.taken(), _notes(result))


def explain_page(address: str, target: Target) -> PageJson:
    """Explain one struct page of a kernel.

    `address` is what `target.address.parse_address` reads. Raises HvoinspectError.
    """
    wanted = parse_address(address)  # before the kernel is opened, which takes a while
    return explain_in(open_target(target), wanted)


def explain_in(kernel: Kernel, address: Address) -> PageJson:
    """Explain one struct page of a kernel that is open, for many questions to one kernel.

    Raises HvoinspectError.
    """
    place = place_of(kernel, address)
    return page_json(explain(kernel, place.pfn), place.how)


def capture_target(target: Target, output: Path, progress: Progress = no_progress) -> None:
    """Capture a kernel to the file `output`, which is replaced. Raises HvoinspectError."""
    opened = open_program(target)
    write_capture(
        opened.prog, output, lambda kernel: _analyse(kernel, progress), live=opened.running
    )


def _analyse(kernel: Kernel, progress: Progress) -> list[int]:
    """Read all that any analysis reads; return the pfns of a hugepage's head and of its tail."""
    heads = scan(kernel, progress).hugepages.pfn[:1].tolist()
    first = int(kernel.sections.numbers[0]) * kernel.sections.pages
    return [first, *heads, *(head + 1 for head in heads)]


class _Clock:
    def __init__(self) -> None:
        self.at = dt.datetime.now(dt.UTC)
        self.start = time.monotonic()

    def taken(self) -> Taken:
        return Taken(self.at, time.monotonic() - self.start)


def _own_view(no_kcore: NoKcoreError, clock: _Clock, progress: Progress) -> ScanResult:
    try:
        view = kernelview.look(progress=progress)
    except HvoinspectError as error:
        raise HvoinspectError(f"{no_kcore.why}, and {error.why}", no_kcore.remedy) from error
    return result_of_view(view, clock.taken(), f"{no_kcore.why}; {no_kcore.remedy}")


def _notes(result: Scan) -> list[str]:
    notes = (_kpageflags_note(result.kernel, result), _dump_note(result), _sections_note(result))
    return [note for note in notes if note]


def _dump_note(result: Scan) -> str | None:
    lost = result.classes[PageClass.UNREADABLE]
    if result.kernel.source.kind != "core" or not lost:
        return None
    return (
        f"the dump does not hold {lost:,} struct pages: it was filtered (makedumpfile -e leaves "
        "them out), is incomplete, or was cut short."
    )


def _sections_note(result: Scan) -> str | None:
    if result.kernel.origins.get("mem_section") != PAGE_TABLES:
        return None
    return (
        "the kernel's table of memory sections is missing: which memory has struct pages was read "
        "off the page tables, and which of it is offline is not known."
    )


def _kpageflags_note(kernel: Kernel, result: Scan) -> str | None:
    """Ask the kernel about a fake head, for those kernels that take it for a head themselves.

    Measured on 6.18 and 7.0: /proc/kpageflags sets COMPOUND_HEAD for every fake head.
    """
    pages = result.hugepages
    fakes = pages.where(pages.remapped & (pages.tail_frame == pages.head_frame))
    if kernel.source.kind != "kcore" or not len(fakes):
        return None
    each = np.uint64(4096 // kernel.page.size)
    flags = kernelview.read_kpageflags(int(fakes.pfn[0] + each))
    if flags is None or not flags & kernelview.COMPOUND_HEAD:
        return None
    return (
        "/proc/kpageflags of this kernel cannot be trusted for heads: "
        "it counts every fake head as a head."
    )
