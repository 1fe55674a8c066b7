"""What `diff` asks: what changed between two scans."""

from __future__ import annotations

from pathlib import Path

from hvoinspect.report.diff import Diff, diff
from hvoinspect.report.scanfile import read_scan


def diff_files(before: Path, after: Path) -> Diff:
    """Compare the scans in two files. Raises HvoinspectError if one cannot be read, or is none."""
    return diff(read_scan(before), read_scan(after), (before, after))
