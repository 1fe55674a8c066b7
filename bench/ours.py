"""The scan that is measured."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from hvoinspect.target.layout import Kernel
from hvoinspect.vmemmap.scan import Scan, scan

PROJECT = Path(__file__).resolve().parents[1]


def known(**options: Any) -> dict[str, Any]:
    """Return those of `options` that the scan at hand takes; one without `exhaustive` always is."""
    return {name: v for name, v in options.items() if name in inspect.signature(scan).parameters}


def modes() -> dict[str, bool]:
    """Return the ways of scanning there are, by name, and whether each is exhaustive."""
    return (
        {"default": False, "exhaustive": True} if known(exhaustive=True) else {"exhaustive": True}
    )


def scan_kernel(kernel: Kernel, *, exhaustive: bool, jobs: int) -> Scan:
    """Scan a kernel that is open."""
    return scan(kernel, **known(exhaustive=exhaustive, jobs=jobs))


def scan_options(*, exhaustive: bool, jobs: int) -> list[str]:
    """Return the options of the command line that say the same."""
    options = known(exhaustive=exhaustive, jobs=jobs)
    words = ["--exhaustive"] if options.get("exhaustive") else []
    return words + (["--jobs", str(jobs)] if "jobs" in options else [])
