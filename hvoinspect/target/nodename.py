"""Which host it is: its name, out of its kernel's memory, and the running kernel's boot."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from hvoinspect.errors import printable
from hvoinspect.target.memory import PHYSICAL_BITS, Memory, UnreadableMemoryError

FIELD = 65
"""Bytes of each text of struct new_utsname, its NUL among them: `nodename` comes after `sysname`
(include/uapi/linux/utsname.h)."""

UNNAMED = ("", "(none)")
"""What a kernel is called before anyone names it (UTS_NODENAME, include/linux/uts.h)."""


def read_node_name(info: Mapping[str, str], memory: Memory, image: int) -> str | None:
    """Return `init_uts_ns.name.nodename`, printable; None if it cannot be read, or is not set.

    `info` is VMCOREINFO, which says where it is; `image` is what makes a physical address of one in
    the kernel's image. A container has a name of its own; this is the host's.
    """
    symbol, offset = info.get("SYMBOL(init_uts_ns)", ""), info.get("OFFSET(uts_namespace.name)", "")
    if not re.fullmatch("[0-9a-fA-F]{1,16}", symbol) or not re.fullmatch("[0-9]{1,9}", offset):
        return None
    physical = int(symbol, 16) + int(offset) + FIELD + image
    if not 0 <= physical < 1 << PHYSICAL_BITS:
        return None
    try:
        name, ended, _ = memory.read(physical, FIELD).partition(b"\0")
    except UnreadableMemoryError:
        return None
    text = name.decode("utf-8", "backslashreplace")
    return printable(text) if ended and text not in UNNAMED else None


def boot_id(proc: Path = Path("/proc")) -> str | None:
    """Return the UUID that the running kernel made up at boot, None if it cannot be read.

    The same in a container (Documentation/admin-guide/sysctl/kernel.rst, "random").
    """
    try:
        text = (proc / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None
    return text if re.fullmatch("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", text) else None
