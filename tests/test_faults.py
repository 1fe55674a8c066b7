"""Whole scans while their system calls fail, by strace's injection: partial, or refused, and true.

And the memory that is looked at is never written.
"""

from __future__ import annotations

import json
import lzma
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.madeup_dumps import kdump
from tests.target.test_open import CORE
from tests.tiny_kernel import SIZE, TinyKernel

PROJECT = Path(__file__).resolve().parents[1]
FRAME = 4096
WRITES = (
    "write,pwrite64,writev,pwritev,pwritev2,process_vm_writev,ptrace,truncate,ftruncate,fallocate,"
    "copy_file_range,sendfile,splice"
)
"""Whatever could write to a file or to another process."""

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


@pytest.fixture(scope="module")
def dumps(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A demo's core, and a tiny kernel as an ELF dump and as a kdump file."""
    folder = tmp_path_factory.mktemp("dumps")
    found = {name: folder / name for name in ("demo", "elf", "kdump")}
    found["demo"].write_bytes(
        lzma.decompress((PROJECT / "hvoinspect/demos/after.hvo").read_bytes())
    )
    found["elf"].write_bytes(CORE)
    kernel = TinyKernel()
    kernel.compound(512, 9)
    kernel.core()
    pages = {
        pfn: (bytes(kernel.memory[pfn * FRAME : (pfn + 1) * FRAME]), 1)
        for pfn in range(SIZE // FRAME)
    }
    text = "".join(f"{key}={value}\n" for key, value in kernel.vmcoreinfo.items())
    found["kdump"].write_bytes(kdump(pages, vmcoreinfo=text.encode()))
    return found


def hvoinspect(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "hvoinspect", *map(str, arguments)]


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=PROJECT, timeout=120
    )


Clean = Callable[[str], dict[str, Any]]


@pytest.fixture(scope="module")
def clean(dumps: dict[str, Path]) -> Clean:
    known: dict[str, dict[str, Any]] = {}

    def clean(name: str) -> dict[str, Any]:
        if name not in known:
            known[name] = json.loads(run(hvoinspect("scan", "--json", "-c", dumps[name])).stdout)
        return known[name]

    return clean


def check(done: subprocess.CompletedProcess[str], whole: dict[str, Any]) -> int:
    """That a scan is whole, or partial and says so, or refused with two lines. Its exit status."""
    assert "Traceback" not in done.stderr
    if done.returncode == 3:
        assert done.stdout == ""
        assert [line[:12] for line in done.stderr.splitlines()] == ["hvoinspect: "] * 2
        return 3
    assert done.stderr == ""
    found = json.loads(done.stdout)
    pages, all_pages = found["pages"], whole["pages"]
    if done.returncode == 4:
        assert pages["unreadable"] > 0
        assert 0 <= found["coverage"]["fraction"] < 1
        assert "cannot be read" in found["notes"][0]
        # What is not seen is of no other class: nothing was taken for zeros.
        for kind in ("head", "fake_head", "tail", "single"):
            assert pages[kind] <= all_pages[kind]
    else:
        assert done.returncode == 0
        for part in ("pages", "hugetlb", "vmemmap", "coverage"):
            assert found[part] == whole[part]
    return done.returncode


def injected(dump: Path, call: str, fault: str, log: Path) -> list[str]:
    """A scan of a dump in which a system call on that file fails."""
    trace = [
        "strace",
        "-f",
        "--seccomp-bpf",
        "-qqq",
        "-o",
        str(log),
        "-P",
        str(dump),
        "-e",
        f"trace={call}",
    ]
    return [*trace, "-e", f"inject={call}:{fault}", *hvoinspect("scan", "--json", "-c", dump)]


BULK = [
    ("error=EIO:when=1", {0, 4}),  # a table is read twice, and so are the halves of a run of frames
    ("error=EIO:when=4", {0, 4}),
    ("error=EFAULT:when=5+2", {0, 4}),
    ("error=ENOMEM:when=3", {0, 4}),
    ("error=EACCES:when=8+", {4}),
    ("error=EPERM:when=1+", {4}),
    ("error=EINTR:when=2+2", {0}),
    ("retval=0:when=4", {0, 4}),  # what nothing came of is read once more
    ("retval=0:when=7+", {4}),
    ("retval=0:when=1+", {4}),
]
"""A fault of the bulk reads, and how a scan may end."""


@pytest.mark.parametrize(("fault", "statuses"), BULK)
def test_bulk_reads_of_an_elf_dump(
    dumps: dict[str, Path], clean: Clean, tmp_path: Path, fault: str, statuses: set[int]
) -> None:
    done = run(injected(dumps["demo"], "preadv2", fault, tmp_path / "log"))
    assert "INJECTED" in (tmp_path / "log").read_text()
    assert check(done, clean("demo")) in statuses


@pytest.mark.parametrize(
    "fault",
    [
        f"{what}:when={when}"
        for what in ("error=EIO", "retval=0")
        for when in ("1", "3", "4", "5", "6", "4+", "1+")
    ],
)
def test_bulk_reads_of_a_kdump_file(
    dumps: dict[str, Path], clean: Clean, tmp_path: Path, fault: str
) -> None:
    """Where its headers cannot be read drgn has another try."""
    done = run(injected(dumps["kdump"], "preadv2", fault, tmp_path / "log"))
    check(done, clean("kdump"))


@pytest.mark.parametrize("name", ["elf", "kdump"])
@pytest.mark.parametrize("call", ["read", "pread64", "openat", "mmap"])
def test_all_else_that_is_done_with_a_dump(
    dumps: dict[str, Path], clean: Clean, tmp_path: Path, name: str, call: str
) -> None:
    """Headers, symbols, types: each of the first calls fails, and each from there on."""
    ends = set()
    for when in ("1", "3", "1+", "4+", "20+"):
        command = injected(dumps[name], call, f"error=EIO:when={when}", tmp_path / "log")
        done = run(command)
        if "INJECTED" in (tmp_path / "log").read_text():
            ends.add(check(done, clean(name)))
    assert ends <= {0, 2, 3, 4}


TRUNCATED = """
import json, os, sys
from hvoinspect.api import scan as api
from hvoinspect.cli.main import main
scan_target = api.scan_target
def truncated(target, progress, ignored, **_options):
    return scan_target(target, lambda done, _total: os.truncate(sys.argv[2], int(sys.argv[1])))
api.scan_target = truncated
main(["scan", "--json", "-c", sys.argv[2]])
"""
"""A scan of a dump that is truncated when its headers, symbols and types have been read."""


@pytest.mark.parametrize("name", ["demo", "elf"])
@pytest.mark.parametrize("part", [0, 1, 8, 10])
def test_a_dump_that_shrinks_while_it_is_read(
    dumps: dict[str, Path], clean: Clean, tmp_path: Path, name: str, part: int
) -> None:
    dump = tmp_path / "vmcore"
    shutil.copyfile(dumps[name], dump)
    size = str(dump.stat().st_size * part // 16)
    done = run([sys.executable, "-c", TRUNCATED, size, str(dump)])
    assert check(done, clean(name)) == 4


def test_a_dump_that_is_replaced_while_it_is_read(
    dumps: dict[str, Path], clean: Clean, tmp_path: Path
) -> None:
    dump, other = tmp_path / "vmcore", tmp_path / "other"
    shutil.copyfile(dumps["demo"], dump)
    other.write_bytes(os.urandom(1 << 20))
    replacing = TRUNCATED.replace(
        "os.truncate(sys.argv[2], int(sys.argv[1]))",
        "os.path.exists(sys.argv[1]) and os.replace(sys.argv[1], sys.argv[2])",
    )
    done = run([sys.executable, "-c", replacing, str(other), str(dump)])
    assert not other.exists()
    assert check(done, clean("demo")) == 0


@pytest.mark.parametrize("name", ["demo", "elf", "kdump"])
@pytest.mark.parametrize("command", ["scan", "page", "capture"])
def test_a_dump_is_opened_for_reading_only_and_never_written(
    dumps: dict[str, Path], tmp_path: Path, name: str, command: str
) -> None:
    dump, log = dumps[name], tmp_path / "log"
    before = (dump.stat().st_mtime_ns, dump.read_bytes())
    words = {
        "scan": ["scan"],
        "page": ["page", "pfn:0x200"],
        "capture": ["capture", "-o", str(tmp_path / "host.hvo")],
    }[command]
    trace = ["strace", "-f", "--seccomp-bpf", "-y", "-qqq", "-o", str(log), "-P", str(dump)]
    done = run(
        [*trace, "-e", f"trace=open,openat,openat2,mmap,{WRITES}", *hvoinspect(*words, "-c", dump)]
    )
    assert done.returncode == 0, done.stderr
    seen = log.read_text().splitlines()
    opened = [line for line in seen if re.search(r"\bopen(at2?)?\(", line)]
    mapped = [line for line in seen if re.search(r"\bmmap\(", line)]
    assert opened
    assert all("O_RDONLY" in line for line in opened)
    assert not any("PROT_WRITE" in line and "MAP_SHARED" in line for line in mapped)
    assert len(seen) == len(opened) + len(mapped), "nothing else was done with it"
    assert before == (dump.stat().st_mtime_ns, dump.read_bytes())
