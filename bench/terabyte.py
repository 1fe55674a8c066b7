"""Scans of made-up machines of up to 1 TiB, as whole commands."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.clock import Times, in_turns
from bench.ours import MODES, scan_command
from bench.process import peak_memory, run
from bench.tables import Column, Kind, Table, Value
from lab.errors import LabError
from tests.bigmachine.dump import write_dump
from tests.bigmachine.makeup import Makeup
from tests.madeup import TAILS

SIZES = (64, 256, 1024)
"""GiB."""
GOAL_SECONDS, GOAL_BYTES, GOAL_SIZE = 3.0, 300e6, 1024
_COLUMNS = (
    Column("machine", "machine", Kind.TEXT),
    Column("scan", "scan", Kind.TEXT),
    Column("struct_pages", "struct pages", Kind.COUNT),
    Column("frames", "distinct frames", Kind.COUNT),
    Column("read", "read", Kind.PERCENT),
    Column("seconds", "least", Kind.SECONDS),
    Column("seconds_median", "median", Kind.SECONDS),
    Column("processor", "CPU", Kind.SECONDS),
    Column("rate", "pages", Kind.RATE),
    Column("peak_bytes", "memory", Kind.MEGABYTES),
    Column("met", "goal met", Kind.MET),
)


def terabyte(
    repeats: int, jobs: int | None, folder: Path, sizes: Sequence[int], say: Callable[[str], None]
) -> list[Table]:
    """Scan machines of `sizes` GiB in both encodings; they are made in `folder`, and removed.

    Raises LabError if a scan finds anything else than what was made.
    """
    rows = []
    with tempfile.TemporaryDirectory(dir=folder, prefix="machine-") as made:
        for gib in sizes:
            for tail in TAILS:
                makeup, path = Makeup.usual(gib, tail), Path(made, f"{gib}-{tail}")
                say(f"making a machine of {gib} GiB, tails as {tail}s")
                write_dump(makeup, path)
                for mode in MODES:
                    if command := scan_command(path, mode, jobs):
                        say(f"scanning it: {mode}")
                        rows.append(_row(makeup, command, repeats, mode))
                path.unlink()
    goal = f"The goal: {GOAL_SECONDS:g} s and {GOAL_BYTES / 1e6:.0f} MB for 1 TiB, by default."
    return [Table("A made-up terabyte", _COLUMNS, tuple(rows), (goal, *_NOTES))]


_NOTES = (
    "Times are of the whole command, from a dump in the page cache; memory is what all its "
    "processes have at one moment, in a run of its own.",
    "Every scan finds exactly what was made: counts, pools, frames, bytes saved, no finding.",
)


def _row(makeup: Makeup, command: list[str], repeats: int, mode: str) -> tuple[Value, ...]:
    times, last = in_turns({"scan": lambda: run(command)}, repeats)
    result = json.loads(last["scan"])
    check(makeup, result)
    return _figures(makeup, result, times["scan"], peak_memory(command), mode)


def check(makeup: Makeup, result: dict[str, Any]) -> None:
    """Hold a scan's JSON against what was made. Raises LabError."""
    expected = makeup.expected()
    wrong = [key for key, value in expected.items() if result[key] != value]
    if wrong:
        raise LabError(
            f"the scan of {makeup} is wrong in {', '.join(wrong)}: {result[wrong[0]]}",
            f"right is {expected[wrong[0]]}",
        )


def _figures(
    makeup: Makeup, result: dict[str, Any], times: Times, memory: int, mode: str
) -> tuple[Value, ...]:
    total = result["pages"]["total"]
    goal = None
    if makeup.gib == GOAL_SIZE and not MODES[mode]:
        goal = times.least <= GOAL_SECONDS and memory <= GOAL_BYTES
    return (
        f"{makeup.gib} GiB, {makeup.tail}s",
        mode,
        total,
        result["vmemmap"]["frames"],
        result["coverage"]["struct_pages_read"] / total,
        times.least,
        times.median,
        times.least_processor,
        total / times.least,
        memory,
        goal,
    )
