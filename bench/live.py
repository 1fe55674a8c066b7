"""Live scans in guests, beside the fastest reader of /proc/kpageflags, in one process there."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bench.clock import Times
from bench.ours import MODES, PROJECT
from bench.tables import RACE, Column, Kind, Table, Value, race
from lab.errors import LabError
from lab.guest import boot
from lab.machine import Config

KERNELS = ("7.3", "7.0")
GOALS: dict[str, float | None] = {"default": 10.0, "exhaustive": 1.5}
INSIDE = (sys.executable, "-m", "bench.inside")
SECONDS = 3600.0
"""What booting, or measuring, may take in a large guest."""
NOT_CLEARED = "init_on_alloc=0"
"""Debian's kernels clear what they allocate: all of a pool of 2 MiB pages, before any is used."""
LARGE_PAGES = {18: 800, 9: 8192}
LARGE = Config(
    "7.3",
    memory="900G",
    hvo=True,
    append=f"{NOT_CLEARED} hugepagesz=1G hugepages={LARGE_PAGES[18]} "
    f"hugepagesz=2M hugepages={LARGE_PAGES[9]}",
)
"""As much as an emulated processor can address: 40 bits, holes included."""
EVERY = 16
"""Of its kpageflags one read in so many is done: all of it would take an hour."""
_ONCE = (
    Column("kernel", "kernel", Kind.TEXT),
    Column("struct_pages", "struct pages", Kind.COUNT),
    Column("frames", "distinct frames", Kind.COUNT),
    Column("imports", "imports", Kind.SECONDS),
    Column("opening", "BTF, symbols, layout", Kind.SECONDS),
    Column("read", "read by default", Kind.PERCENT),
)
_EMULATED = (
    "Emulated processors are ten to twenty times slower than real ones: only ratios tell something."
)


@dataclass(frozen=True)
class Live:
    """What was measured in one guest."""

    name: str
    found: dict[str, Any]
    every: int = 1
    """What part of kpageflags was read: one of so many reads."""

    @property
    def races(self) -> list[tuple[Value, ...]]:
        """Both scans, and merely reading what each reads, beside the reader."""
        times = {name: Times(**seconds) for name, seconds in self.found["times"].items()}
        reader = times["kpageflags"].times(self.every)
        total = self.found["exhaustive"]["pages"]["total"]
        ways = [(name, f"{name}, {self.name}", goal) for name, goal in GOALS.items()]
        ways += [(f"reading, {name}", f"bound: reading, {what}", None) for name, what, _ in ways]
        return [
            race(what, times[name], "kpageflags", reader, total, goal) for name, what, goal in ways
        ]

    @property
    def once(self) -> tuple[Value, ...]:
        """What happens once, whatever is asked then."""
        pages, coverage = self.found["exhaustive"]["pages"], self.found["default"]["coverage"]
        return (
            f"{self.name} ({self.found['release']})",
            pages["total"],
            self.found["exhaustive"]["vmemmap"]["frames"],
            self.found["imports"],
            self.found["opening"],
            coverage["struct_pages_read"] / pages["total"],
        )


def guests(repeats: int, jobs: int, say: Callable[[str], None]) -> list[Table]:
    """Measure in a guest of 12 GiB with 2,048 hugepages a kernel. Raises LabError."""
    append = f"{NOT_CLEARED} hugepages=2048"
    configs = [Config(name, memory="12G", hvo=True, append=append) for name in KERNELS]
    return tables("Live, in a guest of 12 GiB", [_measure(c, repeats, jobs, say) for c in configs])


def large_guest(repeats: int, jobs: int, say: Callable[[str], None]) -> list[Table]:
    """Measure in one of 900 GiB; its figures must be what its pools come to. Raises LabError."""
    live = _measure(LARGE, repeats, jobs, say, EVERY)
    for mode in MODES:
        check_pools(live.found[mode])
    return tables(
        "Live, in a guest of 900 GiB",
        [live],
        "Pools, read-only mappings and what is saved are exactly what the pools come to.",
        f"Of kpageflags one MiB in {EVERY} was read, and the time taken for all of it.",
    )


def tables(title: str, measured: list[Live], *notes: str) -> list[Table]:
    """Return the tables of what was measured."""
    races = tuple(row for live in measured for row in live.races)
    once = tuple(live.once for live in measured)
    return [
        Table(title, RACE, races, (*notes, _EMULATED)),
        Table(f"{title}: once", _ONCE, once),
    ]


def check_pools(found: dict[str, Any]) -> None:
    """Hold a scan of the large guest against what its pools come to. Raises LabError."""
    freed = {order: (1 << order - 6) - 1 for order in LARGE_PAGES}
    seen = {
        "optimized": {pool["size_bytes"]: pool["optimized"] for pool in found["hugetlb"]},
        "read_only_pages": found["vmemmap"]["read_only_pages"],
        "saved_bytes": found["vmemmap"]["saved_bytes"],
        "errors": found["findings_count"]["error"],
    }
    each = sum(count * freed[order] for order, count in LARGE_PAGES.items())
    right = {
        "optimized": {4096 << order: count for order, count in LARGE_PAGES.items()},
        "read_only_pages": each,
        "saved_bytes": each << 12,
        "errors": 0,
    }
    if seen != right:
        raise LabError(f"the scan found {seen}", f"its pools come to {right}: one of them is wrong")


def _measure(
    config: Config, repeats: int, jobs: int, say: Callable[[str], None], every: int = 1
) -> Live:
    options = [f"--repeats={repeats}", f"--jobs={jobs}", f"--every={every}"]
    say(f"booting {config.kernel} with {config.memory} of memory")
    with boot(config, timeout=SECONDS) as guest:
        say("scanning it from inside, beside its /proc/kpageflags")
        done = guest.run(
            [*INSIDE, *options],
            cwd=PROJECT,
            env={"PYTHONPATH": str(PROJECT)},
            timeout=SECONDS,
        )
    return Live(config.kernel, json.loads(done.stdout), every)
