"""The scan that is measured."""

from __future__ import annotations

import sys
from pathlib import Path

from hvoinspect.cli.scan import scan as command
from hvoinspect.target.layout import Kernel
from hvoinspect.vmemmap.scan import Scan, scan

PROJECT = Path(__file__).resolve().parents[1]
HVOINSPECT = (sys.executable, "-m", "hvoinspect")
MODES = {"default": False, "exhaustive": True}
"""The ways of scanning, and whether each reads all."""


def scan_kernel(kernel: Kernel, mode: str, jobs: int | None) -> Scan:
    """Scan a kernel that is open; without `jobs` in as many processes as the scan itself takes."""
    return scan(kernel, exhaustive=MODES[mode], jobs=jobs)


def scan_command(path: Path, mode: str, jobs: int | None) -> list[str] | None:
    """Return the command that scans a dump so; None while it has no option that says it."""
    options = {option.name for option in command.params}
    words = ["--exhaustive"] if MODES[mode] else []
    words += ["--jobs", str(jobs)] if jobs and "jobs" in options else []
    if MODES[mode] and "exhaustive" not in options:
        return None
    return [*HVOINSPECT, "scan", "--json", "-c", str(path), *words]
