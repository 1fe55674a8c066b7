"""`hvoinspect scan` from the command line: what it prints where, and its exit statuses."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hvoinspect.api import scan as api
from hvoinspect.report.result import ScanResult
from hvoinspect.target.choice import Target
from tests.cli.conftest import PROJECT, Call, Run, command, environment
from tests.cli.test_main import told
from tests.report.situations import situation
from tests.target.test_open import user_core


class TestResults:
    def test_a_page_by_default(self, run: Run, core: Path) -> None:
        done = run("scan", "-c", core)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith(f"Linux 6.12.0 x86_64, from {core}"[:60])
        assert "\nNo findings.\n" in done.stdout
        assert "\x1b" not in done.stdout

    def test_json(self, run: Run, core: Path) -> None:
        done = run("scan", "-c", core, "--json")
        assert (done.returncode, done.stderr) == (0, "")
        result = json.loads(done.stdout)
        assert result["schema"] == "hvoinspect.scan/1"
        assert result["source"]["path"] == str(core)
        assert (result["pages"]["head"], result["pages"]["tail"]) == (1, 511)

    def test_quiet(self, call: Call, core: Path) -> None:
        assert call("scan", "-c", core, "-q") == (0, "", "")

    @pytest.mark.parametrize("width", [40, 200])
    def test_a_width(self, call: Call, core: Path, width: int) -> None:
        _, out, _ = call("scan", "-c", core, "--width", width)
        assert 36 <= max(len(line) for line in out.splitlines()) <= width

    def test_ascii_where_the_output_is(self, run: Run, core: Path) -> None:
        done = run("scan", "-c", core, PYTHONUTF8="0", PYTHONIOENCODING="ascii")
        assert (done.returncode, done.stderr) == (0, "")
        assert " [####" in done.stdout
        assert done.stdout.isascii()


class TestExitStatus:
    def test_findings(self, run: Run, damaged_core: Path) -> None:
        done = run("scan", "-c", damaged_core)
        assert done.returncode == 1
        assert "error: tail-decodes-to-head at pfn 0x230" in done.stdout
        assert "not intact: 1 error found" in " ".join(done.stdout.split())

    def test_partial(self, run: Run, partial_core: Path) -> None:
        done = run("scan", "-c", partial_core, "--json")
        assert done.returncode == 4
        assert 0 < json.loads(done.stdout)["coverage"]["fraction"] < 1

    @pytest.mark.parametrize(
        ("name", "strict", "status"),
        [
            ("mask", False, 0),
            ("mask", True, 0),
            ("warning", False, 0),
            ("warning", True, 1),
            ("error", False, 1),
            ("partial", False, 4),
            ("own view", False, 4),
        ],
    )
    @pytest.mark.parametrize("how", ["", "--json", "-q"])
    def test_it_is_the_same_however_it_is_shown(
        self,
        call: Call,
        monkeypatch: pytest.MonkeyPatch,
        name: str,
        strict: bool,
        status: int,
        how: str,
    ) -> None:
        monkeypatch.setattr(api, "scan_target", lambda *_arguments, **_options: situation(name))
        arguments = [argument for argument in (how, "--strict" if strict else "") if argument]
        assert call("scan", *arguments)[0] == status


def note_targets(monkeypatch: pytest.MonkeyPatch) -> list[Target]:
    """Let no scan be made; return where those that are asked for will be."""
    asked: list[Target] = []

    def scan_target(
        target: Target, _progress: object, _ignored: object, **_options: object
    ) -> ScanResult:
        asked.append(target)
        return situation("mask")

    monkeypatch.setattr(api, "scan_target", scan_target)
    return asked


class TestRules:
    def test_they_are_listed_without_a_kernel(self, call: Call) -> None:
        status, out, err = call("scan", "--rules")
        assert (status, err) == (0, "")
        assert "tails-read-only" in out
        status, listed, _ = call("scan", "--rules", "--json")
        rules = json.loads(listed)["rules"]
        assert status == 0
        assert [rule["name"] for rule in rules if rule["name"] not in out] == []
        assert {rule["severity"] for rule in rules} == {"error", "warning"}

    def test_the_whole_of_each_is_shown_if_asked_for(self, call: Call) -> None:
        _, out, _ = call("scan", "--rules", "-v", "--width", 400)
        rules = json.loads(call("scan", "--rules", "--json")[1])["rules"]
        for rule in rules:
            assert rule["about"].startswith(rule["holds"])
            assert f"  A breach: {rule['meaning']}\n" in out
            for paragraph in rule["about"].split("\n\n"):
                assert " ".join(paragraph.split()) in " ".join(out.split())

    @pytest.mark.parametrize("more", [(), ("-v",)])
    @pytest.mark.parametrize("width", [40, 80, 200])
    def test_at_any_width(self, call: Call, width: int, more: tuple[str, ...]) -> None:
        _, out, _ = call("scan", "--rules", *more, "--width", width)
        assert max(len(line) for line in out.splitlines()) <= width
        assert "\u2026" not in out, "nothing is cut off"

    def test_one_that_is_ignored_is_neither_shown_nor_counted(
        self, call: Call, damaged_core: Path
    ) -> None:
        asked = ("scan", "-c", damaged_core, "--ignore", "tail-decodes-to-head")
        status, out, _ = call(*asked)
        assert status == 0
        assert "No findings.\nNot checked, as asked: tail-decodes-to-head.\n" in out
        result = json.loads(call(*asked, "--ignore", "tails-read-only", "--json")[1])
        assert result["ignored_rules"] == ["tails-read-only", "tail-decodes-to-head"]
        assert result["findings_count"] == {"error": 0, "warning": 0}

    def test_another_is_not_affected(self, call: Call, damaged_core: Path) -> None:
        assert call("scan", "-c", damaged_core, "--ignore", "tails-read-only")[0] == 1

    def test_one_that_is_unknown(self, call: Call) -> None:
        status, out, err = call("scan", "--demo", "after", "--ignore", "tails_read_only")
        assert (status, out) == (2, "")
        assert "no rule is named tails_read_only" in told(err)[0]
        assert "tails-read-only" in err


class TestTargets:
    def test_the_running_kernel_by_default_or_when_asked_for(
        self, call: Call, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = note_targets(monkeypatch)
        call("scan")
        call("scan", "-k", "-s", "vmlinux")
        call("scan", "--kernel", "--symbols", "vmlinux")
        assert asked == [Target(), *[Target(symbols=Path("vmlinux"))] * 2]

    def test_a_dump_with_symbols(self, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
        asked = note_targets(monkeypatch)
        call("scan", "-c", "vmcore", "-s", "vmlinux")
        call("scan", "--core", "vmcore", "--vmcoreinfo", "text")
        assert asked == [
            Target(Path("vmcore"), symbols=Path("vmlinux")),
            Target(Path("vmcore"), vmcoreinfo=Path("text")),
        ]

    def test_a_guest_and_a_demo(self, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
        asked = note_targets(monkeypatch)
        call("scan", "--qemu", "qmp.sock")
        call("scan", "--demo", "after")
        assert asked == [Target(qemu="qmp.sock"), Target(demo="after")]

    @pytest.mark.parametrize(
        "arguments",
        [
            ("-k", "-c", "vmcore"),
            ("-c", "vmcore", "--qemu", "sock"),
            ("--demo", "after", "-k"),
            ("--vmcoreinfo", "text"),
            ("--demo", "later"),
        ],
    )
    def test_what_excludes_each_other(self, call: Call, arguments: tuple[str, ...]) -> None:
        status, out, err = call("scan", *arguments)
        assert (status, out) == (2, "")
        told(err)

    @pytest.mark.parametrize(("name", "fakes"), [("before", 4095 + 64 * 7), ("after", 0)])
    def test_demos_are_there_for_anyone(self, call: Call, name: str, fakes: int) -> None:
        """Linux 7.0 and 7.1 with 64 pages of 2 MiB and one of 1 GiB, all of them optimized."""
        status, out, _ = call("scan", "--demo", name, "--json")
        assert status == 0
        result = json.loads(out)
        assert result["source"] == {
            "kind": "demo",
            "path": name,
            "debug_info": ["vmcoreinfo", "btf"],
        }
        assert result["pages"]["fake_head"] == fakes
        assert [pool["optimized"] for pool in result["hugetlb"]] == [64, 1]
        assert result["vmemmap"]["saved_bytes"] == (4095 + 64 * 7) * 4096

    @pytest.mark.parametrize(
        ("content", "status"),
        [(None, 2), (b"", 3), (b"text\n", 3), (os.urandom(4096), 3), (user_core(), 3)],
        ids=["missing", "empty", "text", "random", "a program's"],
    )
    def test_what_is_no_dump(
        self, call: Call, tmp_path: Path, content: bytes | None, status: int
    ) -> None:
        if content is not None:
            (tmp_path / "vmcore").write_bytes(content)
        got, out, err = call("scan", "-c", tmp_path / "vmcore")
        assert (got, out) == (status, "")
        assert str(tmp_path / "vmcore") in told(err)[0]

    def test_a_directory(self, run: Run, tmp_path: Path) -> None:
        done = run("scan", "-c", tmp_path)
        assert done.returncode == 2
        assert told(done.stderr)[0] == f"{tmp_path} is no file"

    @pytest.mark.parametrize("kept", [100, 500, 4096, 2 << 20])
    def test_a_dump_that_was_cut_off(
        self, call: Call, core: Path, tmp_path: Path, kept: int
    ) -> None:
        (tmp_path / "vmcore").write_bytes(core.read_bytes()[:kept])
        status, out, err = call("scan", "-c", tmp_path / "vmcore")
        assert (status, out) == (3, "")
        told(err)

    def test_symbols_that_are_missing(self, call: Call, core: Path, tmp_path: Path) -> None:
        status, _, err = call("scan", "-c", core, "-s", tmp_path / "vmlinux")
        assert status == 2
        assert told(err)[0] == f"there is no file {tmp_path}/vmlinux"


SLOW = """
import sys, time
from hvoinspect.api import scan as api
from hvoinspect.cli import progress
from hvoinspect.cli.main import main
progress.PATIENCE_SECONDS = float(sys.argv[1])
scan_target = api.scan_target
def slowly(target, report, ignored, **_options):
    for done in range(8):
        report(done, 8)
        time.sleep(0.05)
    return scan_target(target)
