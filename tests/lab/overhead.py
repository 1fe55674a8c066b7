"""What counting costs the work that is counted, beside bcc's own funccount. Run in a guest:

    scripts/lab run 7.3 -- .venv/bin/python tests/lab/overhead.py

Prints, as JSON, the seconds that 200,000 zaps take while nothing counts, while `hotpath record`
counts the calls of the functions that have copies, and while funccount counts those of the same
functions; each the least of some tries, as noise only adds. bpfcc-tools has funccount.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ZAPS, TRIES = 200_000, 7
KPROBES = Path("/sys/kernel/debug/kprobes/list")
RECORD = [sys.executable, "-m", "hvoinspect", "hotpath", "record", "--mode", "functions"]


def main() -> None:
    funccount = shutil.which("funccount-bpfcc") or shutil.which("funccount")
    if funccount is None:
        sys.exit("overhead.py: there is no funccount; install bpfcc-tools")
    with tempfile.TemporaryDirectory() as folder:
        zap = Path(folder, "zap")
        source = Path(__file__).with_name("zap.c")
        subprocess.run(["gcc", "-O2", "-static", "-o", zap, source], check=True)
        result: dict[str, object] = {"kernel": os.uname().release, "zaps": ZAPS}
        nothing = seconds(zap)
        with counting([*RECORD, "--backend", "bcc", "-q"]) as names:
            record = seconds(zap)
        pattern = f"^({'|'.join(re.escape(name) for name in names)})$"
        with counting([funccount, "-r", pattern]) as others:
            theirs = seconds(zap)
        result |= {
            "functions": {"record": len(names), "funccount": len(others)},
            "seconds": {"nothing": nothing, "record": record, "funccount": theirs},
            "added_by_record_to_added_by_funccount": (record - nothing) / (theirs - nothing),
        }
    sys.stdout.write(json.dumps(result, indent=1) + "\n")


def seconds(zap: Path) -> float:
    times = []
    for _ in range(TRIES):
        begun = time.monotonic()
        subprocess.run([zap, str(ZAPS)], check=True)
        times.append(time.monotonic() - begun)
    return min(times)


@contextmanager
def counting(command: list[str]) -> Iterator[list[str]]:
    """Run a counter, and give the functions that are probed once there are no more to come."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    before = -1
    while not before or before != len(probed()):
        before = len(probed())
        time.sleep(20 if before else 1)
        if process.poll() is not None:
            sys.exit(f"overhead.py: {command[0]} ended with status {process.returncode}")
    try:
        yield probed()
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


def probed() -> list[str]:
    return sorted({line.split()[2].partition("+")[0] for line in KPROBES.read_text().splitlines()})


if __name__ == "__main__":
    main()
