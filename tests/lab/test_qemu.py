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
from lab.qmp import dump_memory, qmp
from tests.lab.test_scan import PROJECT, SCAN

SAME = ("kernel", "encoding", "hugetlb", "vmemmap", "findings")
"""What does not change while nobody touches the pools; single pages and slabs come and go."""

ANEW = ("source", "taken_at", "elapsed_seconds")
"""What differs between two scans of the same memory."""

GUESTS = [
    Config(
        kernel,
        hvo=True,
        append="hugepages=64",
        modules=("qemu_fw_cfg",),  # gives QEMU the VMCOREINFO
        qemu_args=("-device", "vmcoreinfo"),
    )
    for kernel in ("6.12", "7.3")
]
both = pytest.mark.parametrize("guest", GUESTS, indirect=True, ids=str)


def outside(*arguments: str | Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "hvoinspect", "scan", "--json", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=PROJECT)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@both
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


@both
def test_a_paused_guest_is_what_qemu_dumps_of_it(guest: Guest, tmp_path: Path) -> None:
    """Its memory does not change, so from outside, and in each form of a dump, it is the same."""
    qmp(guest, "stop")
    try:
        seen = outside("--qemu", guest.folder.qmp)
        for form in ("elf", "kdump-zlib"):
            dump = tmp_path / form
            dump_memory(guest, dump, form)
            found = outside("-c", dump)
            assert found["source"]["kind"] == "core"
            assert {name: found[name] for name in seen if name not in ANEW} == {
                name: seen[name] for name in seen if name not in ANEW
            }
            dump.unlink()
    finally:
        qmp(guest, "cont")
    assert seen["hugetlb"][0]["optimized"] == 64
    assert seen["pages"]["unreadable"] == 0
    assert guest.run("echo still here").stdout == "still here\n"
