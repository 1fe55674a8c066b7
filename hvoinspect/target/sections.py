"""Which sections of memory have struct pages, and where these are (SPARSEMEM_VMEMMAP).

The kernel's table of sections tells both. A dump that was cut short lacks the end of memory, where
that table is; then the page tables of the vmemmap tell which sections have struct pages.
"""

from __future__ import annotations

import contextlib

import numpy as np
from drgn import FaultError, Program
from numpy.typing import NDArray

from hvoinspect.errors import HvoinspectError
from hvoinspect.target.directory import BLOCK, Maps, walk_directory
from hvoinspect.target.facts import DAMAGED, Facts
from hvoinspect.target.layout import Paging, Sections
from hvoinspect.target.memory import Memory
from hvoinspect.target.ranges import each_once

KERNEL_HALF = 1 << 63
"""Where the kernel's half of the address space begins, at the latest."""
MAX_SECTIONS = 1 << 20
"""Most present sections: 128 TiB of memory. No machine has more than 64 TiB."""
MAX_ROOTS = 1 << 14
"""Most parts that the table of sections has; each of an x86-64 kernel's is for 32 GiB."""
MAX_SECTION_BYTES = 256
"""Most bytes of a struct mem_section, which has 16 or 32."""
_NO_SPARSEMEM = "it does not use SPARSEMEM, or the memory that was opened is damaged"

PAGE_TABLES = "page tables"
"""The origin of the fact "mem_section" where the kernel's table could not be read."""


def learn_sections(
    prog: Program, facts: Facts, memory: Memory, paging: Paging
) -> tuple[int, Sections]:
    """Return the vmemmap's address and the present sections.

    Where their table cannot be read, those whose struct pages are mapped, or may be, all of them
    taken for online. Raises HvoinspectError if it makes no sense, FaultError if nothing tells.
    """
    section_bits, physical_bits = _bits(facts)
    pages = 1 << (section_bits - 12)
    count = 1 << (physical_bits - section_bits)
    # The kernel looks no further either: for_each_present_section_nr(), since c4e1be9ec113 (4.13).
    with contextlib.suppress(LookupError, FaultError):
        count = min(count, int(prog["__highest_present_section_nr"].value_()) + 1)
    try:
        vmemmap, found = _from_table(prog, facts, count, pages)
    except FaultError:
        mapped = _from_page_tables(prog, facts, memory, paging, count * pages, pages)
        if mapped is None:
            raise
        facts.origins["mem_section"] = PAGE_TABLES
        return mapped
    return vmemmap, _mapped(memory, paging, vmemmap, found, facts.size("page") or 0)


def _bits(facts: Facts) -> tuple[int, int]:
    """Return SECTION_SIZE_BITS and MAX_PHYSMEM_BITS."""
    section_bits = facts.number("SECTION_SIZE_BITS")
    physical_bits = facts.number("MAX_PHYSMEM_BITS")
    if section_bits is None or physical_bits is None:
        raise facts.missing("SECTION_SIZE_BITS and MAX_PHYSMEM_BITS")
    # x86-64's sections have 27 bits; larger ones are fine as long as a chunk holds them.
    if not 27 <= section_bits <= 32 or not section_bits <= physical_bits <= 52:
        raise HvoinspectError(
            f"memory of {physical_bits} bits would have sections of {section_bits} bits", DAMAGED
        )
    return section_bits, physical_bits


def _from_table(prog: Program, facts: Facts, count: int, pages: int) -> tuple[int, Sections]:
    """Return the vmemmap's address and the present sections, from `mem_section`.

    Each section holds its memory map's address less its first pfn's place in it
    (`sparse_encode_mem_map()`), which with SPARSEMEM_VMEMMAP is the same in all: the vmemmap. Its
    low bits are flags (include/linux/mmzone.h). Raises FaultError if it cannot be read.
    """
    size, offset = facts.size("mem_section"), facts.offset("mem_section", "section_mem_map")
    if not size or offset is None or size > MAX_SECTION_BYTES or offset + 8 > size:
        raise facts.missing("the layout of struct mem_section")
    numbers, words = _words(prog, count, size, offset)

    present_bit = facts.constant("SECTION_MARKED_PRESENT_BIT") or 0
    online_bit = facts.constant("SECTION_IS_ONLINE_BIT")
    # Macros up to 5.19: SECTION_IS_ONLINE was (1UL << 2) since 2d070eab2e82 (4.13).
    online_bit = 2 if online_bit is None else online_bit
    present = (words >> np.uint64(present_bit) & np.uint64(1)) != 0
    numbers, words = numbers[present], words[present]
    if not len(numbers):
        raise HvoinspectError("the kernel has no present memory section", _NO_SPARSEMEM)
    if len(numbers) > MAX_SECTIONS:
        raise HvoinspectError(f"the kernel would have {len(numbers)} memory sections", DAMAGED)
    maps = each_once(words & ~np.uint64(0xFFF))
    if len(maps) != 1:
        raise HvoinspectError(
            f"its sections have {len(maps)} different memory maps, not one vmemmap",
            "only kernels with SPARSEMEM_VMEMMAP have what this tool looks at",
        )
    online = (words >> np.uint64(online_bit) & np.uint64(1)) != 0
    return int(maps[0]), Sections(pages, numbers, online)


