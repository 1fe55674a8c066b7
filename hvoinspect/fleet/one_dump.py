"""Scans one dump in a process of its own: `python -m hvoinspect.fleet.one_dump SECONDS DUMP`.

Damaged dumps may hang or end a process, whatever is done against that; this one ends with whoever
began it, and after SECONDS by itself.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import time
from typing import NamedTuple

from hvoinspect.errors import ExitStatus, printable
from hvoinspect.parent import end_with_parent

GRACE = 60.0
"""Seconds beyond its own that a process gets to end, on a busy machine."""

SCANNED = (ExitStatus.OK, ExitStatus.FINDINGS, ExitStatus.PARTIAL)


_running: set[subprocess.Popen[bytes]] = set()


class Scanned(NamedTuple):
    """What came of a dump: a scan's JSON and exit status, or one line why there is none."""

    status: int | None
    text: str | None
    why: str | None
    seconds: float
    worker: str


def scan_dump(path: str, seconds: int) -> Scanned:
    """Scan the dump at `path` within `seconds`; run by a worker. Raises nothing."""
    begun = time.monotonic()
    status, text, why = None, None, None
    try:
        done = _run([sys.executable, "-m", __name__, str(seconds), path], seconds + GRACE)
    except subprocess.TimeoutExpired:
        why = _late(seconds)
    except OSError as error:
        why = f"no process could be begun: {error.strerror}"
    else:
        if done.returncode in SCANNED:
            status, text = done.returncode, done.stdout.decode("utf-8", "replace")
        else:
            why = _why(done, seconds, path)
    return Scanned(status, text, why, time.monotonic() - begun, socket.gethostname())


def kill_running() -> None:
    """Kill what this process scans at the moment."""
    for process in list(_running):
        process.kill()


def _run(command: list[str], seconds: float) -> subprocess.CompletedProcess[bytes]:
    """Run a command. Raises OSError, TimeoutExpired."""
    with subprocess.Popen(  # noqa: S603 - the project's own command
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        _running.add(process)
        try:
            out, err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        finally:
            _running.discard(process)
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def _why(done: subprocess.CompletedProcess[bytes], seconds: int, path: str) -> str:
    if done.returncode == -signal.SIGALRM:
        return _late(seconds)
    if done.returncode < 0:
        return f"the process that scanned it was killed by {_name(-done.returncode)}"
    lines = done.stderr.decode("utf-8", "replace").splitlines()
    told = [line.removeprefix("hvoinspect: ") for line in lines if line.startswith("hvoinspect: ")]
    if not told:
        return printable(f"the scan ended with {done.returncode}: {' '.join(lines[-1:])}")
    return printable(told[0].removeprefix(path).lstrip(": "))


def _late(seconds: int) -> str:
    return f"the scan took longer than {seconds:,} s"


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _main(seconds: str, path: str) -> None:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    # Both stay set in what this process becomes: alarm(2), and PR_SET_PDEATHSIG(2const).
    signal.alarm(int(seconds))
    end_with_parent()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    scan = ["-m", "hvoinspect", "scan", "--json", "--jobs", "1", "-c", path]
    os.execv(sys.executable, [sys.executable, *scan])  # noqa: S606 - the project's own command


if __name__ == "__main__":
    _main(*sys.argv[1:])
