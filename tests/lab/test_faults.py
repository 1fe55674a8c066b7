"""Scans of a running kernel while reads of /proc/kcore fail; and that nothing there is written.

By strace's injection, in the guest: partial and says so, or refused with two lines, and true.
"""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from lab.guest import Completed, Guest
from lab.machine import Config
from tests.lab.test_qemu import both
from tests.lab.test_scan import ON, PROJECT, SCAN
from tests.test_faults import WRITES, hvoinspect, run

# What fails is the tool's own reading, which is the same on every kernel.
newest = pytest.mark.parametrize("guest", [ON[-1]], indirect=True, ids=str)
STRACE = ["strace", "-f", "--seccomp-bpf", "-qqq", "-o", "/tmp/log"]


Whole = dict[str, Any]


@pytest.fixture(scope="session")
def scans() -> dict[Config, Whole]:
    return {}


@pytest.fixture
def whole(guest: Guest, scans: dict[Config, Whole]) -> Whole:
    """A scan of the guest in which nothing fails, once a session."""
    if guest.config not in scans:
        scans[guest.config] = json.loads(guest.run([*SCAN, "--json"], cwd=PROJECT).stdout)
    return scans[guest.config]


def injected(guest: Guest, call: str, fault: str) -> tuple[Completed, bool]:
    """A scan in which a system call on /proc/kcore fails, and whether it did."""
    trace = [*STRACE, "-P", "/proc/kcore", "-e", f"trace={call}", "-e", f"inject={call}:{fault}"]
    done = guest.run([*trace, *SCAN, "--json"], check=False, cwd=PROJECT, timeout=300)
    return done, guest.run("grep -c INJECTED /tmp/log", check=False).stdout.strip() not in ("", "0")


BULK = ["error=EIO:when=3", "error=EFAULT:when=12+9", "error=ENOMEM:when=20+", "retval=0:when=9+5"]


@newest
@pytest.mark.parametrize("fault", BULK)
def test_bulk_reads(guest: Guest, whole: Whole, fault: str) -> None:
    done, was = injected(guest, "preadv2", fault)
    assert was
    assert done.stderr == ""
    found = json.loads(done.stdout)
    pages, all_pages = found["pages"], whole["pages"]
    assert done.returncode == (4 if pages["unreadable"] else 0)
    assert pages["total"] == all_pages["total"]
    # Nothing is taken for zeros: what is not seen is of no other class, and damages nothing.
    assert pages["fake_head"] <= all_pages["fake_head"]
    come_and_go = pages["total"] // 50
    assert pages["single"] <= all_pages["single"] + come_and_go
    assert {f["rule"] for f in found["findings"]} <= {f["rule"] for f in whole["findings"]}
    for pool, all_ in zip(found["hugetlb"], whole["hugetlb"], strict=False):
        if not pages["unreadable"]:
            assert pool == all_


@newest
@pytest.mark.parametrize("error", ["EPERM", "EIO"])
def test_opening_it(guest: Guest, error: str) -> None:
    """Its own view takes its place, or drgn's way to it, or two lines."""
    for when in ("1", "1+"):
        done, was = injected(guest, "openat", f"error={error}:when={when}")
        assert was
        assert "Traceback" not in done.stderr
        if done.returncode == 3:
            assert [line[:12] for line in done.stderr.splitlines()] == ["hvoinspect: "] * 2
        else:
            found = json.loads(done.stdout)
            assert done.returncode == (0 if found["source"]["kind"] == "kcore" else 4)


@newest
def test_what_else_is_read_of_it(guest: Guest) -> None:
    for call, when in (("pread64", "4+"), ("read", "1")):
        done, _ = injected(guest, call, f"error=EIO:when={when}")
        assert "Traceback" not in done.stderr
        if done.returncode == 3:
            assert [line[:12] for line in done.stderr.splitlines()] == ["hvoinspect: "] * 2
        else:
            assert done.returncode in (0, 4)


@newest
@pytest.mark.parametrize(
    "words", [["scan"], ["page", "pfn:0x1000"], ["capture", "-o", "/tmp/x.hvo"]]
)
def test_it_is_opened_for_reading_only_and_never_written(guest: Guest, words: list[str]) -> None:
    # Not write(2): a descriptor that is O_RDONLY has none, and a capture has thousands of others.
    calls = "trace=open,openat,openat2,mmap,process_vm_writev,ptrace"
    traced = ["-y", "-P", "/proc/kcore", "-e", calls]
    guest.run([*STRACE, *traced, *hvoinspect(*words)], cwd=PROJECT, timeout=300)
    lines = guest.run("cat /tmp/log; rm -f /tmp/x.hvo").stdout.splitlines()
    assert lines
    for line in lines:
        assert re.search(r"\bopenat\(.*O_RDONLY", line)


@both
def test_a_qemu_guest_is_read_and_not_written(guest: Guest) -> None:
    """By process_vm_readv; whatever is said to QEMU only asks."""
    log = guest.work / "strace.log"
    calls = f"trace=open,openat,openat2,process_vm_readv,{WRITES},sendto,sendmsg"
    trace = ["strace", "-f", "-y", "-qqq", "-s", "300", "-o", str(log), "-e", calls]
    done = run([*trace, *hvoinspect("scan", "-q", "--qemu", guest.folder.qmp)])
    assert done.returncode == 0, done.stderr
    text = log.read_text()
    assert "process_vm_readv(" in text
    assert not re.search(r"process_vm_writev\(|ptrace\(|/proc/\d+/mem", text)
    asked = set(re.findall(r'\\"execute\\":\s*\\"([\w-]+)\\"', text))
    said = set(re.findall(r'\\"command-line\\":\s*\\"(\w+ ?\w*)', text))
    assert asked <= {
        "qmp_capabilities",
        "human-monitor-command",
        "query-status",
        "query-kvm",
        "query-version",
        "dump-guest-memory",
        "getfd",
        "closefd",
        "query-cpus-fast",
        "query-target",
    }, asked
    assert {command.split()[0] for command in said} <= {"info", "gpa2hva", "xp", "x"}, said