def _words(
    prog: Program, count: int, size: int, offset: int
) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Return the number and the section_mem_map of each section that has a root: uint64[n]."""
    per_root = 4096 // size
    pointer = int(prog["mem_section"].value_())
    if not pointer:
        return np.zeros(0, np.uint64), np.zeros(0, np.uint64)
    # The table may be 2 MiB, most of it zeros, which a dump may leave out: hence no more of it.
    roots = np.frombuffer(prog.read(pointer, 8 * -(-count // per_root)), "<u8")
    in_use = roots[roots != 0]
    if (np.diff(np.sort(in_use)) < np.uint64(per_root * size)).any():
        raise HvoinspectError("two parts of its table of memory sections overlap", DAMAGED)
    if len(in_use) > MAX_ROOTS:
        raise HvoinspectError(
            f"its table of memory sections would have {len(in_use)} parts", DAMAGED
        )
    numbers, words = [np.zeros(0, np.uint64)], [np.zeros(0, np.uint64)]
    for root in np.flatnonzero(roots).tolist():
        each = np.frombuffer(prog.read(int(roots[root]), per_root * size), np.uint8)
        each = each.reshape(per_root, size)[:, offset : offset + 8]
        words.append(np.ascontiguousarray(each).view("<u8").reshape(-1).astype(np.uint64))
        numbers.append(np.arange(per_root, dtype=np.uint64) + np.uint64(root * per_root))
    return np.concatenate(numbers), np.concatenate(words)


def _mapped(
    memory: Memory, paging: Paging, vmemmap: int, sections: Sections, size: int
) -> Sections:
    """Return those of `sections` whose struct pages are mapped, or may be, if any are.

    A section without struct pages is none to look at, and to say that there are many costs a dump
    that was made up next to nothing.
    """
    span = sections.pages * size
    end = vmemmap + (int(sections.numbers[-1]) + 1) * span
    if not KERNEL_HALF <= vmemmap < end < 1 << 64:
        raise HvoinspectError(
            f"the vmemmap would be from {vmemmap:#x} to {end:#x}, "
            "not in the kernel's half of the address space",
            DAMAGED,
        )
    blocks = walk_directory(memory, paging, vmemmap, end).address
    start = np.uint64(vmemmap) + sections.numbers * np.uint64(span)
    at = np.searchsorted(blocks, start & ~np.uint64(BLOCK - 1))
    next_block = np.append(blocks, np.uint64(end))[at]
    mapped = next_block < start + np.uint64(span)
    if not mapped.any():
        raise HvoinspectError(
            f"none of its {len(sections.numbers)} memory sections has struct pages", _NO_SPARSEMEM
        )
    return Sections(sections.pages, sections.numbers[mapped], sections.online[mapped])


def _from_page_tables(
    prog: Program, facts: Facts, memory: Memory, paging: Paging, pfns: int, pages: int
) -> tuple[int, Sections] | None:
    """Return the vmemmap's address and the sections whose struct pages are mapped, or may be.

    None if the kernel does not tell where the vmemmap is (`vmemmap_base`, which only KASLR makes a
    variable: arch/x86/kernel/head64.c), or if no table that maps it can be read.
    """
    size = facts.size("page")
    try:
        vmemmap = int.from_bytes(prog.read(prog.symbol("vmemmap_base").address, 8), "little")
        most = int.from_bytes(prog.read(prog.symbol("max_pfn").address, 8), "little")
    except (LookupError, FaultError):
        return None
    if not size or not KERNEL_HALF <= vmemmap < (1 << 64) - pfns * size:
        return None
    pfns = min(pfns, most)
    directory = walk_directory(memory, paging, vmemmap, vmemmap + pfns * size)
    if (directory.maps == Maps.UNREADABLE).all():
        return None
    start = np.maximum(directory.address, np.uint64(vmemmap))
    numbers = each_once((start - np.uint64(vmemmap)) // np.uint64(pages * size))
    return vmemmap, Sections(pages, numbers, np.ones(len(numbers), np.bool_))
