"""What `hvoinspect doctor` says of a real kernel is what a scan there then comes to."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lab.guest import Completed, Guest
from lab.machine import Config
from tests.lab.test_scan import PROJECT, PYTHON, as_nobody

MASKED = "mount --bind /dev/null /proc/kcore && trap 'umount /proc/kcore' EXIT; "

pytestmark = [
    pytest.mark.lab,
    pytest.mark.parametrize("guest", [Config("6.12")], indirect=True, ids=str),
]


def looked(found: Completed, scan: Completed) -> tuple[dict[str, Any], int, int]:
    """The doctor's checks by name, its exit status, and a scan's."""
    checks = {check["name"]: check for check in json.loads(found.stdout)["checks"]}
    return checks, found.returncode, scan.returncode


def as_root(guest: Guest, before: str = "") -> tuple[dict[str, Any], int, int]:
    call = f"{before}{PYTHON} -m hvoinspect"
    commands = (f"{call} doctor --json", f"{call} scan -q")
    return looked(*(guest.run(command, check=False, cwd=PROJECT) for command in commands))


def test_root_can_scan_where_addresses_are_hidden_too(guest: Guest) -> None:
    restrict = "/proc/sys/kernel/kptr_restrict"
    before = f"old=$(cat {restrict}); trap 'echo $old > {restrict}' EXIT; echo 2 > {restrict}; "
    checks, doctor, scan = as_root(guest, before)
    assert (doctor, scan) == (0, 0)
    assert all(check["ok"] for check in checks.values() if "scan" in check["for"])
    assert not checks["kallsyms"]["ok"]
    assert checks["kallsyms"]["for"] == ["hotpath"]


def test_nobody_cannot_and_is_told_the_same(guest: Guest) -> None:
    scan = as_nobody(guest, "scan", "-q")
    checks, doctor, status = looked(as_nobody(guest, "doctor", "--json"), scan)
    assert (doctor, status) == (3, 3)
    assert checks["kcore"]["found"] in scan.stderr
    assert checks["kcore"]["fix"] in scan.stderr


def test_a_masked_memory_leaves_the_own_view(guest: Guest) -> None:
    """As in containers, which have /dev/null in its place."""
    checks, doctor, scan = as_root(guest, MASKED)
    assert (doctor, scan) == (4, 4)
    assert checks["kcore"]["found"] == "/proc/kcore cannot be used: not an ELF core file"
