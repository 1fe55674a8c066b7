"""Commands as processes: their time, and the memory that they and their children take."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.ours import PROJECT
from lab.errors import LabError

POLL_SECONDS = 0.005


def environment() -> dict[str, str]:
    """Return the environment in which this very tree is what runs."""
    return os.environ | {"PYTHONPATH": str(PROJECT), "NO_COLOR": "1"}


def run(command: Sequence[str]) -> str:
    """Run a command to its end and return its output. Raises LabError if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    if done.returncode != 0:
        raise LabError(
            f"{' '.join(command[1:4])} ended with status {done.returncode}",
            f"it said: {(done.stderr or done.stdout)[-500:]}",
        )
    return done.stdout


def peak_memory(command: Sequence[str]) -> int:
    """Run a command and return the most bytes that it and its children had at one moment.

    Of the memory that several of them share, each has its share (Pss): the sum is what the machine
    misses. Looked at every few milliseconds, so it is run for this alone.
    """
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment()
    )
    most = 0
    while process.poll() is None:
        most = max(most, sum(_memory_of(pid) for pid in _family(process.pid)))
        time.sleep(POLL_SECONDS)
    return most


def _family(pid: int) -> Iterator[int]:
    yield pid
    with contextlib.suppress(OSError, ValueError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text(encoding="ascii").split():
                yield from _family(int(child))


def _memory_of(pid: int) -> int:
    with contextlib.suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) << 10
    return 0
