"""A QEMU guest scanned from outside, by its machine protocol, beside the scan inside it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lab.guest import Guest
from lab.machine import Config
from tests.lab.test_scan import PROJECT, SCAN

SAME = ("kernel", "encoding", "hugetlb", "vmemmap", "findings")
"""What does not change while nobody touches the pools; single pages and slabs come and go."""

GUEST = Config(
    "7.3",
    hvo=True,
    append="hugepages=64",
    modules=("qemu_fw_cfg",),  # gives QEMU the VMCOREINFO
    qemu_args=("-device", "vmcoreinfo"),
)


def outside(*arguments: str | Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "hvoinspect", "scan", "--json", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=PROJECT)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.mark.parametrize("guest", [GUEST], indirect=True, ids=str)
def test_a_running_guest_is_the_same_from_outside(guest: Guest, tmp_path: Path) -> None:
    inside = json.loads(guest.run([*SCAN, "--json"], cwd=PROJECT).stdout)
    seen = outside("--qemu", guest.folder.qmp)
    assert seen["source"]["kind"] == "qemu"
    assert {part: seen[part] for part in SAME} == {part: inside[part] for part in SAME}
    assert seen["pages"]["total"] == inside["pages"]["total"]

    capture = tmp_path / "guest.hvo"
    command = [sys.executable, "-m", "hvoinspect", "capture", "--output", str(capture)]
    subprocess.run([*command, "--qemu", str(guest.folder.qmp)], check=True, cwd=PROJECT)
    captured = outside("-c", capture)
    assert {part: captured[part] for part in SAME} == {part: inside[part] for part in SAME}
