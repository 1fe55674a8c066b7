"""Captures: xz streams that are damaged, unpack to a disk full, or hold something else."""

from __future__ import annotations

import lzma
import struct
import tempfile
import zlib
from pathlib import Path
from random import Random

from hvoinspect.errors import HvoinspectError
from hvoinspect.target.unpack import MAGIC, is_capture, unpacked
from tests.fuzz.harness import Fuzzer, promised
from tests.fuzz.mutate import damaged

MOST_OFTEN = 8000
"""How much larger what xz has packed can be."""
CONTENT = bytes(range(256)) * 64
SEEDS = tuple(
    lzma.compress(CONTENT, lzma.FORMAT_XZ, check, preset)
    for check in (lzma.CHECK_NONE, lzma.CHECK_CRC32, lzma.CHECK_CRC64)
    for preset in (0, 6)
)


def generate(random: Random) -> bytes:
    seed = random.choice(SEEDS)
    if random.random() < 0.2:
        return seed + random.choice((b"\0" * 4, seed, damaged(random, seed)))
    return damaged(random, seed, 3)


def check(case: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(case)
        file.flush()
        path = Path(file.name)
        assert is_capture(path) == case.startswith(MAGIC)
        try:
            with unpacked(path) as core:
                assert core.tell() <= MOST_OFTEN * len(case)
        except HvoinspectError as error:
            promised(error)


def zeros(mebibytes: int) -> bytes:
    """Pack that many zeros."""
    packer = lzma.LZMACompressor(preset=0)
    return b"".join(packer.compress(bytes(1 << 20)) for _ in range(mebibytes)) + packer.flush()


def wide() -> bytes:
    """Make a stream that says it needs 4 GiB less a byte of memory to be unpacked."""
    stream = bytearray(SEEDS[0])
    # After the stream's header of 12 bytes the block's: its size, flags, the one filter's id, size
    # of properties, and property; padding, CRC32 (the xz format, sections 3.1 and 5.3.1).
    assert stream[14:16] == b"\x21\1"
    stream[16] = 40
    stream[20:24] = struct.pack("<I", zlib.crc32(stream[12:20]))
    return bytes(stream)


FUZZER = Fuzzer(
    generate,
    check,
    cases=1000,
    known={
        "a bomb of 80 MiB": lambda: zeros(80),
        "a dictionary of 4 GiB": wide,
    },
)
