"""What is made is what was meant to be made: a scan of it finds that, to the byte."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hvoinspect.report.result import Taken, result_of
from hvoinspect.target.layout import Counters, Hstate
from hvoinspect.target.open import open_core
from hvoinspect.vmemmap.scan import scan
from tests.bigmachine.dump import write_dump
from tests.bigmachine.makeup import Makeup
from tests.madeup import TAILS, Tail

MAKEUPS = {
    "a little of everything": Makeup(gigantic=1, huge=1, ordinary=2, slab=1, free=1),
    "two nodes": Makeup(gigantic=2, huge=3, ordinary=3, slab=2, free=2, nodes=2),
    "no hugepages": Makeup(gigantic=0, huge=0, ordinary=2, slab=0, free=0),
}


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("makeup", MAKEUPS.values(), ids=MAKEUPS)
def test_a_scan_finds_what_was_made(tail: Tail, makeup: Makeup, tmp_path: Path) -> None:
    """By default, all of it, and in two processes."""
    path = tmp_path / "dump"
    made = replace(makeup, tail=tail)
    write_dump(made, path)
    expected = made.expected()
    kernel = open_core(path)
    for exhaustive, jobs in ((False, 1), (False, 2), (True, 1), (True, 2)):
        taken = Taken(dt.datetime.now(dt.UTC), 0.0)
        scanned = scan(kernel, exhaustive=exhaustive, jobs=jobs)
        result: dict[str, Any] = dict(result_of(scanned, taken))
        assert {key: result[key] for key in expected} == expected
    assert path.stat().st_blocks * 512 < expected["vmemmap"]["frames"] * 4096 + (32 << 20)


def test_the_kernel_counts_what_there_is(tmp_path: Path) -> None:
    """So that the rules which hold pages against counters have something to hold."""
    makeup = replace(MAKEUPS["two nodes"], tail="pointer")
    write_dump(makeup, tmp_path / "dump")
    kernel = open_core(tmp_path / "dump")
    small = Hstate(9, {0: 1024, 1: 512}, {0: 256, 1: 128})
    assert kernel.counters() == Counters((small, Hstate(18, {0: 1, 1: 1}, {})), 1538)


def test_the_usual_machine_is_as_large_as_it_is_called() -> None:
    machine = Makeup.usual(1024, "mask")
    assert (machine.gib, len(machine.units)) == (1024, 1024)
    assert (machine.gigantic, machine.huge, machine.free) == (512, 256, 128)
    assert machine.expected()["pages"]["total"] == 1 << 28


def test_a_machine_needs_memory_for_its_own_vmemmap() -> None:
    with pytest.raises(ValueError, match="no room for its own vmemmap"):
        _ = Makeup(ordinary=0).units
