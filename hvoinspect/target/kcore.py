"""The headers of /proc/kcore, without drgn: whether it can be read, and what its notes tell.

It is an ELF core (elf(5)) that the kernel makes up as it is read (fs/proc/kcore.c).
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from hvoinspect.target.elfcore import ELF_HEADER, ET_CORE, PROGRAM_HEADER, PT_NOTE
from hvoinspect.target.notes import elf_notes

MAX_HEADERS = 1 << 12
"""Program headers that are looked at; the first one is the notes', and the only one of its kind."""
MAX_NOTES = 1 << 20
"""Bytes of notes: a CPU's registers, a task_struct and VMCOREINFO, which is a page at most."""


def read_vmcoreinfo(path: Path) -> bytes | None:
    """Return the VMCOREINFO that /proc/kcore has among its notes, or None if it has none.

    Raises OSError if the file cannot be opened or read, ValueError if it is no ELF core.
    """
    with path.open("rb", buffering=0) as file:
        header = file.read(ELF_HEADER.size)
        if len(header) < ELF_HEADER.size or header[:5] != b"\x7fELF\x02":
            raise ValueError("not an ELF core file")
        _, kind, _, _, _, table, _, _, _, each, count, *_ = ELF_HEADER.unpack(header)
        if kind != ET_CORE or each != PROGRAM_HEADER.size:
            raise ValueError("not an ELF core file")
        headers = _read(file, table, each * min(count, MAX_HEADERS))
        for at in range(0, len(headers) - each + 1, each):
            type_, _, offset, _, _, size, _, _ = PROGRAM_HEADER.unpack_from(headers, at)
            if type_ == PT_NOTE:
                notes = elf_notes(_read(file, offset, min(size, MAX_NOTES)))
                return next(
                    (content for owner, _, content in notes if owner == b"VMCOREINFO"), None
                )
    return None


def _read(file: BinaryIO, offset: int, size: int) -> bytes:
    """Return up to `size` bytes: kcore returns short reads."""
    if offset >= 1 << 63:
        raise ValueError("its headers name bytes beyond the end of any file")
    file.seek(offset)
    data = b""
    while len(data) < size and (piece := file.read(size - len(data))):
        data += piece
    return data
