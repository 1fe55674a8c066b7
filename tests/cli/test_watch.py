"""`hvoinspect watch`: as lines, as JSON, and in a real terminal with keys, resized and ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hvoinspect.cli.watch.pace import Pace
from hvoinspect.cli.watch.waiting import keys_in
from tests.cli.conftest import PROJECT, Call, Run, command, environment
from tests.tmux import Terminal, needs_tmux

OPTIONS = ("-i", "0.1", "-n", "2")
ANEW = ("taken_at", "elapsed_seconds")
SLOW = """
import sys, threading
from hvoinspect.api.watch import Watched
def scan(self, progress):
    while True:
        progress(1, 4)
        threading.Event().wait(0.02)
Watched.scan = scan
from hvoinspect.cli.main import main
main(sys.argv[1:])
"""
"""A scan that never ends."""
TELLING = SLOW.replace("while", "print(1, flush=True)\n    while")
FAILING = """
import sys
from hvoinspect.api.watch import Watched
def scan(self, progress): raise ValueError("a mistake")
Watched.scan = scan
from hvoinspect.cli.main import main
main(sys.argv[1:])
"""


class TestLines:
    def test_a_line_a_scan(self, run: Run, core: Path) -> None:
        done = run("watch", "-c", core, *OPTIONS)
        assert (done.returncode, done.stderr) == (0, "")
        lines = done.stdout.splitlines()
        assert len(lines) == 2
        assert all("saved net" in line and line.endswith("no findings") for line in lines)
        assert "\x1b" not in done.stdout

    def test_json_is_that_of_a_scan_an_object_a_line(self, call: Call, core: Path) -> None:
        status, out, err = call("watch", "-c", core, "--json", *OPTIONS)
        whole = json.loads(call("scan", "-c", core, "--json")[1])
        assert (status, err) == (0, "")
        lines = [json.loads(line) for line in out.splitlines()]
        assert len(lines) == 2
        for line in (*lines, whole):
            for name in ANEW:
                del line[name]
        assert lines == [whole, whole]

    @pytest.mark.parametrize(
        ("dump", "more", "status"),
        [("core", (), 0), ("damaged_core", (), 1), ("partial_core", (), 4)],
    )
    def test_the_exit_status_is_that_of_the_worst_scan(
        self,
        call: Call,
        request: pytest.FixtureRequest,
        dump: str,
        more: tuple[str, ...],
        status: int,
    ) -> None:
        path = request.getfixturevalue(dump)
        assert call("watch", "-c", path, "-n", "1", *more)[0] == status

    def test_warnings_and_rules_as_in_a_scan(self, call: Call) -> None:
        assert call("watch", "--demo", "after", "-n", "1", "--strict")[0] == 1
        status, out, _ = call(
            "watch", "--demo", "after", "-n", "1", "--strict", "--ignore", "tails-read-only"
        )
        assert (status, "no findings" in out) == (0, True)

    def test_a_scan_that_fails_is_told_and_tried_again(self, core: Path, tmp_path: Path) -> None:
        """A dump that is not whole yet."""
        path = tmp_path / "vmcore"
        path.write_bytes(b"not yet")
        watching = subprocess.Popen(
            command("watch", "-c", path, "-i", "0.1"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=PROJECT,
            env=environment({}),
        )
        with watching:
            assert watching.stdout is not None
            first = watching.stdout.readline()
            assert f"scan failed: {path} " in first
            (tmp_path / "whole").write_bytes(core.read_bytes())
            (tmp_path / "whole").rename(path)
            while "failed" in (line := watching.stdout.readline()):
                pass
            assert "no findings" in line
            watching.send_signal(signal.SIGTERM)
            _, err = watching.communicate(timeout=60)
        assert (watching.returncode, err) == (4, ""), "it looked, but not each time"

    def test_with_json_failures_go_to_stderr(self, call: Call, tmp_path: Path) -> None:
        (tmp_path / "none").write_bytes(b"no dump")
        status, out, err = call("watch", "-c", tmp_path / "none", "--json", *OPTIONS)
        assert (status, out) == (3, "")
        assert [line[:24] for line in err.splitlines()] == ["hvoinspect: scan failed:"] * 2

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    def test_a_signal_ends_it_well(self, core: Path, number: signal.Signals) -> None:
        with subprocess.Popen(
            command("watch", "-c", core, "-i", "1000"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=PROJECT,
            env=environment({}),
        ) as watching:
            assert watching.stdout is not None
            assert "no findings" in watching.stdout.readline()
            watching.send_signal(number)
            out, err = watching.communicate(timeout=60)
        assert (watching.returncode, out, err) == (0, "", "")

    def test_the_midst_of_a_scan_too(self, core: Path) -> None:
        with subprocess.Popen(
            [sys.executable, "-c", TELLING, "watch", "-c", str(core)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=PROJECT,
            env=environment({}),
        ) as watching:
            assert watching.stdout is not None
            assert watching.stdout.readline() == "1\n"
            watching.send_signal(signal.SIGTERM)
            out, err = watching.communicate(timeout=60)
        assert (watching.returncode, out, err) == (0, "", "")

    def test_a_bug_is_told_as_one(self) -> None:
        done = subprocess.run(
            [sys.executable, "-c", FAILING, "watch", "--demo", "after"],
            capture_output=True,
            text=True,
            check=False,
            cwd=PROJECT,
            env=environment({}),
        )
        assert (done.returncode, done.stdout) == (3, "")
        assert "a mistake" in done.stderr

    @pytest.mark.parametrize(
        "options", [("-i", "0"), ("-n", "0"), ("-i", "x"), ("--ignore", "none"), ("--width", "80")]
    )
    def test_usage(self, call: Call, options: tuple[str, ...]) -> None:
        assert call("watch", "--demo", "after", *options)[0] == 2

    def test_symbols_that_are_missing_end_it(self, call: Call, core: Path, tmp_path: Path) -> None:
        """It would make no more sense the next time."""
        status, out, err = call("watch", "-c", core, "-s", tmp_path / "vmlinux")
        assert (status, out) == (2, "")
        assert "there is no file" in err


@pytest.mark.parametrize(
    ("typed", "keys"),
    [
        (b"q", "q"),
        (b"\x1b[A", ""),  # an arrow
        (b"\x1b[Axp", "xp"),
        (b"p\x1bOHq\x1b[15~?", "pq?"),
        (b"\x1bp ", " "),  # Alt
        (b"\x1b", ""),
        (b"\xff?", "\ufffd?"),
    ],
)
def test_keys_that_come_with_others_are_told_from_them(typed: bytes, keys: str) -> None:
    assert keys_in(typed) == keys


class TestPace:
    def test_from_start_to_start(self) -> None:
        pace = Pace(5.0, 100.0)
        assert pace.ready(100.0)
        pace.began(100.0)
        assert not pace.ready(104.9)
        assert pace.ready(105.0)

    def test_what_took_long_is_not_made_up_for(self) -> None:
        pace = Pace(5.0, 100.0)
        pace.began(100.0)
        assert pace.ready(117.0)
        pace.began(117.0)
        assert not pace.ready(121.9)

    def test_a_pause(self) -> None:
        pace = Pace(5.0, 100.0)
        pace.paused = True
        assert not pace.ready(1000.0)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    with Terminal(PROJECT) as made:
        yield made


STATUS = "; echo status=$?; stty -a | grep -q -e -icanon -e '-echo ' || echo modes are ba''ck"


def assert_given_back(terminal: Terminal, status: int) -> None:
    """That the screen, the terminal's modes and the exit status are as they should be."""
    screen = terminal.wait("modes are back")
    assert f"status={status}" in screen
    assert not terminal.is_alternate()
    assert "Linux" not in screen, "what was shown is gone"


