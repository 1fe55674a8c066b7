"""What a running kernel says of its memory, for the runs of a vmemmap to be held against.

/proc/zoneinfo's zones, sysfs's memory blocks, and the kernel's own table of sections, through drgn.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from drgn import Program

from hvoinspect.target.choice import Target
from tests.opened import open_with_drgn

MEMORY = Path("/sys/devices/system/memory")


def zones() -> list[dict[str, Any]]:
    """The zones that span memory: node, name, from which pfn on, how many, and how many are memory.

    Of a zone that the page allocator has nothing of, as ZONE_DEVICE, the kernel tells no start.
    """
    found = []
    text = Path("/proc/zoneinfo").read_text(encoding="ascii")
    for part in re.split(r"^(?=Node \d+, zone)", text, flags=re.MULTILINE):
        head = re.match(r"Node (\d+), zone +(\w+)", part)
        values = dict(re.findall(r"^ +(spanned|present|start_pfn:) +(\d+)$", part, re.MULTILINE))
        if head and int(values.get("spanned", 0)):
            start = int(values["start_pfn:"]) if "start_pfn:" in values else None
            pages = {name: int(values[name]) for name in ("spanned", "present")}
            found.append({"node": int(head[1]), "zone": head[2], "start": start, **pages})
    return found


def blocks() -> dict[str, Any]:
    """The memory blocks that are there: their bytes, and their numbers by state."""
    found: dict[str, Any] = {
        "bytes": int((MEMORY / "block_size_bytes").read_text(encoding="ascii"), 16),
        "online": [],
        "offline": [],
    }
    for path in MEMORY.glob("memory*"):
        state = (path / "state").read_text(encoding="ascii").strip()
        found[state].append(int((path / "phys_index").read_text(encoding="ascii"), 16))
    return {name: sorted(v) if isinstance(v, list) else v for name, v in found.items()}


def sections(prog: Program) -> list[int]:
    """The numbers of the sections that have struct pages, one by one from `mem_section`."""
    table = prog["mem_section"]
    per_root = 4096 // prog.type("struct mem_section").size
    found = []
    for number in range(int(prog["__highest_present_section_nr"]) + 1):
        root = table[number // per_root]
        if root and int(root[number % per_root].section_mem_map) & 2:  # SECTION_HAS_MEM_MAP
            found.append(number)
    return found


def main() -> None:
    kernel, prog = open_with_drgn(Target())
    seen = {
        "vmemmap": kernel.vmemmap,
        "vmemmap_base": int(prog["vmemmap_base"]),
        "zones": zones(),
        "blocks": blocks(),
        "sections": sections(prog),
    }
    sys.stdout.write(json.dumps(seen))


if __name__ == "__main__":
    main()
