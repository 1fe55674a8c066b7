"""Runs in the kernel that is measured: its live scan, beside a reader of its /proc/kpageflags.

    python -m bench.inside --repeats 5 --jobs 1 [--every 16]

Prints one JSON object: seconds of importing and opening, once each, and of the scans, of the reader
and of merely reading what the scans read, in turns in this one process; and what they found. With
--every 16 the reader of /proc/kpageflags reads a sixteenth of the file.
"""

from __future__ import annotations

import time

_BEGUN = time.perf_counter()

import argparse  # noqa: E402 - importing is measured
import datetime as dt  # noqa: E402
import functools  # noqa: E402
import json  # noqa: E402
import sys  # noqa: E402
from collections.abc import Callable  # noqa: E402
from dataclasses import asdict  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from bench.clock import in_turns  # noqa: E402
from bench.needed import core_reader, default_frames, needed_frames  # noqa: E402
from bench.ours import MODES, scan_kernel  # noqa: E402
from bench.rivals import count_kpageflags  # noqa: E402
from hvoinspect.report.result import Taken, result_of  # noqa: E402
from hvoinspect.target.open import open_running  # noqa: E402

KCORE = Path("/proc/kcore")
_IMPORTED = time.perf_counter() - _BEGUN


def main() -> None:
    """Measure, and print what came of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, required=True)
    parser.add_argument("--jobs", type=int, required=True)
    parser.add_argument("--every", type=int, default=1)
    options = parser.parse_args()
    begun = time.perf_counter()
    kernel = open_running()
    opened = time.perf_counter() - begun
    scans = {mode: functools.partial(scan_kernel, kernel, mode, options.jobs) for mode in MODES}
    reads = {"default": default_frames(kernel), "exhaustive": needed_frames(kernel)}
    ways: dict[str, Callable[[], Any]] = {
        **scans,
        **{f"reading, {mode}": core_reader(KCORE, frames, 1) for mode, frames in reads.items()},
        "kpageflags": functools.partial(count_kpageflags, options.every),
    }
    times, last = in_turns(ways, options.repeats)
    found: dict[str, Any] = {
        "release": kernel.identity.release,
        "imports": _IMPORTED,
        "opening": opened,
        "times": {name: asdict(one) for name, one in times.items()},
        "kpageflags": last["kpageflags"],
        "frames": {mode: len(frames) for mode, frames in reads.items()},
    }
    for name in scans:
        result = result_of(last[name], Taken(dt.datetime.now(dt.UTC), 0.0))
        found[name] = {
            key: result[key]
            for key in ("pages", "tails", "hugetlb", "vmemmap", "coverage", "findings_count")
        }
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
