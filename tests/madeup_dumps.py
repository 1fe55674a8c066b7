"""Made-up dumps: ELF cores of any segments, and kdump files of any pages, packed in any way.

The formats are those of elf(5) and of makedumpfile's IMPLEMENTATION and diskdump_mod.h.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import cramjam
from lzallright import LZOCompressor

PAGE = 4096
DESC = struct.Struct("<QIIQ")
NOTE = b"OSRELEASE=6.12.0\nPAGESIZE=4096\nSYMBOL(swapper_pg_dir)=ffffffff80000000\n"
PACK: dict[int, Callable[[bytes], bytes]] = {
    0: lambda page: page,
    1: zlib.compress,
    2: lambda page: LZOCompressor().compress(page),
    4: lambda page: bytes(cramjam.snappy.compress_raw(page)),
    0x20: lambda page: bytes(cramjam.zstd.compress(page)),
}
"""page_desc.flags -> how a page is packed."""


def vmcoreinfo_note(text: bytes) -> bytes:
    header = struct.pack("<3I12s", 11, len(text), 0, b"VMCOREINFO")
    return header + text + bytes(-len(text) % 4)


@dataclass(frozen=True)
class Load:
    """A PT_LOAD header; its offset is relative to the end of the headers."""

    physical: int
    offset: int
    file_size: int
    size: int
    virtual: int = 0


def elf_core(loads: Sequence[Load], content: bytes) -> bytes:
    """An ELF core whose `content` follows its headers and a note of VMCOREINFO."""
    note = vmcoreinfo_note(NOTE)
    start = 64 + 56 * (1 + len(loads))
    content_at = start + len(note)
    header = struct.pack(
        *("<16s2HI3QI6H", b"\x7fELF\2\1\1", 4, 62, 1, 0, 64, 0, 0, 64, 56, 1 + len(loads), 0, 0, 0)
    )
    table = struct.pack("<2I6Q", 4, 0, start, 0, 0, len(note), len(note), 0)
    for load in loads:
        where = (content_at + load.offset, load.virtual, load.physical)
        table += struct.pack("<2I6Q", 1, 7, *where, load.file_size, load.size, 0)
    return header + table + note + content


def kdump(
    pages: Mapping[int, tuple[bytes, int]], *, vmcoreinfo: bytes = NOTE, pfns: int | None = None
) -> bytes:
    """A kdump file of `pages`: pfn -> its content, and how it is to be packed, a key of PACK."""
    note = vmcoreinfo_note(vmcoreinfo)
    pfns = max(pages, default=0) + 1 if pfns is None else pfns
    blocks = -(-pfns // (8 * PAGE))
    header = b"KDUMP   " + struct.pack("<I", 6) + b"Linux".ljust(2 * 65, b"\0")
    header += b"6.12.0".ljust(2 * 65, b"\0") + b"x86_64".ljust(2 * 65, b"\0")
    header = header.ljust(424, b"\0")
    header += struct.pack("<7I", 0, PAGE, 2, 2 * blocks, min(pfns, 0xFFFF_FFFF), 0, 0)
    header += struct.pack("<5I", 0, 0, 0, 1, 0)
    at = 3 * PAGE + 2 * blocks * PAGE  # VMCOREINFO has a page of its own in front of the bitmaps
    # The notes' place is told where since header_version 4 they are.
    notes = (2 * PAGE, len(note))
    sub_header = struct.pack("<Qii11Q", 0, 31, 0, 0, 0, 0, 0, *notes, 0, 0, 0, 0, pfns)
    bitmap = bytearray(blocks * PAGE)
    for pfn in pages:
        bitmap[pfn // 8] |= 1 << pfn % 8
    descriptors, content = b"", b""
    at += DESC.size * len(pages)
    for pfn in sorted(pages):
        page, how = pages[pfn]
        packed = PACK[how](page)
        if len(packed) >= PAGE:  # as makedumpfile does
            packed, how = page, 0
        descriptors += DESC.pack(at + len(content), len(packed), how, 0)
        content += packed
    return b"".join(
        [
            header.ljust(PAGE, b"\0"),
            sub_header.ljust(PAGE, b"\0"),
            note.ljust(PAGE, b"\0"),
            bytes(bitmap) * 2,
            descriptors,
            content,
        ]
    )
