"""What came of many dumps: its JSON, and on a terminal."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TypedDict

from rich.console import Console

from hvoinspect.errors import ExitStatus, printable
from hvoinspect.fleet.one_dump import Scanned
from hvoinspect.report.result import ScanResult
from hvoinspect.report.sentence import Sentence
from hvoinspect.version import __version__

SCHEMA = "hvoinspect.fleet-scan/1"


class DumpJson(TypedDict):
    """What came of one dump: `status` is its scan's exit status, None if there is none."""

    dump: str
    scan: str | None
    status: int | None
    host: str | None
    release: str | None
    errors: int | None
    warnings: int | None
    fraction: float | None
    seconds: float
    worker: str | None
    why: str | None


class Summary(TypedDict):
    """What `hvoinspect fleet scan --json` prints; `skipped` dumps had a scan already."""

    schema: str
    version: str
    scheduler: str | None
    dumps: int
    scanned: int
    failed: int
    skipped: int
    seconds: float
    results: list[DumpJson]


def dump_json(dump: Path, came: Scanned, scan: ScanResult | None, output: Path | None) -> DumpJson:
    """Return what came of one dump; `scan` was read from what the worker returned."""
    return {
        "dump": printable(str(dump)),
        "scan": printable(str(output)) if output and scan else None,
        "status": came.status if scan else None,
        "host": scan["host"]["name"] if scan else None,
        "release": scan["kernel"]["release"] if scan else None,
        "errors": scan["findings_count"]["error"] if scan else None,
        "warnings": scan["findings_count"]["warning"] if scan else None,
        "fraction": scan["coverage"]["fraction"] if scan else None,
        "seconds": round(came.seconds, 3),
        "worker": printable(came.worker) or None,
        "why": printable(came.why) if came.why else None,
    }


def summary(
    results: list[DumpJson], scheduler: str | None, skipped: int, seconds: float
) -> Summary:
    """Put together what came of all dumps."""
    failed = sum(one["status"] is None for one in results)
    return {
        "schema": SCHEMA,
        "version": __version__,
        "scheduler": scheduler and printable(scheduler),
        "dumps": len(results) + skipped,
        "scanned": len(results) - failed,
        "failed": failed,
        "skipped": skipped,
        "seconds": round(seconds, 3),
        "results": sorted(results, key=lambda one: one["dump"]),
    }


def to_json(found: Summary) -> str:
    """Return the summary as one JSON object, ending in a newline."""
    return json.dumps(found, indent=2) + "\n"


def exit_status(found: Summary) -> ExitStatus:
    """Return what scanning exits with; a dump that could not be scanned outweighs findings."""
    if found["failed"] and not found["scanned"] + found["skipped"]:
        return ExitStatus.CANNOT_INSPECT
    if found["failed"]:
        return ExitStatus.PARTIAL
    statuses = {one["status"] for one in found["results"]}
    worst = (ExitStatus.FINDINGS, ExitStatus.PARTIAL)
    return next((status for status in worst if status in statuses), ExitStatus.OK)


def show(found: Summary, console: Console) -> None:
    """Print what could not be scanned, and why, and what has errors; then how many there are."""
    for one in found["results"]:
        if one["why"] is not None:
            text = f"could not be scanned: {one['dump']}: {one['why']}"
            console.print(Sentence(text, "red", indent=2), highlight=False)
        elif one["errors"]:
            text = f"{one['errors']:,} error{'s' * (one['errors'] > 1)}: {one['dump']}"
            console.print(Sentence(text, "yellow", indent=2), highlight=False)
    workers = Counter(one["worker"] for one in found["results"] if one["worker"])
    parts = [f"{found['scanned']:,} of {found['dumps']:,} dumps scanned"]
    if len(workers) > 1:
        parts.append(f"on {len(workers):,} hosts")
    if found["skipped"]:
        parts.append(f"{found['skipped']:,} had a scan already")
    if found["failed"]:
        parts.append(f"{found['failed']:,} could not be scanned")
    with_errors = sum(bool(one["errors"]) for one in found["results"])
    if with_errors:
        parts.append(f"{with_errors:,} with errors")
    console.print(Sentence(f"{', '.join(parts)}.", "bold"), highlight=False)
