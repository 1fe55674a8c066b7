"""A kernel's files as a recording reads them, made up in a folder."""

from __future__ import annotations

from pathlib import Path

KALLSYMS = """\
ffffffff81000000 T _stext
ffffffff81000000 T __pfx_first
ffffffff81000010 T first
ffffffff81000100 t twice
ffffffff81000200 t twice
ffffffff81000300 t split.constprop.0
ffffffff81000380 t split.cold
ffffffff81000400 T quiet
ffffffff81000500 T blacklisted
ffffffff81000600 D some_data
ffffffff82000000 T _sinittext
ffffffff82000010 t early
ffffffff82001000 T _einittext
ffffffffc0000000 t first\t[a_module]
"""
BASE = 0xFFFFFFFF81000000


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="ascii")


def make_kernel(root: Path) -> Path:
    """Write the files below `root`."""
    put(root / "proc/kallsyms", KALLSYMS)
    put(
        root / "sys/kernel/debug/kprobes/blacklist",
        "0xffffffff81000500-0xffffffff81000540\tblacklisted\n",
    )
    put(root / "sys/kernel/debug/kprobes/enabled", "1\n")
    put(
        root / "sys/kernel/tracing/available_filter_functions",
        "first\ntwice\nsplit.constprop.0\nblacklisted\nearly\nfirst [a_module]\n",
    )
    put(root / "sys/bus/event_source/devices/kprobe/type", "8\n")
    put(root / "sys/kernel/tracing/kprobe_events", "")
    return root
