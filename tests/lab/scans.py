"""Runs in a guest: scans the running kernel back to back, in one process, while it is made to move.

    python tests/lab/scans.py [--seconds S] [--least N] [--anew N] PROGRAM [ARGUMENT]...

PROGRAM makes it move until its standard input ends, which is after S seconds and N scans. The
kernel is opened anew now and then. Prints a line of JSON a scan, and in the end what PROGRAM did.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from hvoinspect.target.open import open_running
from hvoinspect.vmemmap.scan import Scan, scan
from tests.lab.witness import present_pages


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--least", type=int, default=5)
    parser.add_argument("--anew", type=int, default=3)
    parser.add_argument("program", nargs="+")
    arguments = parser.parse_args()
    pipe = subprocess.PIPE
    with subprocess.Popen(arguments.program, stdin=pipe, stdout=pipe, text=True) as program:
        end = time.monotonic() + arguments.seconds
        for number, line in enumerate(scans(arguments.anew), 1):
            sys.stdout.write(json.dumps(line) + "\n")
            sys.stdout.flush()
            if number >= arguments.least and time.monotonic() >= end:
                break
        moved, _ = program.communicate()
    sys.stdout.write(moved)
    sys.exit(program.returncode)


def scans(anew: int) -> Iterator[dict[str, Any]]:
    """Scan for ever, and tell what each scan came to."""
    for number in itertools.count():
        began, before = time.monotonic(), present_pages()
        line: dict[str, Any] = {"scan": number}
        try:
            if number % anew == 0:
                kernel = open_running()
            line |= told(scan(kernel))
        except Exception:  # noqa: BLE001 - whether there are any is what the test asks
            line["error"] = traceback.format_exc()
        line |= {"present": [before, present_pages()], "seconds": time.monotonic() - began}
        yield line


def told(result: Scan) -> dict[str, Any]:
    """What a scan comes to, as JSON has it."""
    return {
        "classes": {kind.name: count for kind, count in result.classes.items()},
        "total": result.total,
        "encodings": {encoding.name: count for encoding, count in result.encodings.items()},
        "offline": result.offline,
        "hugepages": Counter(result.hugepages.order.tolist()),
        "optimized": int(result.hugepages.remapped.sum()),
        "unstable": dict(result.unstable),
        "findings": [asdict(finding) for finding in result.findings],
    }


if __name__ == "__main__":
    main()
