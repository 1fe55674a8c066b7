"""Counting by tracefs: on a folder that answers writes as the kernel does."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hvoinspect.errors import HvoinspectError
from hvoinspect.hotpath import guardian
from hvoinspect.hotpath.tracefs import TracefsCounter, parse_profile
from tests.hotpath.kernel import make_kernel

PROFILE = """\
  hvoinspect_7_0                                             12               0
  hvoinspect_7_1                                         100004               3
  somebody_elses_name_that_is_longer_than_its_column_is_wide                1               0
"""


class FakeTracefs:
    """What the kernel does with what is written; the addresses of `forbidden` are refused."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "sys/kernel/tracing"
        self.forbidden: dict[int, int] = {}
        self.busy = 0
        self.written: list[tuple[str, str]] = []
        (self.folder / "instances").mkdir()

    def write(self, path: Path, text: str) -> None:
        name = str(path.relative_to(self.folder))
        self.written.append((name, text))
        if name != "kprobe_events":
            return
        lines = path.read_text().splitlines()
        if match := re.fullmatch(r"-:(\S+)\n", text):
            if self.busy:
                self.busy -= 1
                raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
            lines = [line for line in lines if not line.startswith(f"p:{match[1]} ")]
        else:
            error = self.forbidden.get(int(text.split()[1], 16))
            if error:
                raise OSError(error, os.strerror(error))
            lines.append(text.strip())
        path.write_text("".join(f"{line}\n" for line in lines))

    def events(self) -> list[str]:
        return (self.folder / "kprobe_events").read_text().splitlines()


class FakeGuardian:
    """Cleans up in this process when its input is closed."""

    def __init__(self, words: list[str], **_options: Any) -> None:
        self.stdin = self
        self._folder, self._group = Path(words[-2]), words[-1]

    def close(self) -> None:
        guardian.clean(self._folder, self._group)

    def wait(self, _seconds: float) -> None:
        pass


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_kernel(tmp_path)


@pytest.fixture
def tracefs(root: Path, monkeypatch: pytest.MonkeyPatch) -> FakeTracefs:
    fake = FakeTracefs(root)
    monkeypatch.setattr(guardian, "write", fake.write)
    monkeypatch.setattr(subprocess, "Popen", FakeGuardian)
    return fake


def test_a_profile_has_hits_and_misses_by_name() -> None:
    assert parse_profile(PROFILE) == {
        "hvoinspect_7_0": (12, 0),
        "hvoinspect_7_1": (100004, 3),
        "somebody_elses_name_that_is_longer_than_its_column_is_wide": (1, 0),
    }
    assert parse_profile("garbage\n a b c\n 1 2 -3\n\n") == {}


def test_each_address_is_an_event_and_its_hits_are_found_by_name(
    root: Path, tracefs: FakeTracefs
) -> None:
    counter = TracefsCounter(root)
    assert counter.attach([0x1000, 0x2000]) == {}
    group = f"hvoinspect_{os.getpid()}"
    assert tracefs.events() == [f"p:{group}/{group}_0 0x1000", f"p:{group}/{group}_1 0x2000"]
    (tracefs.folder / "kprobe_profile").write_text(
        f"  {group}_1  7  2\n  {group}_0  5  1\n  other_0  9  9\n"
    )
    assert counter.read() == {0x1000: 5, 0x2000: 7}
    assert counter.missed() == 3
    counter.close()
    assert tracefs.events() == []
    assert list((tracefs.folder / "instances").iterdir()) == []


def test_tracing_is_off_before_the_events_are_on(root: Path, tracefs: FakeTracefs) -> None:
    """Else each hit would be written to the buffers."""
    counter = TracefsCounter(root)
    counter.attach([0x1000])
    names = [(name.rsplit("/", 1)[-1], text) for name, text in tracefs.written]
    assert names.index(("tracing_on", "0")) < names.index(("enable", "1"))
    assert not (tracefs.folder / "tracing_on").exists()
    counter.close()


def test_what_the_kernel_refuses_is_returned_with_its_word(
    root: Path, tracefs: FakeTracefs
) -> None:
    tracefs.forbidden = {0x2000: errno.EINVAL, 0x3000: errno.EILSEQ}
    counter = TracefsCounter(root)
    refused = counter.attach([0x1000, 0x2000, 0x3000])
    assert refused[0x2000] == "Invalid argument (EINVAL)"
    assert list(refused) == [0x2000, 0x3000]
    (tracefs.folder / "kprobe_profile").write_text("")
    assert counter.read() == {0x1000: 0}
    counter.close()


def test_a_kernel_that_is_locked_down_is_an_error_and_leaves_nothing(
    root: Path, tracefs: FakeTracefs
) -> None:
    tracefs.forbidden = {0x2000: errno.EPERM}
    with pytest.raises(HvoinspectError, match="locked down"):
        TracefsCounter(root).attach([0x1000, 0x2000])
    assert tracefs.events() == []


def test_without_kprobe_events_it_says_so(root: Path) -> None:
    (root / "sys/kernel/tracing/kprobe_events").unlink()
    with pytest.raises(HvoinspectError, match="no kprobe_events"):
        TracefsCounter(root)


class TestGuardian:
    def test_what_is_still_open_is_told(self, tracefs: FakeTracefs) -> None:
        tracefs.write(tracefs.folder / "kprobe_events", "p:hvoinspect_1/a 0x1\n")
        tracefs.busy = 1
        assert not guardian.clean(tracefs.folder, "hvoinspect_1")
        assert guardian.clean(tracefs.folder, "hvoinspect_1")

    def test_others_events_stay(self, tracefs: FakeTracefs) -> None:
        events = tracefs.folder / "kprobe_events"
        for line in ("p:hvoinspect_12/a 0x1", "p:kprobes/mine 0x2", "p:hvoinspect_1/a 0x3"):
            tracefs.write(events, f"{line}\n")
        assert guardian.clean(tracefs.folder, "hvoinspect_1")
        assert tracefs.events() == ["p:hvoinspect_12/a 0x1", "p:kprobes/mine 0x2"]

    def test_a_sweep_takes_what_the_dead_left_and_no_more(self, tracefs: FakeTracefs) -> None:
        dead = subprocess_that_ended()
        for process in (dead, os.getpid()):
            line = f"p:hvoinspect_{process}/x 0x1\n"
            tracefs.write(tracefs.folder / "kprobe_events", line)
        (tracefs.folder / f"instances/hvoinspect_{dead}").mkdir()
        guardian.sweep(tracefs.folder)
        assert tracefs.events() == [f"p:hvoinspect_{os.getpid()}/x 0x1"]
        assert list((tracefs.folder / "instances").iterdir()) == []

    def test_it_waits_for_the_end_of_its_input_and_heeds_no_signal(self, root: Path) -> None:
        events = root / "sys/kernel/tracing/kprobe_events"
        (root / "sys/kernel/tracing/instances/hvoinspect_1").mkdir(parents=True)
        with subprocess.Popen(
            [sys.executable, "-I", guardian.__file__, str(events.parent), "hvoinspect_1"],
            stdin=subprocess.PIPE,
        ) as process:
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(1.0)
            process.terminate()
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.3)
            assert (events.parent / "instances/hvoinspect_1").exists()
            assert process.stdin is not None
            process.stdin.close()
            assert process.wait(30) == 0
        assert not (events.parent / "instances/hvoinspect_1").exists()


def subprocess_that_ended() -> int:
    process = os.fork()
    if process == 0:
        os._exit(0)
    os.waitpid(process, 0)
    return process
