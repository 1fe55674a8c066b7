"""Writes ranges of physical memory as an ELF core, the form of /proc/vmcore.

Documentation/admin-guide/kdump/vmcoreinfo.rst; the System V ABI, "Program Header", and its rule for
more than 65,534 of them (PN_XNUM: the count is in the first section header).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

ELF_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
SECTION_HEADER = struct.Struct("<IIQQQQIIQQ")
ET_CORE, EM_X86_64 = 4, 62
PT_LOAD, PT_NOTE = 1, 4
PN_XNUM = 0xFFFF


@dataclass(frozen=True)
class Mapping:
    """`size` bytes of virtual addresses from `virtual` that map `physical` and what follows."""

    virtual: int
    physical: int
    size: int


def write_headers(
    file: BinaryIO,
    vmcoreinfo: bytes,
    ranges: Sequence[tuple[int, int]],
    mappings: Sequence[Mapping],
) -> None:
    """Write all that goes before the content of `ranges`, which are (physical address, size).

    Their content must follow, in the same order and without gaps. A range has a program header for
    each of `mappings` that it lies in, all with the same content. Raises OSError.
    """
    note = _note(b"VMCOREINFO", 0, vmcoreinfo)
    headers = 1 + sum(len(_within(mappings, *piece)) for piece in ranges)
    many = headers >= PN_XNUM
    table = ELF_HEADER.size
    sections = table + headers * PROGRAM_HEADER.size
    content = sections + (SECTION_HEADER.size if many else 0)
    file.write(
        ELF_HEADER.pack(
            b"\x7fELF\x02\x01\x01" + bytes(9),
            *(ET_CORE, EM_X86_64, 1, 0, table, sections if many else 0, 0),
            *(ELF_HEADER.size, PROGRAM_HEADER.size, PN_XNUM if many else headers),
            *(SECTION_HEADER.size if many else 0, 1 if many else 0, 0),
        )
    )
    file.write(PROGRAM_HEADER.pack(PT_NOTE, 0, content, 0, 0, len(note), len(note), 4))
    at = content + len(note)
    for address, size in ranges:
        for virtual in _within(mappings, address, size):
            file.write(PROGRAM_HEADER.pack(PT_LOAD, 4, at, virtual, address, size, size, 1))
        at += size
    if many:
        file.write(SECTION_HEADER.pack(0, 0, 0, 0, 0, 0, 0, headers, 0, 0))
    file.write(note)


def _within(mappings: Sequence[Mapping], address: int, size: int) -> list[int]:
    """Return the virtual addresses of a physical range; 0, for none, if there are no others."""
    found = [
        mapping.virtual + address - mapping.physical
        for mapping in mappings
        if mapping.physical <= address and address + size <= mapping.physical + mapping.size
    ]
    return found or [0]


def _note(name: bytes, kind: int, content: bytes) -> bytes:
    """Return an ELF note; name and content are padded to 4 bytes each."""
    name += b"\0"
    header = struct.pack("<III", len(name), len(content), kind)
    return header + name + bytes(-len(name) % 4) + content + bytes(-len(content) % 4)
