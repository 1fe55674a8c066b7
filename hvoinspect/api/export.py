"""What `export` does: scans a kernel, once or again and again, and hands on what came of each."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import replace

from hvoinspect.report.openmetrics import Counts, Snapshot, success_time
from hvoinspect.report.result import ScanResult

Scan = Callable[[], ScanResult]
"""Makes a scan. Raises HvoinspectError, or whatever a bug raises."""
Publish = Callable[[Snapshot], None]
"""Takes what came of a scan. Raises HvoinspectError if it cannot."""


def attempt(scan: Scan, before: Snapshot) -> tuple[Snapshot, Exception | None]:
    """Make a scan; return what there is to export after it, and why it failed, if it did.

    A scan that failed has no result: what the one before it saw is not passed off as what is. When
    one last succeeded is kept of `before`.
    """
    begun, start = time.time(), time.monotonic()
    result: ScanResult | None = None
    failure: Exception | None = None
    try:
        result = scan()
    except Exception as error:  # noqa: BLE001 - told by who asked; a bug must not end a daemon
        failure = error
    counts = before.counts
    if counts is not None:
        counts = Counts(counts.scans + 1, counts.failures + (failure is not None))
    if result is None:
        seconds = round(time.monotonic() - start, 3)
        after = replace(before, result=None, begun=float(int(begun)), seconds=seconds)
    else:
        at = success_time(result)
        after = Snapshot(result, at, result["elapsed_seconds"], last_success=at)
    return replace(after, counts=counts), failure


def keep_scanning(
    scan: Scan,
    publish: Publish,
    tell: Callable[[Exception], None],
    interval: float,
    before: Snapshot,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Scan again and again, at most once in `interval` seconds, until an interrupt is raised.

    `tell` hears of what failed, scans and `publish`; neither ends it. Scans follow each other in
    the calling thread, so they never overlap, and an interrupt ends one that is being made.
    """
    snapshot = replace(before, counts=Counts())
    while True:
        start = time.monotonic()
        snapshot, failure = attempt(scan, snapshot)
        if failure is not None:
            tell(failure)
        try:
            publish(snapshot)
        except Exception as error:  # noqa: BLE001 - as above
            tell(error)
        # A kernel that was looked at refers to itself, and has files open and 10 MB of names.
        # Python looks for such rarely: measured, 350 MB after 60 scans instead of 86.
        gc.collect()
        sleep(max(0.0, interval - (time.monotonic() - start)))
