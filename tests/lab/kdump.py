"""Tells what is in a kdump file, and packs its pages in ways that the makedumpfile at hand cannot.

The format is that of makedumpfile's IMPLEMENTATION and diskdump_mod.h: a header, a sub-header, two
bitmaps, a descriptor for each page of the second one (offset, size, flags), the pages' content.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

import cramjam
import numpy as np
from numpy.typing import NDArray

DESC = np.dtype([("offset", "<u8"), ("size", "<u4"), ("flags", "<u4"), ("page_flags", "<u8")])
STATUS = 424
"""Offset of disk_dump_header.status, which tells how pages are packed, as their flags do."""
SNAPPY, ZSTD = 0x4, 0x20


def bitmap_in(data: mmap.mmap) -> tuple[NDArray[np.uint8], int]:
    """The second bitmap, one bit a frame that is in the file, and the offset of what follows it."""
    block, sub_headers, bitmaps = struct.unpack_from("<III", data, STATUS + 4)
    half = bitmaps // 2 * block
    start = (1 + sub_headers) * block
    bits = np.frombuffer(data[start + half : start + 2 * half], np.uint8)
    return bits, start + bitmaps * block


def frames_in(dump: Path) -> NDArray[np.bool_]:
    """Which frames of memory are in a kdump file, bool[frames]."""
    with (
        dump.open("rb") as source,
        mmap.mmap(source.fileno(), 0, prot=mmap.PROT_READ) as data,
    ):
        bits, _ = bitmap_in(data)
    return np.unpackbits(bits, bitorder="little").astype(np.bool_)


def recompressed(plain: Path, output: Path, how: str) -> None:
    """Write the uncompressed kdump file `plain` anew, packed by "snappy" or "zstd"."""
    flag = {"snappy": SNAPPY, "zstd": ZSTD}[how]
    with (
        plain.open("rb") as source,
        mmap.mmap(source.fileno(), 0, prot=mmap.PROT_READ) as data,
        output.open("wb") as file,
    ):
        bits, table = bitmap_in(data)
        count = int(np.bitwise_count(bits).sum())
        end = table + count * DESC.itemsize
        descriptors = np.frombuffer(data[table:end], DESC).copy()
        assert not descriptors["flags"].any()
        file.write(data[:table])
        file.seek(table + descriptors.nbytes)
        at: dict[int, tuple[int, int, int]] = {}  # pages of zeros share their content
        for number, (offset, size, _, _) in enumerate(descriptors.tolist()):
            if offset not in at:
                page = data[offset : offset + size]
                packed = pack(page, how)
                smaller = len(packed) < size
                at[offset] = (file.tell(), min(len(packed), size), flag if smaller else 0)
                file.write(packed if smaller else page)
            for name, value in zip(("offset", "size", "flags"), at[offset], strict=True):
                descriptors[name][number] = value
        file.seek(table)
        file.write(descriptors.tobytes())
        file.seek(STATUS)
        file.write(struct.pack("<I", flag))


def pack(page: bytes, how: str) -> bytes:
    if how == "snappy":
        return bytes(cramjam.snappy.compress_raw(page))
    return bytes(cramjam.zstd.compress(page))
