"""Exhaustive scans of dumps, beside drgn's objects, and beside merely getting at the memory."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.clock import Times, in_turns
from bench.needed import core_reader, kdump_reader, needed_frames
from bench.ours import scan_kernel
from bench.realdump import real_dump
from bench.rivals import drgn_loop, sample
from bench.tables import RACE, Table, Value, race
from hvoinspect.target.choice import Target
from hvoinspect.target.layout import Kernel
from hvoinspect.target.open import learn_opened, open_core, open_program
from tests.bigmachine.dump import write_dump
from tests.bigmachine.makeup import Makeup

SAMPLE = 20_000
"""Struct pages that drgn's loop is measured on."""
GOALS = {"drgn": 100.0, "elf": 0.7, "zlib": 0.9}
MADE_UP_GIB = 64
_NOTES = (
    f"drgn's loop, PageHead() and compound_head() of a page, is measured on {SAMPLE:,} pages "
    "chosen at random, and extrapolated to all.",
    "The bound is to read, or to unpack, every frame behind the vmemmap and every page table of it "
    "once, on as many processes, and to look at none of it: what a scan cannot do without.",
    "Gathering is to read, and have NumPy copy three bytes of each struct page, which tell tails, "
    "heads and free blocks: what a scan that is written in NumPy cannot do without.",
)


def dump(repeats: int, jobs: int, folder: Path, say: Callable[[str], None]) -> list[Table]:
    """Scan dumps of a real machine, kept in `folder`, and of a made-up one. Raises LabError."""
    elf, packed = (real_dump(folder, form, say) for form in ("elf", "zlib"))
    rows = beside_elf(elf, "ELF", repeats, jobs, say)
    rows += beside_zlib(packed, repeats, jobs, say)
    with tempfile.TemporaryDirectory(dir=folder, prefix="machine-") as made:
        path = Path(made, "dump")
        write_dump(Makeup.usual(MADE_UP_GIB, "mask"), path)
        rows += beside_elf(path, f"ELF, {MADE_UP_GIB} GiB made up", repeats, jobs, say)
    return [Table("Dumps, all of the vmemmap", RACE, tuple(rows), _NOTES)]


def beside_elf(
    path: Path, what: str, repeats: int, jobs: int, say: Callable[[str], None]
) -> list[tuple[Value, ...]]:
    """Return the rows of an ELF dump: beside drgn's loop, beside reading, and beside gathering.

    The last one holds gathering against reading: no scan in NumPy has a better ratio.
    """
    say(f"{what}: scanning beside drgn, and beside reading")
    opened = open_program(Target(core=path))
    kernel = learn_opened(opened, None)
    pfns = sample(kernel, SAMPLE)
    frames = needed_frames(kernel)
    times, total = _race(
        kernel,
        {
            "drgn": lambda: drgn_loop(opened.prog, pfns),
            "reading": core_reader(path, frames, jobs),
            "gathering": core_reader(path, frames, jobs, kernel.page),
        },
        repeats,
        jobs,
    )
    whole = times["drgn"].times(total / len(pfns))
    return [
        race(what, times["scan"], "drgn's objects", whole, total, GOALS["drgn"]),
        race(what, times["scan"], "bound: reading", times["reading"], total, GOALS["elf"]),
        race(what, times["scan"], "bound: gathering", times["gathering"], total),
        race(
            f"bound: gathering, {what}",
            times["gathering"],
            "bound: reading",
            times["reading"],
            total,
        ),
    ]


def beside_zlib(
    path: Path, repeats: int, jobs: int, say: Callable[[str], None]
) -> list[tuple[Value, ...]]:
    """Return the row of a kdump file packed by zlib: beside unpacking."""
    say("kdump, zlib: scanning beside unpacking")
    kernel = open_core(path)
    bound = kdump_reader(path, needed_frames(kernel), jobs)
    times, total = _race(kernel, {"bound": bound}, repeats, jobs)
    return [
        race("kdump, zlib", times["scan"], "bound: unpacking", times["bound"], total, GOALS["zlib"])
    ]


def _race(
    kernel: Kernel, rivals: dict[str, Callable[[], Any]], repeats: int, jobs: int
) -> tuple[dict[str, Times], int]:
    ways = {"scan": lambda: scan_kernel(kernel, "exhaustive", jobs)}
    times, last = in_turns(ways | rivals, repeats)
    return times, last["scan"].total
