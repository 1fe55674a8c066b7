"""Whole questions in one call each: what the commands ask, for other programs to ask too."""

from __future__ import annotations

import contextlib
import datetime as dt
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np

from hvoinspect.errors import HvoinspectError
from hvoinspect.hotpath.outcome import counts_of, run_of
from hvoinspect.hotpath.plan import Plan, Wish, check_root, choose
from hvoinspect.hotpath.record import Work, record
from hvoinspect.hotpath.run import Count, Run
from hvoinspect.hotpath.workload import Command, Request, stoppable
from hvoinspect.report.page import PageJson, page_json
from hvoinspect.report.result import (
    ScanResult,
    Taken,
    kernel_json,
    own_encoding,
    result_of,
    result_of_view,
)
from hvoinspect.target import kernelview
from hvoinspect.target.address import Address, parse_address, place_of
from hvoinspect.target.capture import write_capture
from hvoinspect.target.choice import Target
from hvoinspect.target.denied import NoKcoreError
from hvoinspect.target.layout import Kernel
from hvoinspect.target.open import open_program, open_target
from hvoinspect.target.sections import PAGE_TABLES
from hvoinspect.vmemmap.explain import explain
from hvoinspect.vmemmap.pages import PageClass
from hvoinspect.vmemmap.scan import Scan, scan

Progress = Callable[[int, int], None]


class Watch(Protocol):
    """Sees a recording grow."""

    interval: float
    """Seconds between two looks."""

    def attached(self, plan: Plan) -> None:
        """Hear that all is attached and counting begins."""

    def show(self, counts: Sequence[Count], seconds: float) -> None:
        """See the counts so far, and the seconds they took."""


def no_progress(_done: int, _total: int) -> None:
    """Show nothing."""


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
    clock = _Clock()
    try:
        kernel = open_target(target)
    except NoKcoreError as no_kcore:
        return _own_view(no_kcore, clock, progress)
    result = scan(kernel, progress, ignored, exhaustive=exhaustive, jobs=jobs)
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


def record_hot_path(wish: Wish, request: Request, watch: Watch | None = None) -> Run:
    """Count the hot path of the running kernel while a command runs or for some time.

    `watch` sees the counts as they grow. SIGINT, SIGTERM and SIGHUP end it early, and what was
    counted so far is returned; call it in the main thread. Raises HvoinspectError.
    """
    check_root()
    told = kernelview.identify()
    kernel, encoding = kernel_json(told.identity), own_encoding(told)
    with contextlib.ExitStack() as stack:
        stack.enter_context(stoppable())
        command = None
        if request.command:
            command = Command(request)
            stack.callback(command.end)
        only = wish.only
        if request.command_only and command is not None:
            only = replace(only, process=command.process)
        plan = choose(replace(wish, only=only), told.identity.build_id, encoding["tail"])
        stack.callback(plan.counter.close)
        recording = record(
            plan.counter,
            list(plan.points.keys) if plan.points else [],
            Work(command, request.seconds),
            budget=wish.budget,
            interval=watch.interval if watch else None,
            show=lambda hits, gone: watch.show(counts_of(plan, hits), gone) if watch else None,
            ready=lambda: watch.attached(plan) if watch else None,
        )
    workload: dict[str, object] = {
        "command": list(request.command) or None,
        "status": command.status if command else None,
        "asked": request.seconds,
        "pid": wish.only.process,
        "cgroup": str(wish.only.cgroup) if wish.only.cgroup else None,
        "command_only": request.command_only or None,
        "units": request.units,
        "unit": request.unit,
    }
    return run_of(plan, recording, kernel=dict(kernel), encoding=dict(encoding), workload=workload)


def capture_target(target: Target, output: Path, progress: Progress = no_progress) -> None:
    """Capture a kernel to the file `output`, which is replaced. Raises HvoinspectError."""
    opened = open_program(target)
    write_capture(
        opened.prog, output, lambda kernel: _analyse(kernel, progress), live=opened.running
    )


def _analyse(kernel: Kernel, progress: Progress) -> list[int]:
    """Read all that any analysis reads; return the pfns of a hugepage's head and of its tail."""
    heads = scan(kernel, progress, exhaustive=True, jobs=1).hugepages.pfn[:1].tolist()
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
