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
CALIBRATION = Operation(CALIBRATE, 50_000, "a loop of known length")

# In the guest. The program's own pages must not come over virtiofs while it is measured.
_HERE = "/tmp/cost"  # noqa: S108 - the guest's
FILES = f"{_HERE}/ramfs"
PROGRAM = f"{_HERE}/workload"
_INSTALL = f"mkdir -p {FILES} && mount -t ramfs ramfs {FILES} && cp workload {_HERE}"


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
    """Measure `operations` in `boots` guests, one after the other.

    `started` is told of every boot and operation. Raises LabError, and what `measure` does.
    """
    all_: list[list[Measured]] = []
    release = ""
    for _ in range(boots):
        started(f"{place}: boot")
        with boot(config(place)) as guest:
            release = guest.kernel.release
            all_.append(
                measure(guest, program, operations, lambda name: started(f"{place}: {name}"))
            )
    return [
        Cost(
            one[0].operation,
            place.kernel,
            release,
            place.hvo,
            tuple(measured.per_page for measured in one),
            max(measured.spread for measured in one),
            one[0].pages[1],
            one[0].compound,
        )
        for one in zip(*all_, strict=True)
    ]


def config(place: Place) -> Config:
    """Return the guest for a place."""
    return Config(place.kernel, hvo=place.hvo, append=ARGUMENTS, icount=True)


def measure(
    guest: Guest,
    program: Path,
    operations: Sequence[Operation],
    started: Callable[[str], None] = lambda _: None,
) -> list[Measured]:
    """Measure `operations` in a guest; `started` is told the name of each.

    Raises LabError, also if the guest's clock does not count instructions exactly, or if it has not
    its hugepages and HVO as it should be.
    """
    check_hvo(guest)
    install(guest, program)
    check_exact(_measure(guest, CALIBRATION))
    found = []
    for operation in operations:
        started(operation.name)
        found.append(_measure(guest, operation))
    return found


def install(guest: Guest, program: Path) -> None:
    """Put the workload into the guest's memory, with a ramfs for its files."""
    shutil.copy(program, guest.work)
    guest.run(_INSTALL, cwd=guest.work)


def check_hvo(guest: Guest) -> None:
    """Raise LabError unless the guest has its hugepages, and HVO as its configuration says."""
    sysctl = Path("/proc/sys/vm")
    pages = int(guest.read_file(sysctl / "nr_hugepages"))
    on = guest.read_file(sysctl / "hugetlb_optimize_vmemmap") == b"1\n"
    if pages != HUGEPAGES or on != guest.config.hvo:
        raise LabError(
            f"the guest ({guest.config}) has {pages} of {HUGEPAGES} hugepages, and HVO is"
            f" {'on' if on else 'off'}",
            "choose a kernel with HugeTLB and HVO built in",
        )


def _measure(guest: Guest, operation: Operation) -> Measured:
    command = [PROGRAM, "-f", FILES, "measure"]
    said = guest.run([*command, operation.name, str(operation.pages), str(TIMES)], cwd="/")
    return parse(said.stdout)
