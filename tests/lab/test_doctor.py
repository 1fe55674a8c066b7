"""What `hvoinspect doctor` says of a real kernel is what a scan there then comes to."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from lab.guest import Guest
from lab.machine import Config

PYTHON = sys.executable
PROJECT = Path(__file__).resolve().parents[2]
HVOINSPECT = [PYTHON, "-m", "hvoinspect"]
MASKED = "mount --bind /dev/null /proc/kcore && trap 'umount /proc/kcore' EXIT; "

pytestmark = [
    pytest.mark.lab,
    pytest.mark.parametrize("guest", [Config("6.12", hvo=True)], indirect=True, ids=str),
]


def look(
    guest: Guest, user: str | None = None, before: str = ""
) -> tuple[dict[str, Any], int, int, str]:
    """The doctor's JSON by name of check, its exit status, a scan's, and what the scan said."""
    call = " ".join(HVOINSPECT)
    found = guest.run(f"{before}{call} doctor --json", user=user, check=False, cwd=PROJECT)
    scan = guest.run(f"{before}{call} scan -q", user=user, check=False, cwd=PROJECT)
    checks = {check["name"]: check for check in json.loads(found.stdout)["checks"]}
    return checks, found.returncode, scan.returncode, scan.stderr


def test_root_can_scan(guest: Guest) -> None:
    checks, doctor, scan, _ = look(guest)
    assert (doctor, scan) == (0, 0)
    assert all(check["ok"] for check in checks.values() if "scan" in check["for"])


def test_nobody_cannot_and_is_told_the_same(guest: Guest) -> None:
    checks, doctor, scan, said = look(guest, user="nobody")
    assert (doctor, scan) == (3, 3)
    assert checks["kcore"]["found"] in said
    assert checks["kcore"]["fix"] in said


def test_a_masked_memory_leaves_the_own_view(guest: Guest) -> None:
    """As in containers, which have /dev/null in its place."""
    checks, doctor, scan, _ = look(guest, before=MASKED)
    assert (doctor, scan) == (4, 4)
    assert checks["kcore"]["found"] == "/proc/kcore cannot be used: not an ELF core file"


def test_hidden_addresses_do_not_stop_a_scan(guest: Guest) -> None:
    restrict = "/proc/sys/kernel/kptr_restrict"
    before = f"old=$(cat {restrict}); trap 'echo $old > {restrict}' EXIT; echo 2 > {restrict}; "
    checks, doctor, scan, _ = look(guest, before=before)
    assert (doctor, scan) == (0, 0)
    assert not checks["kallsyms"]["ok"]
    assert checks["kallsyms"]["for"] == ["hotpath"]
