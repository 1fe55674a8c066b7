"""Whether a kdump file is whole.

drgn reads it by libkdumpfile, which maps the file and takes its headers at their word: a content
that the file's end cuts through ends the process with SIGBUS, and one that lies beyond it is zeros
(src/kdumpfile/fcache.c). So all that the headers name is looked for here first. The format is
makedumpfile's, in its IMPLEMENTATION file: `struct disk_dump_header`, `struct kdump_sub_header` and
`struct page_desc`.
"""

from __future__ import annotations

import os
import struct
from typing import BinaryIO

import numpy as np

from hvoinspect.target.kdump import PAGE_DESC

_PIECE = 1 << 20
"""Bytes of a bitmap, or page descriptors, that are looked at together."""
_SUB_HEADER = struct.Struct("<Q2i11Q")


def is_cut_short(file: BinaryIO, header: bytes) -> bool:
    """Tell whether a kdump file ends before something that its headers name.

    After the header and the sub-header come two bitmaps as long as each other, and for each page
    that the second one has, a `struct page_desc`: where its content is, and how long.
    """
    end = file.seek(0, os.SEEK_END)
    if len(header) < 468:
        return True
    version = struct.unpack_from("<i", header, 8)[0]
    block, sub_headers, bitmaps, pages = struct.unpack_from("<4I", header, 428)
    if block + _SUB_HEADER.size > end:
        return True
    if version >= 1:
        file.seek(block)
        sub = _SUB_HEADER.unpack(file.read(_SUB_HEADER.size))
        # Of VMCOREINFO, of the notes and of what was erased: offset and size.
        if version >= 3 and any(sub[at] + sub[at + 1] > end for at in (5, 7, 9)):
            return True
        pages = sub[13] if version >= 6 else pages
    start, size = (1 + sub_headers) * block, bitmaps * block
    if start + size > end:
        return True
    half = bitmaps // 2 * block
    # An old form has one bitmap only.
    used = half if pages <= 8 * size // 2 else size
    count = _count(file, start + size - used if used == size else start + half, used)
    return _last_byte(file, start + size, count) > end


def _count(file: BinaryIO, start: int, size: int) -> int:
    """Count the bits that are set in `size` bytes from `start`."""
    file.seek(start)
    count = 0
    for at in range(0, size, _PIECE):
        piece = np.frombuffer(file.read(min(_PIECE, size - at)), np.uint8)
        count += int(np.bitwise_count(piece).sum())
    return count


def _last_byte(file: BinaryIO, start: int, count: int) -> int:
    """Return where the last byte is that `count` page descriptors from `start`, or they, end at."""
    end = start + count * PAGE_DESC.itemsize
    if end > file.seek(0, os.SEEK_END):
        return end
    file.seek(start)
    for at in range(0, count, _PIECE):
        data = file.read(min(_PIECE, count - at) * PAGE_DESC.itemsize)
        pages = np.frombuffer(data, PAGE_DESC)
        if len(pages):
            # Not their sum's, which may wrap around.
            end = max(end, int(pages["offset"].max()), int((pages["offset"] + pages["size"]).max()))
    return end
