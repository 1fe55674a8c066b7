"""Whole questions in one call each: what the commands ask, for other programs to ask too."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from drgn import Program, ProgramFlags

from hvoinspect.errors import ExitStatus, HvoinspectError
from hvoinspect.report.page import PageJson, page_json
from hvoinspect.report.result import ScanResult, Taken, result_of, result_of_view
from hvoinspect.target import kernelview
from hvoinspect.target.address import Address, parse_address, place_of
from hvoinspect.target.capture import write_capture
from hvoinspect.target.layout import Kernel
from hvoinspect.target.open import (
    NoKcoreError,
    core_program,
    open_core,
    open_running,
    running_program,
)
from hvoinspect.vmemmap.explain import explain
from hvoinspect.vmemmap.scan import Scan, scan

Progress = Callable[[int, int], None]


def no_progress(_done: int, _total: int) -> None:
    """Show nothing."""


def scan_running(symbols: Path | None = None, progress: Progress = no_progress) -> ScanResult:
    """Scan the running kernel; where its memory cannot be read, return its own view instead.

    Raises HvoinspectError if neither can be had.
    """
    clock = _Clock()
    try:
        kernel = open_running(symbols)
    except NoKcoreError as no_kcore:
        return _own_view(no_kcore, clock, progress)
    result = scan(kernel, progress)
    return result_of(result, clock.taken(), _notes(result))


def scan_core(
    path: Path, symbols: Path | None = None, progress: Progress = no_progress
) -> ScanResult:
    """Scan a crash dump. Raises HvoinspectError."""
    clock = _Clock()
    return result_of(scan(open_core(path, symbols), progress), clock.taken())


def explain_page(address: str, core: Path | None = None, symbols: Path | None = None) -> PageJson:
    """Explain one struct page of the running kernel or of the crash dump `core`.

    `address` is what `target.address.parse_address` reads. Raises HvoinspectError.
    """
    wanted = parse_address(address)  # before the kernel is opened, which takes a while
    return explain_in(open_running(symbols) if core is None else open_core(core, symbols), wanted)


def explain_in(kernel: Kernel, address: Address) -> PageJson:
    """Explain one struct page of a kernel that is open, for many questions to one kernel.

    Raises HvoinspectError.
    """
    place = place_of(kernel, address)
    return page_json(explain(kernel, place.pfn), place.how)


def capture_running(output: Path, progress: Progress = no_progress) -> None:
    """Capture the running kernel to the file `output`. Raises HvoinspectError."""
    _capture(running_program(), output, progress)


def capture_core(path: Path, output: Path, progress: Progress = no_progress) -> None:
    """Capture from a crash dump, or from another capture, to `output`. Raises HvoinspectError."""
    _capture(core_program(path), output, progress)


def _capture(source: Program, output: Path, progress: Progress) -> None:
    live = bool(source.flags & ProgramFlags.IS_LIVE)
    write_capture(source, output, lambda kernel: _analyse(kernel, progress), live=live)


def _analyse(kernel: Kernel, progress: Progress) -> None:
    """Read all that any analysis reads."""
    scan(kernel, progress)


DEMOS = ("before", "after")
"""Captures that are shipped: of Linux 7.0 and of 7.1 (scripts/make-demos)."""


def demo_path(name: str) -> Path:
    """Return where the demo `name` is. Raises HvoinspectError if there is none of that name."""
    if name not in DEMOS:
        raise HvoinspectError(
            f"there is no demo {name}", f"give one of: {', '.join(DEMOS)}", ExitStatus.USAGE
        )
    return Path(__file__).parent / "demos" / f"{name}.hvo"


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
    note = _kpageflags_note(result.kernel, result)
    return [note] if note else []


def _kpageflags_note(kernel: Kernel, result: Scan) -> str | None:
    """Ask the kernel about a fake head, for those kernels that take it for a head themselves.

    Measured on 6.18 and 7.0: /proc/kpageflags sets COMPOUND_HEAD for every fake head.
    """
    pages = result.hugepages
    fakes = pages.where(pages.remapped & (pages.tail_frame == pages.head_frame))
    if not kernel.live or not len(fakes):
        return None
    each = np.uint64(4096 // kernel.page.size)
    flags = kernelview.read_kpageflags(int(fakes.pfn[0] + each))
    if flags is None or not flags & kernelview.COMPOUND_HEAD:
        return None
    return (
        "/proc/kpageflags of this kernel cannot be trusted for heads: "
        "it counts every fake head as a head."
    )
