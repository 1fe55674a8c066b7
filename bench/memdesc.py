"""Surveys for memdescs, beside exhaustive scans of the same dump: both read every struct page."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench.clock import in_turns
from bench.ours import scan_kernel
from bench.realdump import real_dump
from bench.tables import RACE, Table, Value, race
from hvoinspect.target.open import open_core
from hvoinspect.vmemmap.memdesc import MODELS
from hvoinspect.vmemmap.survey import survey
from lab.errors import LabError
from tests.bigmachine.dump import write_dump
from tests.bigmachine.makeup import Makeup

MADE_UP_GIB = 64
GOAL = 1.0


def memdesc(repeats: int, jobs: int, folder: Path, say: Callable[[str], None]) -> list[Table]:
    """Survey a dump of a real machine, kept in `folder`, and made-up ones. Raises LabError."""
    rows = beside_scan(real_dump(folder, "elf", say), "ELF", repeats, jobs, say)
    for tail in ("pointer", "mask"):
        with tempfile.TemporaryDirectory(dir=folder, prefix="machine-") as made:
            path = Path(made, "dump")
            write_dump(Makeup.usual(MADE_UP_GIB, tail), path)
            rows += beside_scan(path, f"{MADE_UP_GIB} GiB, {tail}s", repeats, jobs, say)
    return [Table("Memdescs, all of the vmemmap", RACE, tuple(rows))]


def beside_scan(
    path: Path, what: str, repeats: int, jobs: int, say: Callable[[str], None]
) -> list[tuple[Value, ...]]:
    """Return a row a model: beside an exhaustive scan. Raises LabError if they differ in pages."""
    say(f"{what}: surveying beside scanning")
    kernel = open_core(path)
    ways = {name: partial(survey, kernel, model, jobs=jobs) for name, model in MODELS.items()}
    scan = {"scan": partial(scan_kernel, kernel, "exhaustive", jobs)}
    times, last = in_turns({**scan, **ways}, repeats)
    total = last["scan"].total
    for name in MODELS:
        if sum(last[name].verdicts.values()) != total:
            raise LabError(
                f"{name}: a survey of {what} has other struct pages than a scan",
                "one of the two is wrong: mend it",
            )
    return [
        race(f"{what}, {name}", times[name], "exhaustive scan", times["scan"], total, GOAL)
        for name in MODELS
    ]
