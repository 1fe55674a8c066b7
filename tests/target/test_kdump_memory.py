"""Memory of kdump files, however their pages are packed: against their content, and drgn."""

from __future__ import annotations

import errno
import os
import random
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from drgn import Architecture, FaultError, Platform, Program
from hypothesis import given, settings
from hypothesis import strategies as st

from hvoinspect.target.kdump_memory import KdumpMemory
from hvoinspect.target.memory import FRAME, UnreadableMemoryError
from hvoinspect.target.openfile import OpenFile
from tests.madeup_dumps import DESC, PACK, kdump
from tests.target.test_elf_memory import frames_of
from tests.tiny_kernel import SIZE, TABLES, TinyKernel

RANDOM = random.Random(0)
CONTENTS = (
    bytes(FRAME),
    b"\x5a" * FRAME,
    RANDOM.randbytes(64) * 64,
    RANDOM.randbytes(1000).ljust(FRAME, b"\0"),
    RANDOM.randbytes(FRAME),  # nothing packs it, so it is stored as it is
)
BLOCK = 1 << 15
"""Pages of a bitmap's block."""
pfns = st.one_of(
    st.integers(0, 200),
    st.sampled_from([63, 64, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 3 * BLOCK + 70]),
)
dumps = st.dictionaries(
    pfns, st.tuples(st.sampled_from(CONTENTS), st.sampled_from(list(PACK))), max_size=40
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kdump") / "vmcore"


def memory_in(path: Path) -> KdumpMemory:
    return KdumpMemory(OpenFile(path))


@given(dumps, st.sets(pfns, max_size=40))
def test_each_page_is_its_content_and_excluded_ones_are_unreadable(
    path: Path, pages: dict[int, tuple[bytes, int]], others: set[int]
) -> None:
    path.write_bytes(kdump(pages))
    wanted = sorted({*pages, *others, 1 << 40, (1 << 64) - 1})
    words, readable = frames_of(memory_in(path), wanted)
    for row, pfn in enumerate(wanted):
        assert readable[row] == (pfn in pages)
        assert words[row].tobytes() == (pages[pfn][0] if pfn in pages else bytes(FRAME))


@settings(max_examples=15)
@given(
    left_out=st.sets(st.integers(0, SIZE // FRAME - 1), max_size=200),
    ways=st.lists(st.sampled_from(list(PACK)), min_size=1, max_size=5),
)
def test_drgn_reads_the_same(path: Path, left_out: set[int], ways: list[int]) -> None:
    """In a dump of a kernel, whose page tables libkdumpfile wants to see first."""
    kernel = TinyKernel()
    kernel.core()
    tables = range(TABLES // FRAME, TABLES // FRAME + 8)
    pages = {
        pfn: (bytes(kernel.memory[pfn * FRAME : (pfn + 1) * FRAME]), ways[pfn % len(ways)])
        for pfn in range(SIZE // FRAME)
        if pfn not in left_out or pfn in tables
    }
    text = "".join(f"{key}={value}\n" for key, value in kernel.vmcoreinfo.items())
    path.write_bytes(kdump(pages, vmcoreinfo=text.encode()))
    prog = Program(Platform(Architecture.X86_64))
    prog.set_core_dump(str(path))
    words, readable = frames_of(memory_in(path), list(range(SIZE // FRAME + 2)))
    assert set(np.flatnonzero(readable).tolist()) == set(pages)
    for pfn in range(SIZE // FRAME + 2):
        try:
            assert words[pfn].tobytes() == prog.read(pfn * FRAME, FRAME, physical=True)
        except FaultError:
            assert pfn not in pages


def test_a_few_bytes_are_cut_out_of_their_frames(path: Path) -> None:
    pages = {pfn: (RANDOM.randbytes(FRAME), 1) for pfn in (3, 4)}
    path.write_bytes(kdump(pages))
    memory = memory_in(path)
    assert memory.read(3 * FRAME + 8, 8) == pages[3][0][8:16]
    assert memory.read(4 * FRAME - 4, 8) == pages[3][0][-4:] + pages[4][0][:4]
    assert memory.read(3 * FRAME, 0) == b""
    for address in (-8, 3 * FRAME - 4, 5 * FRAME - 4, 1 << 52, 1 << 64):
        with pytest.raises(UnreadableMemoryError):
            memory.read(address, 8)


PAGES = {pfn: (CONTENTS[pfn % 4], way) for pfn, way in zip(range(20), list(PACK) * 4, strict=True)}
DUMP = kdump(PAGES)


@given(
    st.lists(
        st.tuples(st.integers(0, len(DUMP) - 1), st.binary(min_size=1, max_size=8)), max_size=4
    ),
    st.one_of(st.just(len(DUMP)), st.integers(0, len(DUMP))),
)
def test_damage_is_refused_or_unreadable_and_never_a_bug(
    path: Path, damages: list[tuple[int, bytes]], end: int
) -> None:
    content = bytearray(DUMP)
    for at, data in damages:
        content[at : at + len(data)] = data
    path.write_bytes(content[:end])
    try:
        memory = memory_in(path)
    except ValueError:
        return
    words, readable = frames_of(memory, list(range(30)))
    assert not words[~readable].any()


@given(st.integers(0, len(DUMP)))
def test_what_a_cut_file_still_has_is_whole(path: Path, end: int) -> None:
    path.write_bytes(DUMP[:end])
    try:
        memory = memory_in(path)
    except ValueError:
        return
    words, readable = frames_of(memory, list(PAGES))
    for pfn in np.flatnonzero(readable).tolist():
        assert words[pfn].tobytes() == PAGES[pfn][0]


def described(**fields: int) -> bytes:
    """A dump of two pages, of which the second one's descriptor is other than it should be."""
    dump = bytearray(kdump({0: (CONTENTS[2], 1), 1: (CONTENTS[2], 1)}))
    at = dump.index(DESC.pack(len(dump) - (size := len(PACK[1](CONTENTS[2]))), size, 1, 0))
    descriptor = {"offset": len(dump) - size, "size": size, "flags": 1} | fields
    DESC.pack_into(dump, at, *descriptor.values(), 0)
    return bytes(dump)


@pytest.mark.parametrize(
    "fields",
    [
        {"offset": 0, "size": 0, "flags": 0},  # as an incomplete dump has it
        {"offset": 0},
        {"offset": 1 << 63},
        {"offset": (1 << 64) - 1},
        {"offset": 1 << 40},
        {"size": 0},
        {"size": 10},
        {"size": FRAME + 1},
        {"size": (1 << 32) - 1},
        {"flags": 0},
        {"flags": 3},
        {"flags": 4},
        {"flags": 0x20},
    ],
    ids=str,
)
def test_a_page_whose_descriptor_lies_is_unreadable_and_its_neighbour_is_not(
    path: Path, fields: dict[str, int]
) -> None:
    path.write_bytes(described())
    assert frames_of(memory_in(path), [0, 1])[1].tolist() == [True, True]
    path.write_bytes(described(**fields))
    words, readable = frames_of(memory_in(path), [0, 1])
    assert readable.tolist() == [True, False]
    assert words[0].tobytes() == CONTENTS[2]


@pytest.mark.parametrize("way", [1, 2, 4, 0x20])
def test_a_page_that_unpacks_to_more_or_less_is_unreadable(path: Path, way: int) -> None:
    """A few bytes can be packed megabytes."""
    for size in (FRAME - 1, FRAME + 1, 100 * FRAME):
        dump = bytearray(kdump({0: (CONTENTS[2], way), 1: (CONTENTS[1], way)}))
        packed = PACK[way](bytes(size))[:FRAME]
        right = PACK[way](CONTENTS[1])
        at = dump.index(DESC.pack(len(dump) - len(right), len(right), way, 0))
        DESC.pack_into(dump, at, len(dump), len(packed), way, 0)
        path.write_bytes(bytes(dump) + packed)
        assert frames_of(memory_in(path), [0, 1])[1].tolist() == [True, False]


@pytest.mark.parametrize(
    ("at", "value"),
    [(0, b"DISKDUMP"), (428, struct.pack("<I", 8192)), (436, struct.pack("<I", 1)), (4108, b"\1")],
    ids=["another format", "pages of 8 KiB", "no room for the bitmap", "split"],
)
def test_what_this_does_not_know_is_refused(path: Path, at: int, value: bytes) -> None:
    """And left to drgn."""
    dump = bytearray(DUMP)
    dump[at : at + len(value)] = value
    path.write_bytes(dump)
    with pytest.raises(ValueError, match=r"not a whole kdump file|does not fit"):
        memory_in(path)


def test_a_bitmap_of_a_machine_that_cannot_be_takes_no_memory(path: Path) -> None:
    dump = bytearray(DUMP)
    dump[432:440] = struct.pack("<II", 0xFFFF_FFFF, 0xFFFF_FFFF)
    dump[4096 + 96 : 4096 + 104] = struct.pack("<Q", 1 << 40)
    path.write_bytes(dump)
    with pytest.raises(ValueError, match="does not fit"):
        memory_in(path)


FAR = {**PAGES, (257 << 15) + 3: (CONTENTS[2], 1), (600 << 15) + 3: (CONTENTS[3], 4)}
"""Pages so far apart that the bitmap is counted in three pieces."""
FAR_DUMP = kdump(FAR)
real_preadv = os.preadv


@given(st.sets(st.integers(1, 12)), st.sampled_from([0, 8, 4096, None]))
def test_whichever_reads_fail_what_is_read_is_right(
    path: Path, failing: set[int], most: int | None
) -> None:
    """A piece of the bitmap that cannot be counted hides what is behind it, and shifts nothing."""
    calls = 0

    def preadv(descriptor: int, buffers: Sequence[memoryview], offset: int) -> int:
        nonlocal calls
        calls += 1
        if calls in failing:
            if most is None:
                raise OSError(errno.EIO, "")
            return real_preadv(descriptor, [buffers[0][:most]], offset) if most else 0
        return real_preadv(descriptor, buffers, offset)

    if not path.exists() or path.stat().st_size != len(FAR_DUMP):
        path.write_bytes(FAR_DUMP)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "preadv", preadv)
        try:
            memory = memory_in(path)
        except ValueError:
            return
        words, readable = frames_of(memory, sorted(FAR))
    for row, pfn in enumerate(sorted(FAR)):
        assert words[row].tobytes() == (FAR[pfn][0] if readable[row] else bytes(FRAME))
    assert failing or readable.all()


def test_a_bitmap_that_fails_in_the_midst_hides_what_is_behind(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_bytes(FAR_DUMP)
    calls = 0

    def preadv(descriptor: int, buffers: Sequence[memoryview], offset: int) -> int:
        nonlocal calls
        calls += 1
        if calls == 4:  # after two headers, the second of three pieces
            raise OSError(errno.EIO, "")
        return real_preadv(descriptor, buffers, offset)

    monkeypatch.setattr(os, "preadv", preadv)
    readable = frames_of(memory_in(path), sorted(FAR))[1]
    assert readable.tolist() == [pfn < 256 << 15 for pfn in sorted(FAR)]
