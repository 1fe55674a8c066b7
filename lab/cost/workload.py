"""The program that does the work in the guests (workload.c, operations.c), and what it says."""

from __future__ import annotations

import json
import statistics
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.errors import LabError

SOURCES = ("workload.c", "operations.c")
_GCC = ("gcc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-static", "-o")
_REMEDY = "install what it takes with: sudo apt-get install gcc libc6-dev"

CALIBRATE = "calibrate"
CALIBRATE_INSTRUCTIONS = 2
"""How many instructions one round of the operation `calibrate` is, by its source."""


@dataclass(frozen=True)
class Operation:
    """Something that is done to pages; `pages` of them are measured beside twice as many."""

    name: str
    pages: int
    what: str


@dataclass(frozen=True)
class Measured:
    """Time-stamps that `operation` took in one guest, repetition by repetition.

    `pages` are the two sizes, each of which has its tuple in `ticks`. `compound` is how many of the
    pages were in folios of more than one page; None if nobody said.
    """

    operation: str
    compound: int | None
    pages: tuple[int, int]
    ticks: tuple[tuple[int, ...], tuple[int, ...]]

    @property
    def per_page(self) -> float:
        """Time-stamps a page: the difference of the sizes, so that what is done once falls out.

        Of the medians: a repetition that was disturbed, or was lucky, does not count.
        """
        small, large = (statistics.median(ticks) for ticks in self.ticks)
        return (large - small) / (self.pages[1] - self.pages[0])

    @property
    def spread(self) -> float:
        """How far apart the middle halves of the repetitions are, a page: 0 if they are equal."""
        quartiles = [statistics.quantiles(ticks, n=4) for ticks in self.ticks]
        return sum(high - low for low, _, high in quartiles) / (self.pages[1] - self.pages[0])


def build(folder: Path) -> Path:
    """Compile the workload into `folder`. Raises LabError if it cannot be.

    Statically, so that no library's pages come into it.
    """
    program = folder / "workload"
    here = Path(__file__).parent
    command = [*_GCC, str(program), *(str(here / source) for source in SOURCES)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise LabError("gcc is missing", _REMEDY) from None
    if done.returncode != 0:
        raise LabError(f"the workload does not compile: {done.stderr[-300:]}", _REMEDY)
    return program


def operations(program: Path) -> tuple[Operation, ...]:
    """Return what the compiled workload can do, in its order. Raises LabError."""
    done = subprocess.run([program, "list"], capture_output=True, text=True, check=False)
    return tuple(
        Operation(entry["operation"], entry["pages"], entry["what"])
        for entry in _json(done.stdout, list)
    )


def parse(text: str) -> Measured:
    """Return what `workload measure` printed. Raises LabError if it is anything else."""
    found = _json(text, dict)
    try:
        small, large = found["sizes"]
        measured = Measured(
            str(found["operation"]),
            found["compound"],
            (int(small["pages"]), int(large["pages"])),
            (_ticks(small), _ticks(large)),
        )
    except (KeyError, TypeError, ValueError):
        raise _nonsense(text) from None
    if measured.pages[1] <= measured.pages[0]:
        raise _nonsense(text)
    return measured


def check_exact(measured: Measured) -> None:
    """Raise LabError unless `measured`, of the known loop, says one time-stamp an instruction."""
    if measured.per_page != CALIBRATE_INSTRUCTIONS:
        raise LabError(
            f"the guest's time-stamp counter does not count instructions: "
            f"{measured.per_page:.3f} for {CALIBRATE_INSTRUCTIONS}",
            "use a QEMU whose -icount shift=0 makes it one a nanosecond, as 7.2 does",
        )


def _ticks(size: dict[str, Any]) -> tuple[int, ...]:
    ticks = tuple(int(tick) for tick in size["ticks"])
    if len(ticks) < 2:
        raise ValueError
    return ticks


def _json(text: str, kind: type) -> Any:
    try:
        found = json.loads(text)
    except ValueError:
        raise _nonsense(text) from None
    if not isinstance(found, kind):
        raise _nonsense(text)
    return found


def _nonsense(text: str) -> LabError:
    return LabError(
        f"the workload said what is no measurement: {text[:200]!r}", "look at lab/cost/workload.c"
    )
