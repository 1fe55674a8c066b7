"""Captures of real kernels: they scan like the kernel, and hold nobody's data."""

from __future__ import annotations

import json
import lzma
import mmap
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hvoinspect.target.choice import Target
from lab.guest import Guest
from lab.machine import Config
from tests.lab.conftest import some
from tests.lab.page_witness import heads, heads_of_every_page
from tests.lab.test_scan import ON, PROJECT, PYTHON, Look, look, optimized
from tests.opened import open_with_drgn

__all__ = ["look"]  # a fixture

BOTH_ENCODINGS = [config for config in ON if config.kernel in ("7.0", "7.3")]
CAPTURE = [PYTHON, "-m", "hvoinspect", "capture", "--output"]


@pytest.fixture
def capture(guest: Guest) -> Iterator[Path]:
    """A capture that was taken in the guest, of itself."""
    path = guest.work / "host.hvo"
    guest.run([*CAPTURE, path], cwd=PROJECT, timeout=600)
    yield path
    path.unlink()


def scan_of(path: Path, *options: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "hvoinspect", "scan", "--json", "-c", str(path), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=PROJECT)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.mark.parametrize("guest", some(ON), indirect=True, ids=str)
def test_a_capture_shows_what_the_live_scan_showed(guest: Guest, capture: Path, look: Look) -> None:
    """And in it every page of a hugepage of each size leads to its head, as drgn says too."""
    live, captured = look(guest.config).scan, scan_of(capture)
    for part in ("kernel", "encoding", "hugetlb", "findings"):
        assert captured[part] == live[part]
    # The kernel allocates no vmemmap between the two, so not one frame may differ.
    assert captured["vmemmap"] == live["vmemmap"]
    for name in ("total", "fake_head", "unreadable", "offline"):
        assert captured["pages"][name] == live["pages"][name]
    assert captured["coverage"]["fraction"] == 1.0
    assert capture.stat().st_mode & 0o777 == 0o600

    # As quickly as can be or every struct page, in one process or several: it is all the same.
    for options in (["--exhaustive"], ["--jobs", "3"], ["--exhaustive", "--jobs", "3"]):
        again = scan_of(capture, *options)
        for part in ("encoding", "pages", "hugetlb", "vmemmap", "findings", "unstable"):
            assert again[part] == captured[part]

    kernel, prog = open_with_drgn(Target(capture))
    for order, found_heads in heads(kernel).items():
        assert len(found_heads) == optimized(captured, 4096 << order) > 0, captured["hugetlb"]
        if order > 9 and guest.config not in BOTH_ENCODINGS:
            continue  # a quarter of a million pages, one at a time
        head = found_heads[0]
        found = heads_of_every_page(kernel, prog, head, order)
        assert found == {"pages": 1 << order, "ours": [head], "drgn": [head], "right": head}


SECRETS = {
    "memory": b"in-the-memory-of-a-process",
    "page cache": b"in-the-page-cache-of-a-file",
    "environment": b"in-the-environment-of-a-process",
    "socket": b"in-the-buffer-of-a-socket",
}
"""What is planted is this with `-planted` after it, which no file of the host has."""

PLANT = """
import os, socket, sys, time
memory = bytearray(b"in-the-memory-of-a-process" + b"-planted") * 500
with open("/tmp/secret", "wb") as file:
    file.write((b"in-the-page-cache-of-a-file" + b"-planted") * 500)
a, b = socket.socketpair()
a.send((b"in-the-buffer-of-a-socket" + b"-planted") * 100)
print("planted", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize(
    "guest", [Config("7.3", hvo=True, append="hugepages=64")], indirect=True, ids=str
)
def test_no_data_of_anybody_is_in_a_capture(guest: Guest) -> None:
    """What is in all of a 2 GiB guest's memory is not in the capture, which is at most 5 MB."""
    script = guest.work / "plant.py"
    script.write_text(PLANT, encoding="utf-8")
    secret = f"{SECRETS['environment'].decode()}-planted"
    planting = guest.start([PYTHON, script], env={"SECRET": secret})
    while "planted" not in planting.output.read_text(encoding="utf-8"):
        assert planting.poll(0.5) is None
    capture, everything = guest.work / "host.hvo", guest.work / "everything"
    try:
        guest.run([*CAPTURE, capture], cwd=PROJECT, timeout=600)
        save_memory(guest.folder.qmp, everything)
        with (
            everything.open("rb") as file,
            mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as all_,
        ):
            there = {name: all_.find(word + b"-planted") >= 0 for name, word in SECRETS.items()}
        assert there == dict.fromkeys(SECRETS, True)
        content = lzma.decompress(capture.read_bytes())
        assert {name: word in content for name, word in SECRETS.items()} == dict.fromkeys(
            SECRETS, False
        )
        assert b"-planted" not in content
        assert capture.stat().st_size <= 5_000_000
    finally:
        planting.kill()
        everything.unlink(missing_ok=True)


def save_memory(address: Path, output: Path) -> None:
    """Let QEMU write all of the guest's memory, by its machine protocol (QMP)."""
    with socket.socket(socket.AF_UNIX) as qmp:
        qmp.connect(str(address))
        with qmp.makefile("rw", encoding="utf-8") as lines:
            lines.readline()
            arguments = {"paging": False, "protocol": f"file:{output}"}
            for command in (
                {"execute": "qmp_capabilities"},
                {"execute": "dump-guest-memory", "arguments": arguments},
            ):
                lines.write(json.dumps(command) + "\n")
                lines.flush()
                while "return" not in (answer := json.loads(lines.readline())):
                    assert "error" not in answer, answer
