"""Unpacks captures, which `capture.py` writes: one xz stream with an ELF core in it."""

from __future__ import annotations

import contextlib
import lzma
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from hvoinspect.errors import HvoinspectError
from hvoinspect.target.openfile import begins_with

MAGIC = b"\xfd7zXZ\x00"
PIECE = 1 << 20
MAX_BYTES = 1 << 38
"""Most bytes a capture may unpack to: far beyond any machine's distinct frames. What xz unpacks is
at most some 7,000 times as large, and struct pages of an idle machine's memory get near that."""
MAX_MEMORY = 1 << 27
"""Bytes of memory that unpacking may take: `xz -9` asks for 65 MiB, PRESET for two."""


def is_capture(path: Path) -> bool:
    """Say whether a file begins as a capture does; False if it cannot be read."""
    return begins_with(path, MAGIC)


@contextlib.contextmanager
def unpacked(path: Path) -> Iterator[BinaryIO]:
    """Give the core that is in a capture, as an unnamed file. Raises HvoinspectError."""
    with tempfile.TemporaryFile() as core:
        try:
            with path.open("rb") as file:
                whole = _unpack(file, core)
        except lzma.LZMAError as error:
            raise HvoinspectError(
                f"{path} is damaged or cut short: {error}", "take or copy the capture again"
            ) from error
        except OSError as error:
            raise HvoinspectError(
                f"{path} cannot be unpacked: {error.strerror}",
                f"unpacking needs room in {tempfile.gettempdir()}; TMPDIR names another place",
            ) from error
        if not whole:
            raise HvoinspectError(
                f"{path} would unpack to more than {MAX_BYTES >> 30} GiB", "it is no capture"
            )
        core.flush()
        yield cast("BinaryIO", core)


def _unpack(file: BinaryIO, core: BinaryIO) -> bool:
    """Unpack `file` to `core`; stop and return False where it comes to too much.

    Raises LZMAError if it is damaged, cut short, or wants more than MAX_MEMORY, and OSError.
    """
    left = MAX_BYTES
    stream = lzma.LZMADecompressor(lzma.FORMAT_XZ, MAX_MEMORY)
    while not stream.eof:
        packed = file.read(PIECE) if stream.needs_input else b""
        if stream.needs_input and not packed:
            raise lzma.LZMAError("it ends before its end is marked")
        left -= core.write(stream.decompress(packed, PIECE))
        if left < 0:
            return False
    if stream.unused_data or file.read(1):
        raise lzma.LZMAError("something follows its end")
    return True
