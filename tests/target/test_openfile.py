"""Reads of frames from a file, while the system calls fail in every way they can."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvoinspect.target.memory import FRAME, RUN
from hvoinspect.target.openfile import OpenFile

FRAMES = 9
CONTENT = random.Random(1).randbytes(FRAMES * FRAME)
Preadv = Callable[[int, Sequence[memoryview], int], int]
real_preadv = os.preadv


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> OpenFile:
    path = tmp_path_factory.mktemp("file") / "file"
    path.write_bytes(CONTENT)
    return OpenFile(path)


def read(file: OpenFile, offsets: list[int]) -> list[bool]:
    """Which frames could be read; those are right."""
    words = np.full((len(offsets), 512), 0x5A5A, np.uint64)
    readable = file.read_frames(np.array(offsets, np.int64), words)
    for row, offset in enumerate(offsets):
        if readable[row]:
            assert words[row].tobytes() == CONTENT[offset : offset + FRAME]
    found: list[bool] = readable.tolist()
    return found


@given(st.lists(st.one_of(st.just(-1), st.integers(0, (FRAMES + 1) * FRAME)), max_size=30))
def test_frames_at_any_offsets_in_any_order(file: OpenFile, offsets: list[int]) -> None:
    assert read(file, offsets) == [0 <= offset <= len(CONTENT) - FRAME for offset in offsets]


def test_what_follows_each_other_is_read_at_once(
    file: OpenFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def preadv(descriptor: int, buffers: Sequence[memoryview], offset: int) -> int:
        calls.append((offset // FRAME, len(buffers[0]) // FRAME))
        return real_preadv(descriptor, buffers, offset)

    monkeypatch.setattr(os, "preadv", preadv)
    assert all(read(file, [frame * FRAME for frame in (1, 2, 3, 5, 7, 8, 0)]))
    assert calls == [(1, 3), (5, 1), (7, 2), (0, 1)]
    calls.clear()
    assert all(read(file, [0, *range(FRAME, 8 * FRAME, FRAME)] * 100))
    assert max(count for _, count in calls) == 8 <= RUN


ERRORS = [errno.EIO, errno.EFAULT, errno.EPERM, errno.EACCES, errno.ENOMEM, errno.ESTALE]


@given(
    bad=st.sets(st.integers(0, FRAMES - 1)),
    number=st.sampled_from(ERRORS),
    most=st.one_of(st.none(), st.integers(1, 3 * FRAME)),
)
def test_an_error_costs_the_frames_it_is_about(
    file: OpenFile, bad: set[int], number: int, most: int | None
) -> None:
    """Whether a read that comes to a bad frame fails as a whole or is cut short before it."""

    def preadv(descriptor: int, buffers: Sequence[memoryview], offset: int) -> int:
        view = buffers[0][:most]
        touched = range(offset // FRAME, (offset + len(view) - 1) // FRAME + 1)
        if bad.intersection(touched):
            raise OSError(number, os.strerror(number))
        return real_preadv(descriptor, [view], offset)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "preadv", preadv)
        readable = read(file, [frame * FRAME for frame in range(FRAMES)])
    assert readable == [frame not in bad for frame in range(FRAMES)]


@pytest.mark.parametrize("failing", [1, 2, 3])
def test_an_error_that_passes_costs_nothing(
    file: OpenFile, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    calls = 0

    def preadv(descriptor: int, buffers: Sequence[memoryview], offset: int) -> int:
        nonlocal calls
        calls += 1
        if calls <= failing:  # after a fourth time it would be about a single frame
            raise OSError(errno.ENOMEM, "")
        return real_preadv(descriptor, buffers, offset)

    monkeypatch.setattr(os, "preadv", preadv)
    assert all(read(file, [frame * FRAME for frame in range(FRAMES)]))


@given(st.integers(0, len(CONTENT)), st.integers(1, 2 * FRAME))
def test_a_file_that_ends_is_unreadable_from_there_on(file: OpenFile, end: int, most: int) -> None:
    """However few bytes a read gives; and no frame is zeros in its second half."""

    def preadv(descriptor: int, buffers: Sequence[memoryview], offset: int) -> int:
        view = buffers[0][: min(most, max(end - offset, 0))]
        return real_preadv(descriptor, [view], offset)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "preadv", preadv)
        readable = read(file, [frame * FRAME for frame in range(FRAMES)])
        assert file.read(5, 100) == CONTENT[5 : min(105, max(end, 5))]
    assert readable == [(frame + 1) * FRAME <= end for frame in range(FRAMES)]


def test_a_file_that_is_replaced_is_read_on(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    file = OpenFile(path)
    other = tmp_path / "other"
    other.write_bytes(bytes(len(CONTENT)))
    other.replace(path)
    assert all(read(file, [0, FRAME]))
    assert file.path.read_bytes() == CONTENT


def test_it_cannot_be_written_and_no_program_inherits_it(file: OpenFile) -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.write(file.descriptor, b"x")
    assert not os.get_inheritable(file.descriptor)


def test_it_is_closed_with_its_last_user(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    file = OpenFile(tmp_path / "file")
    number = file.descriptor
    os.fstat(number)
    del file
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)
