"""The flattened form of a dump, which makedumpfile -F and QEMU write to what they cannot seek in.

Put together here as makedumpfile -R does: libkdumpfile would read it as it is, but looks at all of
its blocks for each read, and trusts them. The form is `struct makedumpfile_header` and `struct
makedumpfile_data_header`, in makedumpfile's IMPLEMENTATION file.
"""

from __future__ import annotations

import contextlib
import os
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from hvoinspect.errors import HvoinspectError
from hvoinspect.target.openfile import begins_with

MAGIC = b"makedumpfile\0\0\0\0"
_HEADER = 4096
_BLOCK = struct.Struct(">qq")
_END = -1


def is_flattened(path: Path) -> bool:
    """Say whether a file begins as a flattened dump does; False if it cannot be read."""
    return begins_with(path, MAGIC)


@contextlib.contextmanager
def rearranged(path: Path) -> Iterator[BinaryIO]:
    """Give the dump that is in a flattened one, as an unnamed file.

    Raises HvoinspectError if that is damaged or cut short, or if there is no room for it.
    """
    with tempfile.TemporaryFile() as dump:
        try:
            with path.open("rb") as file:
                for place, at, size in _blocks(file):
                    dump.seek(place)
                    _copy(file.fileno(), dump.fileno(), at, size)
        except ValueError as error:
            raise HvoinspectError(
                f"{path} is damaged or cut short: {error}", "copy it again, whole"
            ) from error
        except OSError as error:
            raise HvoinspectError(
                f"{path} cannot be put together: {error.strerror}",
                f"that needs room in {tempfile.gettempdir()}; TMPDIR names another place",
            ) from error
        yield cast("BinaryIO", dump)


def _blocks(file: BinaryIO) -> Iterator[tuple[int, int, int]]:
    """Yield each block: its place in the dump, in the file, and its size.

    The first and the last are before it, big-endian; -1 for both says that there is no more. Raises
    ValueError if the file ends before that.
    """
    end = file.seek(0, os.SEEK_END)
    at = _HEADER
    while at + _BLOCK.size <= end:
        place, size = _BLOCK.unpack(os.pread(file.fileno(), _BLOCK.size, at))
        if place == _END:
            return
        at += _BLOCK.size
        if place < 0 or not 0 < size <= end - at:
            raise ValueError(f"a block at {at} is of {size} bytes")
        yield place, at, size
        at += size
    raise ValueError("its end is missing")


def _copy(source: int, to: int, at: int, size: int) -> None:
    while size:
        done = os.sendfile(to, source, at, size)
        if not done:
            raise ValueError("it became shorter while it was read")
        at, size = at + done, size - done