@needs_tmux
class TestTerminal:
    def test_keys(self, terminal: Terminal, core: Path) -> None:
        terminal.run(command("watch", "-c", core, "-i", "1000"), STATUS)
        screen = terminal.wait("scan 1, took")
        assert terminal.is_alternate()
        assert "findings: no findings" in screen
        assert "q quit" in screen
        terminal.press("Space")
        terminal.wait("scan 2, took")
        terminal.press("?")
        assert "scan now, also while paused" in terminal.wait("quit\n")
        terminal.press("?")
        terminal.wait("findings")
        terminal.press("Up", "x")  # no keys of this
        terminal.press("p")
        terminal.wait("paused")
        terminal.press("Space")
        terminal.wait("scan 3, took")
        assert "paused" in terminal.screen()
        terminal.press("p")
        terminal.wait("next in")
        terminal.press("q")
        assert_given_back(terminal, 0)

    def test_what_changes_is_seen(self, terminal: Terminal, core: Path, tmp_path: Path) -> None:
        """The kernel is opened once, so a dump that is written to shows what was written."""
        path = tmp_path / "vmcore"
        dump = core.read_bytes()
        path.write_bytes(dump)
        terminal.run(command("watch", "-c", path, "-i", "0.2"), STATUS)
        terminal.wait("findings: no findings")
        tail = dump.index((0xFFFFEA0000000000 + 512 * 64 + 1).to_bytes(8, "little"))
        with path.open("r+b") as file:
            file.seek(tail)
            file.write((0x1235).to_bytes(8, "little"))
        terminal.wait("since the start)")
        assert "findings: 1 error" in terminal.screen()
        terminal.press("q")
        assert_given_back(terminal, 1)

    def test_a_window_that_is_resized(self, terminal: Terminal, core: Path) -> None:
        terminal.type("COLUMNS=80 LINES=24; export COLUMNS LINES")  # as some shells do
        terminal.run(command("watch", "-c", core, "-i", "1000"), STATUS)
        terminal.wait("scan 1, took")
        terminal.resize(40, 10)
        terminal.wait("more lines do not fit")
        terminal.resize(100, 30)
        terminal.wait(lambda seen: "no findings" in seen and "q quit" in seen.split("\n")[29])
        terminal.press("q")
        assert_given_back(terminal, 0)

    def test_keys_are_answered_in_the_midst_of_a_scan(self, terminal: Terminal) -> None:
        terminal.run([sys.executable, "-c", SLOW, "watch", "--demo", "after"], STATUS)
        terminal.wait("scanning 25.0%")
        terminal.press("?")
        terminal.wait("scan now, also while paused")
        terminal.press("Space")  # one is being made: no other piles up
        terminal.press("q")
        assert_given_back(terminal, 0)

    @pytest.mark.parametrize("how", ["C-c", "TERM", "HUP"])
    def test_whatever_ends_it_gives_the_terminal_back(
        self, terminal: Terminal, core: Path, how: str
    ) -> None:
        terminal.run(command("watch", "-c", core), STATUS)
        terminal.wait("scan 1, took")
        if how == "C-c":
            terminal.press("C-c")
        else:
            os.kill(terminal.child(), getattr(signal, f"SIG{how}"))
        assert_given_back(terminal, 0)

    def test_a_bug_gives_it_back_and_is_told(self, terminal: Terminal) -> None:
        terminal.run([sys.executable, "-c", FAILING, "watch", "--demo", "after"], STATUS)
        screen = terminal.wait("status=3")
        assert "a mistake" in screen
        assert_given_back(terminal, 3)

    def test_it_can_be_suspended(self, terminal: Terminal, core: Path) -> None:
        terminal.run(command("watch", "-c", core, "-i", "1000"), STATUS)
        terminal.wait("scan 1, took")
        terminal.press("C-z")
        terminal.wait(lambda _: not terminal.is_alternate())
        terminal.type("fg")
        terminal.wait("scan 1, took")
        assert terminal.is_alternate()
        terminal.press("q")
        terminal.wait(lambda _: not terminal.is_alternate())

    def test_a_scan_that_fails(self, terminal: Terminal, core: Path, tmp_path: Path) -> None:
        (tmp_path / "vmcore").write_bytes(b"not yet")
        terminal.run(command("watch", "-c", tmp_path / "vmcore", "-i", "0.2"), STATUS)
        terminal.wait("failed:")
        (tmp_path / "whole").write_bytes(core.read_bytes())
        (tmp_path / "whole").rename(tmp_path / "vmcore")
        terminal.wait(lambda seen: "no findings" in seen and "failed:" not in seen)
        terminal.press("q")
        assert_given_back(terminal, 4)

    def test_without_colours(self, core: Path) -> None:
        with Terminal(PROJECT, NO_COLOR="1") as terminal:
            terminal.run(command("watch", "-c", core, "-n", "1"), STATUS)
            assert_given_back(terminal, 0)