api.scan_target = slowly
main(["scan", "-c", *sys.argv[2:]])
"""
"""A scan that takes almost half a second, with the patience in seconds as its first argument."""


def on_a_terminal(*arguments: object, **variables: str) -> tuple[str, str]:
    """What a slow scan shows on terminals of its own as stdout and as stderr."""
    pairs = [pty.openpty() for _ in range(2)]
    for _, slave in pairs:
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 24, 60, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, *(str(argument) for argument in arguments)],
        stdin=subprocess.DEVNULL,
        stdout=pairs[0][1],
        stderr=pairs[1][1],
        cwd=PROJECT,
        env=environment(variables),
    )
    for _, slave in pairs:
        os.close(slave)
    # A terminal holds 4 KiB, less than a bar draws on a busy machine: both are read all the time.
    with ThreadPoolExecutor(2) as pool:
        seen = list(pool.map(whole, (master for master, _ in pairs)))
    assert process.wait(timeout=60) == 0
    return seen[0].replace("\r\n", "\n"), seen[1].replace("\r\n", "\n")


def whole(master: int) -> str:
    """All that is written to a terminal until nobody has it open."""
    pieces = []
    with contextlib.suppress(OSError):  # EIO: closed on the other side
        while piece := os.read(master, 1 << 16):
            pieces.append(piece)
    os.close(master)
    return b"".join(pieces).decode()


class TestTerminal:
    def test_a_bar_on_stderr_that_leaves_nothing_behind(self, core: Path) -> None:
        out, err = on_a_terminal(0, core)
        assert "reading the vmemmap" in err
        assert "\x1b[?25h" in err, "the cursor is back"
        assert err.endswith("\x1b[2K"), "the line is empty"
        assert "reading" not in out
        assert "No findings.\x1b[0m\n" in out

    def test_none_for_what_is_quick_or_quiet(self, core: Path) -> None:
        assert on_a_terminal(30, core)[1] == ""
        assert on_a_terminal(0, core, "-q") == ("", "")

    def test_colours_and_none_if_asked_for_none(self, core: Path) -> None:
        assert "\x1b[1;32mHVO is on" in on_a_terminal(30, core)[0]
        assert "\x1b" not in on_a_terminal(30, core, NO_COLOR="1")[0]
        assert "\x1b" not in on_a_terminal(30, core, TERM="dumb")[0]

    def test_its_width(self, core: Path) -> None:
        out, _ = on_a_terminal(30, core, NO_COLOR="1")
        lines = out.splitlines()
        assert 55 < max(len(line) for line in lines) <= 60

    @pytest.mark.parametrize("variables", [{}, {"FORCE_COLOR": "1"}])
    def test_nothing_on_stderr_in_a_pipe(self, core: Path, variables: dict[str, str]) -> None:
        """FORCE_COLOR asks for colours, and not for a bar."""
        done = subprocess.run(
            [sys.executable, "-c", SLOW, "0", str(core)],
            capture_output=True,
            text=True,
            check=True,
            cwd=PROJECT,
            env=environment(variables),
        )
        assert done.stderr == ""
        assert ("\x1b" in done.stdout) == bool(variables)


class TestClosedOutput:
    @pytest.mark.parametrize("how", ["", "--json"])
    def test_it_is_told(self, core: Path, how: str) -> None:
        done = self.closed(core, how)
        assert done.returncode == 2
        assert told(done.stderr)[0] == "standard output cannot be written: it is closed"

    def test_it_does_not_matter_to_a_quiet_scan(self, core: Path) -> None:
        done = self.closed(core, "-q")
        assert (done.returncode, done.stderr) == (0, "")

    def closed(self, core: Path, how: str) -> subprocess.CompletedProcess[str]:
        words = " ".join([*command("scan", "-c", core), how])
        return subprocess.run(
            ["/bin/sh", "-c", f"{words} >&-"],
            capture_output=True,
            text=True,
            check=False,
            cwd=PROJECT,
        )
