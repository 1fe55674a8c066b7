"""Reads ELF notes, of a file or of the running kernel.

System V ABI, "Note Section"; include/linux/build-id.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

NT_GNU_BUILD_ID = 3
RUNNING = Path("/sys/kernel/notes")


def elf_notes(data: bytes) -> Iterator[tuple[bytes, int, bytes]]:
    """Yield the owner, kind and content of each note in `data`, little-endian.

    Owner and content are padded to 4 bytes each; a content that is cut off is shorter than it says
    and is left out.
    """
    at = 0
    while at + 12 <= len(data):
        name_size, size, kind = struct.unpack_from("<III", data, at)
        content = at + 12 + (name_size + 3 & ~3)
        if content + size <= len(data):
            yield (
                data[at + 12 : at + 12 + name_size].rstrip(b"\0"),
                kind,
                data[content : content + size],
            )
        at = content + (size + 3 & ~3)


def build_id_of(notes: bytes) -> str | None:
    """Return the build-id that is among `notes` (little-endian), in lower-case hexadecimal."""
    for owner, kind, content in elf_notes(notes):
        if (owner, kind) == (b"GNU", NT_GNU_BUILD_ID):
            return content.hex() or None
    return None


def running_build_id(path: Path = RUNNING) -> str | None:
    """Return the running kernel's build-id, None if it does not tell it."""
    try:
        return build_id_of(path.read_bytes())
    except OSError:
        return None
