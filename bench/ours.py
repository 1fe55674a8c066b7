"""The scan that is measured."""

from __future__ import annotations

import sys
from pathlib import Path

from hvoinspect.target.layout import Kernel
from hvoinspect.vmemmap.scan import Scan, scan

PROJECT = Path(__file__).resolve().parents[1]
HVOINSPECT = (sys.executable, "-m", "hvoinspect")
MODES = {"default": False, "exhaustive": True}
"""The ways of scanning, and whether each reads all."""


def scan_kernel(kernel: Kernel, mode: str, jobs: int) -> Scan:
    """Scan a kernel that is open, in `jobs` processes."""
    return scan(kernel, exhaustive=MODES[mode], jobs=jobs)


def scan_command(path: Path, mode: str, jobs: int) -> list[str]:
    """Return the command that scans a dump so."""
    more = ["--exhaustive"] if MODES[mode] else []
    return [*HVOINSPECT, "scan", "--json", "-c", str(path), "--jobs", str(jobs), *more]
