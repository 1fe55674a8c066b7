"""Writes a made-up machine as an ELF dump, as /proc/vmcore has it: only what is there takes disk.

The kernel is tests/tiny_kernel.py's, at physical address 0, with this machine's memory sections,
nodes and pools; the file holds all of memory at its physical address, most of it as holes.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hvoinspect.target.dumpfile import PROGRAM_HEADER, PT_LOAD, PT_NOTE
from hvoinspect.target.elfcore import ELF_HEADER, EM_X86_64, ET_CORE
from tests.bigmachine.makeup import FIRST_NORMAL, GIB, HOLE, HUGEPAGES, SPLIT, Makeup, Use
from tests.bigmachine.pages import head_frames, shared_tails, unit_pages
from tests.bigmachine.tables import Layout, lay_out, page_tables, upper_tables
from tests.madeup import ORDER_1G
from tests.tiny_kernel import (
    DIRECT,
    IMAGE,
    NODES,
    SIZE,
    TABLES,
    VMEMMAP,
    ZONE,
    TinyKernel,
    kernel_btf,
)

CONTENT = 4096
"""Where memory begins in the file: aligned, as the kernel and makedumpfile write it."""
SECTIONS_PER_UNIT = 8
_FIRST_TAIL_ORDER = 7
"""Of `zone.vmemmap_tails[]`."""


def write_dump(makeup: Makeup, path: Path) -> None:
    """Write the machine's dump to `path`, a new file. Raises ValueError, OSError."""
    layout = lay_out(makeup)
    kernel = _kernel(makeup, layout)
    kernel.program()  # which is what puts its symbols and types into its memory
    with path.open("xb") as file:
        file.write(_headers(makeup, kernel))
        for frame, content in _frames(makeup, layout):
            _write(file.fileno(), frame << 12, content)
        _write(file.fileno(), 0, np.frombuffer(kernel.memory, np.uint8))
        file.truncate(CONTENT + makeup.gib * GIB)


def _frames(makeup: Makeup, layout: Layout) -> Iterator[tuple[int, NDArray[np.uint64]]]:
    """Yield all that is in memory but for the kernel's image: a pfn, and what is there."""
    yield layout.upper, upper_tables(layout)
    for (node, zone, order), frame in layout.shared.items():
        yield frame, shared_tails(node, zone, order)
    for placed in layout.placed:
        if placed.unit.use in SPLIT:
            heads = head_frames(placed.unit, makeup.tail)
            # In the order of the frames, which is the other way round.
            yield (
                placed.table,
                np.concatenate([page_tables(placed).reshape(-1), heads[::-1].reshape(-1)]),
            )
        else:
            yield placed.frame, unit_pages(placed.unit, makeup.tail)


def _write(file: int, physical: int, content: NDArray[np.uint64] | NDArray[np.uint8]) -> None:
    data = content.data.cast("B")
    at = CONTENT + _in_content(physical)
    while data:
        written = os.pwrite(file, data, at)
        data, at = data[written:], at + written


def _in_content(physical: int) -> int:
    """Return where physical memory is in the file's content, which has no hole."""
    above = (FIRST_NORMAL - HOLE) * GIB if physical >= FIRST_NORMAL * GIB else 0
    return physical - above


def _headers(makeup: Makeup, kernel: TinyKernel) -> bytes:
    text = "".join(f"{key}={value}\n" for key, value in kernel.vmcoreinfo.items()).encode()
    note = struct.pack("<3I12s", 11, len(text), 0, b"VMCOREINFO") + text + bytes(-len(text) % 4)
    loads = [(IMAGE, 0, SIZE)]
    low = min(makeup.gib, HOLE) * GIB
    loads += [(DIRECT, 0, low)]
    if makeup.gib > HOLE:
        high = FIRST_NORMAL * GIB
        loads += [(DIRECT + high, high, makeup.gib * GIB - low)]
    table = np.zeros(1 + len(loads), PROGRAM_HEADER)
    start = ELF_HEADER.size + table.nbytes
    table[0] = (PT_NOTE, 0, start, 0, 0, len(note), len(note), 0)
    for at, (virtual, physical, size) in enumerate(loads, 1):
        table[at] = (PT_LOAD, 7, CONTENT + _in_content(physical), virtual, physical, size, size, 0)
    header = ELF_HEADER.pack(
        b"\x7fELF\2\1\1" + bytes(9),
        *(ET_CORE, EM_X86_64, 1, 0, ELF_HEADER.size, 0, 0),
        *(ELF_HEADER.size, PROGRAM_HEADER.itemsize, len(table), 0, 0, 0),
    )
    headers = header + table.tobytes() + note
    assert len(headers) <= CONTENT
    return headers


def _kernel(makeup: Makeup, layout: Layout) -> TinyKernel:
    """Return the kernel whose image says all this."""
    masks = makeup.tail == "mask"
    kernel = TinyKernel(btf=kernel_btf(shared_tails=masks))
    kernel.vmcoreinfo["OSRELEASE"] = f"{'7.1.0' if masks else '7.0.0'}-made-up"
    kernel.vmcoreinfo["OFFSET(page.mapping)"] = "24"
    # Where the vmemmap's own tables are: instead of the tiny kernel's.
    kernel.put(TABLES + (VMEMMAP >> 39 & 511) * 8, layout.upper << 12 | 3)
    _put_sections(kernel, makeup)
    hstates = (
        kernel.hstate(order, name, _counters(makeup, use))
        for order, name, use in ((ORDER_1G, b"1G", Use.GIGANTIC), (9, b"2M", Use.HUGE))
    )
    for place, content in zip((kernel.hstates, kernel.hstates + 80), hstates, strict=True):
        kernel.memory[place : place + 80] = content
    for (node, zone, order), frame in layout.shared.items():
        tails = kernel.nodes[node] + 8 + zone * ZONE + 8
        kernel.put(tails + 8 * (order - _FIRST_TAIL_ORDER), VMEMMAP + 64 * frame)
    if not masks:
        optimized = sum(HUGEPAGES[unit.use][1] for unit in makeup.units if unit.use in SPLIT)
        kernel.variable("hugetlb_optimize_vmemmap_key", struct.pack("<Q8x", optimized))
    return kernel


def _counters(makeup: Makeup, use: Use) -> list[int]:
    pools = [makeup.pool(use, node) for node in range(NODES)]
    return [total for total, _ in pools] + [free for _, free in pools]


def _put_sections(kernel: TinyKernel, makeup: Makeup) -> None:
    """Write `mem_section`: present, with a memory map, online, early."""
    sections = (makeup.units[-1].gib + 1) * SECTIONS_PER_UNIT
    per_root = 4096 // 16
    words = np.zeros((-(-sections // per_root) * per_root, 2), np.uint64)
    for unit in makeup.units:
        first = unit.gib * SECTIONS_PER_UNIT
        words[first : first + SECTIONS_PER_UNIT, 0] = VMEMMAP | 0xF
    for number, root in enumerate(words.reshape(-1, per_root * 2)):
        place = kernel.object(4096, root.tobytes())
        kernel.put(kernel.roots + 8 * number, IMAGE + place)
    kernel.put(kernel.max_pfn, sections << 15)
    kernel.put(_place_of(kernel, "__highest_present_section_nr"), sections - 1)


def _place_of(kernel: TinyKernel, variable: str) -> int:
    return next(address for name, _, address in kernel.symbols if name == variable) - IMAGE
