"""Memory of ELF dumps, whatever their segments: against a byte at a time, and against drgn."""

from __future__ import annotations

import os
import random
from pathlib import Path

import numpy as np
import pytest
from drgn import FaultError, Program
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from hvoinspect.target.dumpfile import NO_ADDRESS, PROGRAM_HEADER, open_dump, recognize
from hvoinspect.target.elf_memory import ElfMemory
from hvoinspect.target.memory import FRAME, Memory, UnreadableMemoryError
from hvoinspect.target.segments import Segments
from tests.madeup_dumps import Load, elf_core

FRAMES = 6
"""The made-up dumps are of so many frames, and have segments a little beyond."""
CONTENT = random.Random(0).randbytes(5 * FRAME)

# Edges lie at, beside and between those of frames; whole segments can be beyond the file's end.
place = st.one_of(
    st.integers(0, FRAMES).map(lambda frame: frame * FRAME),
    st.integers(0, FRAMES * FRAME),
    st.sampled_from([FRAME - 1, FRAME + 1, 100, NO_ADDRESS, 1 << 63, (1 << 52) - 100]),
)
size = st.one_of(st.sampled_from([0, 1, FRAME, 2 * FRAME]), st.integers(0, 3 * FRAME))
load = st.builds(
    lambda physical, offset, file_size, left_out: Load(
        physical, offset, file_size, file_size + left_out
    ),
    physical=place,
    offset=st.one_of(st.integers(0, 5).map(lambda frame: frame * FRAME), st.integers(0, 6 * FRAME)),
    file_size=size,
    left_out=st.one_of(st.just(0), size),
)


def memory_in(path: Path) -> ElfMemory:
    file = open_dump(path)
    return ElfMemory(file, Segments.of(recognize(path, file).headers))


def frames_of(memory: Memory, pfns: list[int]) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
    words = np.full((len(pfns), 512), 0x5A5A, np.uint64)
    readable = memory.read_frames(np.array(pfns, np.uint64), words)
    return words, readable


def slow(loads: list[Load], content: bytes, address: int, size: int) -> bytes | None:
    """The slow model: a range of physical memory, or None if the file does not have all of it."""
    data = [-1] * size
    for each in loads:
        if each.physical < 1 << 52:
            low = max(address, each.physical)
            high = min(address + size, each.physical + each.file_size, 1 << 52)
            for at in range(low, high):
                offset = each.offset + at - each.physical
                data[at - address] = content[offset] if offset < len(content) else -1
    return None if -1 in data else bytes(data)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("elf")


@given(st.lists(load, max_size=6), st.sampled_from([len(CONTENT), 4 * FRAME + 7, 10]))
def test_every_frame_is_what_its_bytes_are(folder: Path, loads: list[Load], end: int) -> None:
    """Segments may overlap, touch, end anywhere, lie beyond the file's end or mean nothing."""
    path = folder / "core"
    path.write_bytes(elf_core(loads, CONTENT[:end]))
    memory = memory_in(path)
    pfns = [*range(FRAMES + 2), (1 << 40) - 1, 1 << 40, 1 << 51, (1 << 64) - 1]
    words, readable = frames_of(memory, pfns)
    for row, pfn in enumerate(pfns):
        frame = slow(loads, CONTENT[:end], pfn * FRAME, FRAME)
        assert readable[row] == (frame is not None)
        assert words[row].tobytes() == (frame or bytes(FRAME))


@given(
    st.lists(load, max_size=6),
    st.integers(0, (FRAMES + 1) * FRAME),
    st.one_of(st.integers(0, 16), st.integers(0, 2 * FRAME)),
)
def test_a_few_bytes_are_read_from_the_pieces_they_are_in(
    folder: Path, loads: list[Load], address: int, count: int
) -> None:
    path = folder / "core"
    path.write_bytes(elf_core(loads, CONTENT))
    expected = slow(loads, CONTENT, address, count)
    if expected is None:
        with pytest.raises(UnreadableMemoryError):
            memory_in(path).read(address, count)
    else:
        assert memory_in(path).read(address, count) == expected


@given(st.lists(load, min_size=1, max_size=6))
def test_what_drgn_reads_is_read_too_and_is_the_same(folder: Path, loads: list[Load]) -> None:
    """But for what a dump leaves out, which are zeros to drgn."""
    whole = [each for each in loads if each.size == each.file_size and each.physical < 1 << 40]
    whole = [each for each in whole if each.offset + each.file_size <= len(CONTENT) and each.size]
    if not whole:
        return
    path = folder / "core"
    path.write_bytes(elf_core(whole, CONTENT))
    prog = Program()
    prog.set_core_dump(str(path))
    words, readable = frames_of(memory_in(path), list(range(FRAMES + 2)))
    for pfn in range(FRAMES + 2):
        try:
            seen: bytes = prog.read(pfn * FRAME, FRAME, physical=True)
        except FaultError:
            assert not readable[pfn]
            continue
        assert readable[pfn]
        assert words[pfn].tobytes() == seen


@pytest.mark.parametrize("address", [-8, (1 << 52) - 4, 1 << 52, 1 << 64])
def test_what_is_no_address_is_unreadable(folder: Path, address: int) -> None:
    path = folder / "core"
    path.write_bytes(elf_core([Load(0, 0, FRAME, FRAME)], CONTENT))
    with pytest.raises(UnreadableMemoryError):
        memory_in(path).read(address, 8)


def test_no_frames_are_none(folder: Path) -> None:
    for loads in ([], [Load(0, 0, FRAME, FRAME)]):
        path = folder / "core"
        path.write_bytes(elf_core(loads, CONTENT))
        assert frames_of(memory_in(path), [])[1].tolist() == []
        assert memory_in(path).read(0, 0) == b""


def test_many_segments_that_overlap_take_no_longer_than_others() -> None:
    """A million headers, each over all the others, are a map at once: the last one's."""
    headers = np.zeros(1 << 20, PROGRAM_HEADER)
    headers["type"], headers["file_size"] = 1, 1 << 30
    headers["physical"] = headers["offset"] = np.arange(1 << 20) % 1000 * 8
    segments = Segments.of(headers)
    assert segments.pieces(0, 8) == [(0, 8)]
    assert len(segments.start) == 1


def test_a_child_reads_beside_its_parent(folder: Path) -> None:
    path = folder / "core"
    path.write_bytes(elf_core([Load(0, 0, 4 * FRAME, 4 * FRAME)], CONTENT))
    memory = memory_in(path)
    assert memory.forkable
    expected = CONTENT[:FRAME] + CONTENT[2 * FRAME : 3 * FRAME]
    child = os.fork()
    if child == 0:
        right = all(frames_of(memory, [0, 2])[0].tobytes() == expected for _ in range(500))
        os._exit(0 if right else 1)
    for _ in range(500):
        assert frames_of(memory, [1, 3])[0][0].tobytes() == CONTENT[FRAME : 2 * FRAME]
    assert os.waitpid(child, 0)[1] == 0
