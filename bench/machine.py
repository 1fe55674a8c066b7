"""What it was measured on: enough to repeat it, and nothing that names a machine."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

import numpy as np

GIB = 1 << 30


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0))


def machine() -> dict[str, str | int | float]:
    """Return what the machine is: processors, how busy they are now, memory, kernel, Python."""
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    model = re.search(r"^model name\s*:\s*(.+)$", info, re.MULTILINE)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    version = re.match(r"\d+\.\d+(\.\d+)?", platform.release())
    return {
        "processor": model[1].strip() if model else platform.machine(),
        "processors": processors(),
        "busy": round(os.getloadavg()[0], 1),
        "memory_bytes": memory,
        "kernel": version[0] if version else "unknown",
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


def sentence(what: dict[str, str | int | float]) -> str:
    """Return that as a sentence."""
    return (
        f"{what['processors']} processors ({what['processor']}), load {what['busy']} before, "
        f"{int(what['memory_bytes']) / GIB:.0f} GiB of memory, Linux {what['kernel']}, "
        f"Python {what['python']}, NumPy {what['numpy']}."
    )
