"""Counts how often the copies of compound_head() run for a page, by the project's own recorder.

In guests of their own, whose clock is the usual one: a probe is instructions too.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from lab.cost.experiment import ARGUMENTS, FILES, PROGRAM, Place, check_hvo, install
from lab.cost.figures import Hits
from lab.cost.workload import Operation
from lab.errors import LabError
from lab.guest import Guest, boot
from lab.kernels import Cache, Kernel
from lab.machine import Config

TIMES = 8
RECORD_SECONDS = 900.0
_PROJECT = Path(__file__).resolve().parents[2]
# The lab does not know the tool, but for its command line.
_TOOL = [sys.executable, "-m", "hvoinspect", "hotpath"]
_CGROUP = "/sys/fs/cgroup/cost"


def count(
    place: Place, program: Path, operations: Sequence[Operation], started: Callable[[str], None]
) -> list[Hits]:
    """Count the hits of `operations` in one guest; `started` is told of the boot and each of them.

    Where there is a vmlinux with DWARF (`lab fetch --debug`) by copies, elsewhere by functions.
    Raises LabError.
    """
    started(f"{place}: boot to count hits")
    with boot(Config(place.kernel, hvo=place.hvo, append=ARGUMENTS)) as guest:
        check_hvo(guest)
        install(guest, program)
        guest.run(["mkdir", _CGROUP])
        sites = None
        if vmlinux := Cache().get(place.kernel).vmlinux:
            started(f"{place}: copies that run at all")
            sites = _sites_that_run(guest, operations, _sites(vmlinux, guest.work))
        found = []
        for operation in operations:
            started(f"{place}: hits of {operation.name}")
            found.append(
                parse(operation.name, _units(operation), _record(guest, [operation], sites))
            )
    return found


def parse(operation: str, units: int, text: str) -> Hits:
    """Return what `hvoinspect hotpath record` wrote of so many units. Raises LabError."""
    try:
        run = json.loads(text)
        counts: dict[tuple[str, str], float] = {}
        for one in run["counts"]:
            key = (str(one["function"]), str(one["helper"]))
            counts[key] = counts.get(key, 0.0) + int(one["hits"]) / units
        return Hits(operation, str(run["mode"]), counts)
    except (KeyError, TypeError, ValueError):
        raise LabError(
            f"the recorder wrote what is no recording: {text[:200]!r}",
            "try hvoinspect hotpath record in `lab run`",
        ) from None


def _units(operation: Operation) -> int:
    return 2 * operation.pages * TIMES


def _record(guest: Guest, operations: Sequence[Operation], sites: Path | None) -> str:
    """Return what the recorder writes of `operations`, one after the other."""
    # Twice the pages: what is done once, moving to the cgroup included, counts for less.
    workload = f"{PROGRAM} -f {FILES} -g {_CGROUP} run"
    work = " && ".join(f"{workload} {one.name} {2 * one.pages} {TIMES}" for one in operations)
    run = guest.work / "run.json"
    how = ["--mode", "sites", "--sites", str(sites)] if sites else ["--mode", "functions"]
    record = [*_TOOL, "record", *how, "--cgroup", _CGROUP, "-f", "-o", str(run), "--"]
    guest.run(
        [*record, "/bin/sh", "-c", work],
        cwd=_PROJECT,
        env=_headers(guest.kernel),
        timeout=RECORD_SECONDS,
    )
    return run.read_text(encoding="utf-8")


def _sites_that_run(guest: Guest, operations: Sequence[Operation], sites: Path) -> Path:
    """Return the copies in functions that run: under emulation, a probe takes long to set."""
    all_ = parse("", 1, _record(guest, operations, sites)).counts
    functions = {function for (function, _), hits in all_.items() if hits}
    content = json.loads(sites.read_text(encoding="utf-8"))
    content["copies"] = [copy for copy in content["copies"] if copy["function"] in functions]
    path = guest.work / "sites.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def _headers(kernel: Kernel) -> dict[str, str]:
    # Debian has none for some kernels. The recorder's program looks into no structure of the
    # kernel's, so the newest there are will do.
    if kernel.headers:
        return {}
    others = [other.headers for other in Cache().kernels() if other.headers]
    if not others:
        raise LabError(
            f"there are no headers for bcc, of {kernel.release} or any other kernel",
            "fetch some with: scripts/lab fetch --headers",
        )
    return {"BCC_KERNEL_SOURCE": str(others[-1])}


def _sites(vmlinux: Path, folder: Path) -> Path:
    path = folder / "all.json"
    command = [*_TOOL, "sites", "--vmlinux", str(vmlinux), "-o", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=_PROJECT)
    if done.returncode != 0:
        raise LabError(
            f"the copies in {vmlinux} cannot be found: {done.stderr[-300:]}",
            "try hvoinspect hotpath sites",
        )
    return path
