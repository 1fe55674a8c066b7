"""What `scan` asks: what the vmemmap looks like, what HVO saves, and whether it is intact."""

from __future__ import annotations

import os
from collections.abc import Collection

import numpy as np

from hvoinspect.api.clock import Clock
from hvoinspect.api.progress import Progress, no_progress
from hvoinspect.errors import HvoinspectError, printable
from hvoinspect.report.result import HostJson, ScanResult, result_of, result_of_view
from hvoinspect.target import kernelview
from hvoinspect.target.choice import Target
from hvoinspect.target.denied import NoKcoreError
from hvoinspect.target.layout import Kernel
from hvoinspect.target.nodename import boot_id
from hvoinspect.target.open import open_target
from hvoinspect.target.sections import PAGE_TABLES
from hvoinspect.vmemmap.pages import PageClass
from hvoinspect.vmemmap.scan import Scan, scan


def scan_target(
    target: Target,
    progress: Progress = no_progress,
    ignored: Collection[str] = (),
    *,
    exhaustive: bool = False,
    jobs: int | None = None,
) -> ScanResult:
    """Scan a kernel; where the running one's memory cannot be read, return its own view instead.

    `exhaustive` and `jobs` are as in `vmemmap.scan.scan`. The rules whose names are `ignored` are
    left out, as `report.rules.known_rules` checks them.
    Raises HvoinspectError if neither can be had.
    """
    clock = Clock()
    try:
        kernel = open_target(target)
    except NoKcoreError as no_kcore:
        return own_view(no_kcore, clock, progress)
    return scan_kernel(kernel, progress, ignored, exhaustive=exhaustive, jobs=jobs, clock=clock)


def scan_kernel(
    kernel: Kernel,
    progress: Progress = no_progress,
    ignored: Collection[str] = (),
    *,
    exhaustive: bool = False,
    jobs: int | None = None,
    clock: Clock | None = None,
) -> ScanResult:
    """Scan a kernel that is open, for many scans of one kernel; the rest as in `scan_target`.

    `clock` has run since the scan was asked for, if that is longer ago.
    """
    clock = clock or Clock()
    result = scan(kernel, progress, ignored, exhaustive=exhaustive, jobs=jobs)
    return result_of(result, clock.taken(), _notes(result), _host(kernel))


def own_view(no_kcore: NoKcoreError, clock: Clock, progress: Progress) -> ScanResult:
    """Return the running kernel's own view, because of `no_kcore`.

    Raises HvoinspectError if that cannot be had either.
    """
    try:
        view = kernelview.look(progress=progress)
    except HvoinspectError as error:
        raise HvoinspectError(f"{no_kcore.why}, and {error.why}", no_kcore.remedy) from error
    why = f"{no_kcore.why}; {no_kcore.remedy}"
    host: HostJson = {"name": printable(os.uname().nodename), "boot_id": boot_id()}
    return result_of_view(view, clock.taken(), why, host)


def _host(kernel: Kernel) -> HostJson:
    running = kernel.source.kind == "kcore"
    return {"name": kernel.node_name(), "boot_id": boot_id() if running else None}


def _notes(result: Scan) -> list[str]:
    notes = (
        _kpageflags_note(result.kernel, result),
        _dump_note(result),
        _sections_note(result),
        _unstable_note(result),
    )
    return [note for note in notes if note]


def _dump_note(result: Scan) -> str | None:
    lost = result.classes[PageClass.UNREADABLE]
    if result.kernel.source.kind != "core" or not lost:
        return None
    return (
        f"the dump does not hold {lost:,} struct pages, or they cannot be read: it was filtered "
        "(makedumpfile -e leaves them out), is incomplete, was cut short, or its disk fails."
    )


def _unstable_note(result: Scan) -> str | None:
    if not result.unstable:
        return None
    rules = ", ".join(f"{rule} ({count})" for rule, count in result.unstable.items())
    return f"unstable: what looked wrong did not when it was read again, and is no finding: {rules}"


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
