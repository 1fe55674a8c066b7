"""The headers of /proc/kcore, without drgn: whether it can be read, and what its notes tell.

It is an ELF core (elf(5)) that the kernel makes up as it is read (fs/proc/kcore.c).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hvoinspect.target.dumpfile import PROGRAM_HEADER
from hvoinspect.target.elfcore import ELF_HEADER, ET_CORE, PT_NOTE
from hvoinspect.target.notes import elf_notes
from hvoinspect.target.openfile import MAX_OFFSET, OpenFile

MAX_NOTES = 1 << 20
"""Bytes of notes: a CPU's registers, a task_struct and VMCOREINFO, which is a page at most."""


def read_vmcoreinfo(path: Path) -> bytes | None:
    """Return the VMCOREINFO that /proc/kcore has among its notes, or None if it has none.

    Raises OSError if the file cannot be opened or read, ValueError if it is no ELF core.
    """
    file = OpenFile(path)
    headers = read_program_headers(file)
    for header in headers[headers["type"] == PT_NOTE][:1]:
        size = min(int(header["file_size"]), MAX_NOTES)
        for owner, _, content in elf_notes(_read(file, int(header["offset"]), size)):
            if owner == b"VMCOREINFO":
                return content
    return None


def read_program_headers(file: OpenFile) -> NDArray[np.void]:
    """Return the program headers, `PROGRAM_HEADER`[n], as they are at this moment.

    Raises OSError if they cannot be read, ValueError if the file is no ELF core.
    """
    return program_headers(program_header_bytes(file))


def program_headers(data: bytes) -> NDArray[np.void]:
    """Return the program headers that `data` begins with, `PROGRAM_HEADER`[n]."""
    return np.frombuffer(data, PROGRAM_HEADER, len(data) // PROGRAM_HEADER.itemsize)


def program_header_bytes(file: OpenFile) -> bytes:
    """Return the bytes of the program headers; raises as `read_program_headers`."""
    header = _read(file, 0, ELF_HEADER.size)
    if len(header) < ELF_HEADER.size or header[:5] != b"\x7fELF\x02":
        raise ValueError("not an ELF core file")
    _, kind, _, _, _, table, _, _, _, each, count, *_ = ELF_HEADER.unpack(header)
    if kind != ET_CORE or each != PROGRAM_HEADER.itemsize:
        raise ValueError("not an ELF core file")
    return _read(file, table, each * count)


def _read(file: OpenFile, offset: int, size: int) -> bytes:
    if offset >= MAX_OFFSET:
        raise ValueError("its headers name bytes beyond the end of any file")
    return file.read(offset, size)
