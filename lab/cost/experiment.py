"""Runs the workload in guests whose clock counts instructions."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from lab.cost.figures import Cost
from lab.cost.workload import CALIBRATE, Measured, Operation, check_exact, parse
from lab.errors import LabError
from lab.guest import Guest, boot
from lab.machine import Config

# Hugepages from boot on, so that HVO has something to do and its static key (up to 7.0) is on.
HUGEPAGES = 64
# Nothing by chance, and nothing that runs beside the workload.
ARGUMENTS = f"nokaslr norandmaps mitigations=off cryptomgr.notests hugepages={HUGEPAGES}"
TIMES = 15

# In the guest. The program's own pages must not come over virtiofs while it is measured.
_HERE = "/tmp/cost"  # noqa: S108 - the guest's
_FILES = f"{_HERE}/ramfs"
_INSTALL = f"mkdir -p {_FILES} && mount -t ramfs ramfs {_FILES} && cp workload {_HERE}"


@dataclasses.dataclass(frozen=True)
class Place:
    """A kernel, by the name the lab knows it by, with HVO on or off."""

    kernel: str
    hvo: bool

    def __str__(self) -> str:
        """Name it for a person."""
        return f"{self.kernel}, HVO {'on' if self.hvo else 'off'}"


def costs(
    place: Place,
    program: Path,
    operations: Sequence[Operation],
    *,
    boots: int,
    started: Callable[[str], None],
) -> list[Cost]:
    """Measure `operations` in `boots` guests, one after the other; the loop that calibrates first.

    `started` is told of every boot and operation. Raises LabError, also if the guest's clock does
    not count instructions exactly or HVO is not as it should be.
    """
    found: dict[str, list[Measured]] = {operation.name: [] for operation in operations}
    release = ""
    for _ in range(boots):
        started(f"{place}: boot")
        config = Config(place.kernel, hvo=place.hvo, append=ARGUMENTS, icount=True)
        with boot(config) as guest:
            check_hvo(guest, place)
            release = guest.kernel.release
            install(guest, program)
            check_exact(_measure(guest, Operation(CALIBRATE, 50000, "")))
            for operation in operations:
                started(f"{place}: {operation.name}")
                found[operation.name].append(_measure(guest, operation))
    return [
        Cost(
            name,
            place.kernel,
            release,
            place.hvo,
            tuple(measured.per_page for measured in all_),
            max(measured.spread for measured in all_),
            all_[0].pages[1],
            all_[0].compound,
        )
        for name, all_ in found.items()
    ]


def install(guest: Guest, program: Path) -> None:
    """Put the workload into the guest's memory, with a ramfs for its files."""
    shutil.copy(program, guest.work)
    guest.run(_INSTALL, cwd=guest.work)


def check_hvo(guest: Guest, place: Place) -> None:
    """Raise LabError unless the guest has its hugepages, and HVO is as it should be."""
    sysctl = Path("/proc/sys/vm")
    pages = int(guest.read_file(sysctl / "nr_hugepages"))
    on = guest.read_file(sysctl / "hugetlb_optimize_vmemmap") == b"1\n"
    if pages != HUGEPAGES or on != place.hvo:
        raise LabError(
            f"{place}: the guest has {pages} of {HUGEPAGES} hugepages, and HVO is"
            f" {'on' if on else 'off'}",
            "choose a kernel with HugeTLB and HVO built in",
        )


def _measure(guest: Guest, operation: Operation) -> Measured:
    command = [f"{_HERE}/workload", "-f", _FILES, "measure"]
    said = guest.run([*command, operation.name, str(operation.pages), str(TIMES)], cwd="/")
    return parse(said.stdout)
