"""The units: systemd takes them, they are locked down, and what they forbid no scan does."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hvoinspect.cli.main import hvoinspect
from tests.cli.conftest import PROJECT, command, environment
from tests.contrib.conftest import CONTRIB, need

UNITS = sorted((CONTRIB / "systemd").iterdir())
SERVICES = [unit for unit in UNITS if unit.suffix == ".service"]
each_service = pytest.mark.parametrize("unit", SERVICES, ids=lambda unit: unit.name)

MOST_EXPOSED = {"hvoinspect-textfile.service": 15, "hvoinspect-export.service": 23}
"""Ten times what `systemd-analyze security` makes of each, from 0 to 100; services unhardened: 96.

What is left is root, CAP_SYS_RAWIO and /proc, which a scan is about, and the network to listen at.
"""


def analyze(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [need("systemd-analyze"), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "SYSTEMD_COLORS": "0", "SYSTEMD_EMOJI": "0"},
    )


def settings(unit: Path) -> list[tuple[str, str]]:
    lines = unit.read_text().splitlines()
    return [(line.partition("=")[0], line.partition("=")[2]) for line in lines if "=" in line]


def test_systemd_takes_them(tmp_path: Path) -> None:
    """Under names of programs that are here."""
    copies = []
    for unit in UNITS:
        copies.append(tmp_path / unit.name)
        copies[-1].write_text(unit.read_text().replace("/usr/local/bin/hvoinspect", "/bin/true"))
    done = analyze("verify", "--man=no", "--recursive-errors=no", *copies)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_mistake_would_be_found(tmp_path: Path) -> None:
    wrong = tmp_path / "hvoinspect-wrong.service"
    text = SERVICES[0].read_text().replace("/usr/local/bin/hvoinspect", "/bin/true")
    wrong.write_text(text.replace("NoNewPrivileges=yes", "NoNewPrivilege=yes"))
    assert "NoNewPrivilege" in analyze("verify", "--man=no", wrong).stderr


@each_service
def test_they_are_locked_down(unit: Path) -> None:
    most = MOST_EXPOSED[unit.name]
    assert analyze("security", "--offline=true", f"--threshold={most}", unit).returncode == 0


@each_service
def test_the_command_is_one(unit: Path) -> None:
    words = dict(settings(unit))["ExecStart"].split()
    assert words[1] == "export"
    with hvoinspect.commands["export"].make_context("export", words[2:]) as context:
        path = context.params["textfile"]
        assert path is None or str(path.parent) == dict(settings(unit))["ReadWritePaths"]
        listen = context.params["listen"]
        assert listen is None or f"tcp:{listen[1]}" == dict(settings(unit))["SocketBindAllow"]


def allowed(unit: Path) -> set[str]:
    """The system calls that a unit lets through."""
    let: set[str] = set()
    for name, value in settings(unit):
        if name == "SystemCallFilter":
            calls = {call for group in value.lstrip("~").split() for call in members(group)}
            let = let - calls if value.startswith("~") else let | calls
    return let


def members(group: str) -> set[str]:
    done = analyze("syscall-filter", group)
    assert done.returncode == 0, done.stderr
    listed = {line.strip() for line in done.stdout.splitlines()[1:]}
    direct = {call for call in listed if call and call[0] not in "#@"}
    return direct.union(*(members(call) for call in listed if call.startswith("@")))


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> str:
    """All system calls of an export of a demo to a file, by two processes, and of a server."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    folder = tmp_path_factory.mktemp("trace")
    script = (
        "import signal, threading, urllib.request, os, re, sys\n"
        "from hvoinspect.report import scrape\n"
        "from hvoinspect.cli.main import main\n"
        "def visit(server):\n"
        "    urllib.request.urlopen('http://%s:%d/metrics' % server.address).read()\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "class Visited(scrape.Scrapes):\n"
        "    def __init__(self, *address):\n"
        "        super().__init__(*address)\n"
        "        threading.Timer(0.5, visit, [self]).start()\n"
        "scrape.Scrapes = Visited\n"
        "main(sys.argv[1:])\n"
    )
    text = ""
    for arguments in (
        command("export", "--demo", "after", "--jobs", "2", "--textfile", folder / "hvo.prom"),
        [sys.executable, "-c", script, "export", "--demo", "after", "--listen", "0"],
    ):
        subprocess.run(
            ["strace", "-f", "-qq", "-o", folder / "trace", *arguments],
            check=True,
            stderr=subprocess.PIPE,
            cwd=PROJECT,
            env=environment({}),
        )
        text += (folder / "trace").read_text(errors="replace")
    return text


HARMLESS = {"mbind", "set_mempolicy"}
"""OpenBLAS, which NumPy brings, asks for memory near its CPU, and takes a no for an answer."""


@each_service
def test_the_filter_lets_a_scan_through(unit: Path, trace: str) -> None:
    made = set(re.findall(r"^\d+ +(\w+)\(", trace, re.MULTILINE))
    assert {"openat", "preadv2", "rename", "accept4"} <= made
    assert made - allowed(unit) - HARMLESS == set()


def test_no_memory_is_made_executable(trace: str) -> None:
    """What MemoryDenyWriteExecute forbids: a mapping to write and run, or to run later."""
    assert not re.findall(r"mmap\([^)]*PROT_WRITE\|PROT_EXEC", trace)
    assert not re.findall(r"(?:pkey_)?mprotect\([^)]*PROT_EXEC", trace)
    assert re.findall(r"mmap\([^)]*PROT_READ\|PROT_EXEC", trace)
