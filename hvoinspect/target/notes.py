"""Reads ELF notes, of a file or of the running kernel.

System V ABI, "Note Section"; include/linux/build-id.h.
"""

from __future__ import annotations

import struct
from pathlib import Path

NT_GNU_BUILD_ID = 3
RUNNING = Path("/sys/kernel/notes")


def build_id_of(notes: bytes) -> str | None:
    """Return the build-id that is among `notes` (little-endian), in lower-case hexadecimal."""
    at = 0
    while at + 12 <= len(notes):
        name_size, size, kind = struct.unpack_from("<III", notes, at)
        name = at + 12
        content = name + (name_size + 3) // 4 * 4
        if (notes[name : name + name_size], kind) == (b"GNU\0", NT_GNU_BUILD_ID):
            found = notes[content : content + size]
            return found.hex() if found and len(found) == size else None
        at = content + (size + 3) // 4 * 4
    return None


def running_build_id(path: Path = RUNNING) -> str | None:
    """Return the running kernel's build-id, None if it does not tell it."""
    try:
        return build_id_of(path.read_bytes())
    except OSError:
        return None
