"""Many scans: what `hvoinspect fleet` takes to answer, beside DuckDB reading the same files."""

from __future__ import annotations

import functools
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from bench.clock import Times, in_turns
from bench.process import peak_memory, run
from bench.tables import Column, Kind, Table, Value
from lab.errors import LabError

SCANS = 10_000
GOAL = 10.0
"""Seconds for as many."""
MANY = 200
"""Of so many scans one has all findings of a rule that a scan lists."""
OFF = 10
"""Of so many hosts one has HVO off."""

_COLUMNS = (
    Column("what", "", Kind.TEXT),
    Column("scans", "scans", Kind.COUNT),
    Column("least", "least", Kind.SECONDS),
    Column("median", "median", Kind.SECONDS),
    Column("processor", "CPU", Kind.SECONDS),
    Column("memory", "memory", Kind.MEGABYTES),
    Column("goal", "goal, at most", Kind.SECONDS),
    Column("met", "met", Kind.MET),
)
_READ_JSON = """
import sys, duckdb
columns = {
    "schema": "VARCHAR", "taken_at": "TIMESTAMPTZ", "host": "STRUCT(name VARCHAR)",
    "kernel": "STRUCT(release VARCHAR, build_id VARCHAR)",
    "encoding": "STRUCT(tail VARCHAR, hvo VARCHAR, hvo_enabled BOOLEAN)",
    "pages": "STRUCT(total BIGINT, head BIGINT, fake_head BIGINT, tail BIGINT, single BIGINT)",
    "hugetlb": "STRUCT(size_bytes BIGINT, node INTEGER, total BIGINT, optimized BIGINT)[]",
    "vmemmap": "STRUCT(saved_bytes BIGINT, net_saved_bytes BIGINT, potential_bytes BIGINT)",
    "findings": "STRUCT(rule VARCHAR, severity VARCHAR, pfn BIGINT)[]",
}
duckdb.execute(f"CREATE TABLE t AS SELECT * FROM read_json(?, columns = {columns})", [sys.argv[1]])
"""


def fleet(repeats: int, jobs: int, folder: Path, say: Callable[[str], None]) -> list[Table]:
    """Measure a fleet's answers, whole processes. Raises LabError if one of them is wrong."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        place = Path(name)
        say(f"making {SCANS:,} scans")
        off = _make(place)
        command = [sys.executable, "-m", "hvoinspect", "fleet", name, "--json", f"--jobs={jobs}"]
        rival = [sys.executable, "-c", _READ_JSON, f"{name}/*.json"]
        ways = {
            "hvoinspect fleet": functools.partial(run, command),
            "DuckDB's read_json, of a third of the members": functools.partial(run, rival),
        }
        times, said = in_turns(ways, repeats)
        _check(json.loads(said["hvoinspect fleet"]), off)
        memory = [peak_memory(one) for one in (command, rival)]
        rows = [
            _row(what, times[what], most, goal)
            for what, most, goal in zip(ways, memory, (GOAL, None), strict=True)
        ]
        size = sum(path.stat().st_size for path in place.iterdir())
    note = f"{size / 1e6:,.0f} MB of files, most of 2 KB; one of {MANY} has 1,000 findings."
    return [Table("Many scans", _COLUMNS, tuple(rows), (note,))]


def _row(what: str, times: Times, memory: int, goal: float | None) -> tuple[Value, ...]:
    met = None if goal is None else times.least <= goal
    least, processor = times.least, times.least_processor
    return (what, SCANS, least, times.median, processor, memory, goal, met)


def _make(folder: Path) -> int:
    """Write scans of the demos' kernels, as from as many hosts; return how many have HVO off."""
    demos = [
        run([sys.executable, "-m", "hvoinspect", "scan", "--demo", demo, "--json"])
        for demo in ("before", "after")
    ]
    random, off = Random(1), 0  # noqa: S311 - the same scans each time
    for number in range(SCANS):
        scan = json.loads(random.choice(demos))
        scan["host"] = {"name": f"host-{number}", "boot_id": None}
        scan["elapsed_seconds"] = random.random()
        if number % OFF == 0:
            scan["encoding"]["hvo_enabled"] = False
            _unoptimize(scan)
            off += 1
        if number % MANY == 0:
            (one,) = scan["findings"]
            scan["findings"] = [{**one, "pfn": pfn} for pfn in range(1000)]
            scan["findings_count"]["warning"] = 1000
        (folder / f"host-{number}.json").write_text(json.dumps(scan, indent=2))
    return off


def _unoptimize(scan: dict[str, Any]) -> None:
    for pool in scan["hugetlb"]:
        pool["optimized"] = pool["vmemmap_pages_freed"] = 0
    vmemmap = scan["vmemmap"]
    vmemmap["potential_bytes"], vmemmap["saved_bytes"] = vmemmap["saved_bytes"], 0
    vmemmap["net_saved_bytes"] = -vmemmap["split_cost_bytes"]


def _check(said: dict[str, Any], off: int) -> None:
    """Raise LabError if the answers are not what was made."""
    found = (said["hosts"], len(said["hvo_off"]), said["findings"][0]["findings"])
    made = (SCANS, off, SCANS + SCANS // MANY * 999 if SCANS >= MANY else SCANS + 999)
    if found != made or said["refused"]:
        raise LabError(f"a fleet's answers are {found}, not {made}", "look for what is wrong there")
