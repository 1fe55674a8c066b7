"""VMCOREINFO: what a kernel writes down about itself for readers of its memory."""

from __future__ import annotations

import re
from collections.abc import Mapping

from drgn import Program


def vmcoreinfo(prog: Program) -> Mapping[str, str]:
    """Return the kernel's VMCOREINFO as key and value; empty if the program has none."""
    try:
        text = prog["VMCOREINFO"].string_().decode("ascii", "backslashreplace")
    except LookupError:
        return {}
    lines = (line.partition("=") for line in text.split("\n"))
    return {key: value for key, equals, value in lines if equals}


def vmcoreinfo_symbol(prog: Program, name: str) -> int | None:
    """Return what VMCOREINFO says in SYMBOL(name), or None.

    That is an address, but of what is declared as an array or stands for one it is where the array
    starts: of the pointer mem_section it is the value (VMCOREINFO_SYMBOL_ARRAY).
    """
    value = vmcoreinfo(prog).get(f"SYMBOL({name})", "")
    return int(value, 16) if re.fullmatch("[0-9a-fA-F]{1,16}", value) else None


def vmcoreinfo_length(prog: Program, name: str) -> int | None:
    """Return how many elements VMCOREINFO says an array has, in LENGTH(name), or None."""
    value = vmcoreinfo(prog).get(f"LENGTH({name})", "")
    return int(value) if re.fullmatch("[0-9]{1,9}", value) else None
