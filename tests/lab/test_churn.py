"""A kernel that moves while it is scanned: nothing crashes, and nothing that moves is a finding.

`churn.c` moves it from within: pools grow and shrink, HVO is switched, processes use hugepages,
transparent ones come and go, memory goes offline and comes back. From outside a DIMM is plugged in
and pulled out again. Meanwhile `scans.py` scans, one time after the other.

HVOINSPECT_CHURN_SECONDS says for how long; the default is what the whole suite can spare.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lab.errors import LabError
from lab.guest import Guest
from lab.kernels import KNOWN
from lab.machine import Config
from lab.qmp import qmp
from tests.lab.conftest import RESTORES_WRONGLY, LabPool
from tests.lab.test_scan import PROJECT, PROTECTS_TOO_LITTLE

SECONDS = float(os.environ.get("HVOINSPECT_CHURN_SECONDS", "20"))
LEAST = 5
"""Scans that there are in any case, however slow this machine is."""
MEMORY = "2560M"
"""All below 4 GiB on a q35, so that a 1 GiB page fits."""
DIMM_BYTES, DIMM_SECONDS = 256 << 20, 6.0
FIVE = ("HEAD", "FAKE_HEAD", "TAIL", "SINGLE", "UNREADABLE")

GUESTS = [
    Config(
        kernel,
        hvo=kernel not in RESTORES_WRONGLY,  # it would be right to report what they do
        cpus=2,  # so that a scan is interrupted anywhere
        memory=MEMORY,
        append="hugepagesz=1G hugepages=1 hugepagesz=2M hugepages=32 "
        # Hot-plugged memory shall go again; and pools are slow to grow where pages are cleared.
        "memhp_default_state=online_movable init_on_alloc=0",
        qemu_args=("-m", f"size={MEMORY},slots=8,maxmem=16G"),
    )
    for kernel in KNOWN
]


class Dimm:
    """A module of memory that is plugged into a guest, pulled out, plugged in again, and so on."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self.plugged = self.pulled = 0
        self.present = False
        self.next = 0.0

    def step(self) -> None:
        """Do what is due. The guest decides whether, and when, it lets go of the memory."""
        if time.monotonic() < self.next:
            return
        self.next = time.monotonic() + DIMM_SECONDS
        name = f"dimm{self.plugged}"
        if not self.present:
            name = f"dimm{self.plugged + 1}"
            qmp(
                self.guest,
                "object-add",
                **{"qom-type": "memory-backend-memfd", "id": f"of-{name}", "size": DIMM_BYTES},
                share=True,
                reserve=False,
            )
            qmp(self.guest, "device_add", driver="pc-dimm", id=name, memdev=f"of-{name}")
            self.plugged, self.present = self.plugged + 1, True
        elif any(found["data"]["id"] == name for found in qmp(self.guest, "query-memory-devices")):
            with contextlib.suppress(LabError):  # the last request may still be under way
                qmp(self.guest, "device_del", id=name)
            self.next = time.monotonic() + 1.0
        else:
            qmp(self.guest, "object-del", id=f"of-{name}")
            self.pulled, self.present = self.pulled + 1, False


@dataclass(frozen=True)
class Churned:
    """How often what moved, and what each of the scans came to meanwhile."""

    config: Config
    moved: dict[str, int]
    plugged: int
    pulled: int
    scans: list[dict[str, Any]]


Churn = Callable[[Config], Churned]


@pytest.fixture(scope="session")
def churn(lab_pool: LabPool) -> Churn:
    """Move and scan a guest of a configuration, once a session."""
    known: dict[Config, Churned] = {}

    def churn(config: Config) -> Churned:
        if config not in known:
            known[config] = churned_in(lab_pool.guest(config))
        return known[config]

    return churn


def churned_in(guest: Guest) -> Churned:
    program = guest.work / "churn"
    source = Path(__file__).with_name("churn.c")
    gcc = ["gcc", "-std=gnu11", "-O2", "-static", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([*gcc, "-o", program, source], check=True)
    scans = [sys.executable, "tests/lab/scans.py", "--seconds", f"{SECONDS}", "--least", f"{LEAST}"]
    leave_hvo = [] if guest.config.hvo else ["leave-hvo"]
    running = guest.start([*scans, program, *leave_hvo], cwd=PROJECT)
    dimm = Dimm(guest)
    while running.poll(0.5) is None:
        if running.output.stat().st_size:  # it has come to scan
            dimm.step()
    done = running.wait()
    assert done.returncode == 0, done
    *lines, moved = map(json.loads, done.stdout.splitlines())
    return Churned(guest.config, moved, dimm.plugged, dimm.pulled, lines)


@pytest.fixture
def churned(guest: Guest, churn: Churn) -> Churned:
    return churn(guest.config)


every_kernel = pytest.mark.parametrize("guest", GUESTS, indirect=True, ids=str)


@every_kernel
def test_it_really_moved(churned: Churned) -> None:
    """Else all that follows would hold of a kernel that sleeps."""
    moves = ["grows", "shrinks", "faults", "copies", "forks"]
    others = ["thp_faults", "thp_splits", "offlines", "onlines", "compactions"]
    if churned.config.hvo:
        moves.append("flips")
    assert {move: churned.moved[move] for move in moves + others if churned.moved[move] < 3} == {}
    assert churned.plugged > 0
    assert len(churned.scans) >= LEAST
    pools = {json.dumps(scan["hugepages"]) for scan in churned.scans if "hugepages" in scan}
    assert len(pools) > 1, pools


@every_kernel
def test_no_scan_crashes(churned: Churned) -> None:
    assert [scan["error"] for scan in churned.scans if "error" in scan] == []


@every_kernel
def test_no_scan_finds_what_only_moves(churned: Churned) -> None:
    """But for the defect of some kernels, while the 1 GiB page that they set up at boot lasts."""
    found = [finding for scan in churned.scans for finding in scan.get("findings", ())]
    defect = churned.config.kernel in PROTECTS_TOO_LITTLE
    assert [
        finding
        for finding in found
        if not (defect and finding["rule"] == "tails-read-only" and "at boot" in finding["found"])
    ] == []


@every_kernel
def test_the_classes_of_every_scan_add_up(churned: Churned) -> None:
    """To each other, and to all memory that the kernel showed, with the DIMM or without it.

    Not to what it showed just before and after: in between it may have come and gone again.
    """
    shown = {present for scan in churned.scans for present in scan.get("present", ())}
    for scan in churned.scans:
        if "error" in scan:
            continue
        assert sum(scan["classes"][name] for name in FIVE) == scan["total"]
        assert sum(scan["encodings"].values()) == scan["classes"]["TAIL"]
        assert scan["classes"]["UNREADABLE"] == 0
        assert scan["total"] in shown
