"""Made-up fleets: files of scans whose answers are known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.report.situations import situation

Scan = dict[str, Any]


def scan_of(host: str | None, name: str = "mask", **changes: object) -> Scan:
    """A scan of one of the situations, as from a host of that name."""
    scan: Scan = {**situation(name)}
    scan["host"] = {"name": host, "boot_id": None}
    return {**scan, **changes}


def write(folder: Path, **scans: Scan) -> Path:
    """Write scans to files of their names."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, scan in scans.items():
        (folder / f"{name}.json").write_text(json.dumps(scan))
    return folder


def saving(host: str, saved: int, potential: int) -> Scan:
    """A scan that saves so much of what it could."""
    scan = scan_of(host)
    figures = {
        "saved_bytes": saved,
        "net_saved_bytes": saved - 4096,
        "split_cost_bytes": 4096,
        "potential_bytes": potential,
    }
    return {**scan, "vmemmap": {**scan["vmemmap"], **figures}}
