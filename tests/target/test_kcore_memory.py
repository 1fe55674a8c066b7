"""The running kernel's memory, on a made-up /proc/kcore; a real one is in tests/lab/."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import numpy as np
import pytest

from hvoinspect.target.dumpfile import NO_ADDRESS
from hvoinspect.target.kcore_memory import HWPOISON, MAX_REOPENED, NO_PAGE, OFFLINE, KcoreMemory
from hvoinspect.target.memory import FRAME, UnreadableMemoryError
from hvoinspect.target.openfile import OpenFile
from tests.madeup_dumps import Load, elf_core
from tests.target.test_elf_memory import frames_of

CONTENT = random.Random(2).randbytes(4 * FRAME)
RAM = Load(8 * FRAME, 0, 2 * FRAME, 2 * FRAME)
ADDED = Load(20 * FRAME, 2 * FRAME, FRAME, FRAME)
VMALLOC = Load(NO_ADDRESS, 0, 3 * FRAME, 3 * FRAME)


class Proc:
    """The files of a made-up /proc."""

    def __init__(self, folder: Path) -> None:
        self.kcore, self.flags = folder / "kcore", folder / "kpageflags"
        self.memory(VMALLOC, RAM)
        self.kpageflags()

    def memory(self, *loads: Load, content: bytes = CONTENT) -> None:
        """A new file under the same name, as the kernel makes one up for who opens it."""
        new = self.kcore.with_name("new")
        new.write_bytes(elf_core(loads, content))
        new.replace(self.kcore)

    def kpageflags(self, **flags: int) -> None:
        words = [flags.get(f"pfn{pfn}", 0) for pfn in range(24)]
        self.flags.write_bytes(struct.pack("<24Q", *words))

    def open(self) -> KcoreMemory:
        return KcoreMemory(self.kcore, self.flags)


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    return Proc(tmp_path)


def test_memory_is_where_a_segment_has_its_physical_address(proc: Proc) -> None:
    words, readable = frames_of(proc.open(), [0, 1, 8, 9, 10])
    assert readable.tolist() == [False, False, True, True, False]
    assert words.tobytes() == bytes(2 * FRAME) + CONTENT[: 2 * FRAME] + bytes(FRAME)
    assert proc.open().read(8 * FRAME + 4094, 4) == CONTENT[4094:4098]
    with pytest.raises(UnreadableMemoryError):
        proc.open().read(8 * FRAME - 4, 8)


def test_memory_that_was_added_later_is_found(proc: Proc) -> None:
    memory = proc.open()
    assert not frames_of(memory, [20])[1].any()
    proc.memory(VMALLOC, RAM, ADDED)
    words, readable = frames_of(memory, [9, 20])
    assert readable.all()
    assert words.tobytes() == CONTENT[FRAME : 3 * FRAME]


def test_it_is_not_looked_for_without_end(proc: Proc, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []
    memory = proc.open()

    def open_again(path: Path) -> OpenFile:
        opened.append(path)
        return OpenFile(path)

    monkeypatch.setattr("hvoinspect.target.kcore_memory.OpenFile", open_again)
    for _ in range(100):
        assert not frames_of(memory, [20])[1].any()
    assert len(opened) == MAX_REOPENED


def test_what_shifts_while_it_is_read_is_read_again(
    proc: Proc, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another header shifts all that follows: what was read was the wrong memory."""
    memory = proc.open()
    read = OpenFile.read_frames
    shifted = elf_core([VMALLOC, VMALLOC, RAM], bytes(50) + CONTENT)

    def shift_first(*arguments: object) -> object:
        monkeypatch.setattr(OpenFile, "read_frames", read)
        with proc.kcore.open("r+b") as file:  # the very file that is open
            file.write(elf_core([VMALLOC, VMALLOC, RAM], CONTENT))
        return read(*arguments)  # type: ignore[arg-type]

    assert len(shifted) > len(elf_core([VMALLOC, RAM], CONTENT))
    monkeypatch.setattr(OpenFile, "read_frames", shift_first)
    words, readable = frames_of(memory, [8, 9])
    assert readable.all()
    assert words.tobytes() == CONTENT[: 2 * FRAME]


def test_what_never_stands_still_is_unreadable(proc: Proc, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = proc.open()
    read = OpenFile.read_frames
    count = 0

    def shift_always(*arguments: object) -> object:
        nonlocal count
        count += 1
        proc.kcore.write_bytes(elf_core([VMALLOC] * (count % 2 + 1) + [RAM], CONTENT))
        return read(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(OpenFile, "read_frames", shift_always)
    words, readable = frames_of(memory, [8, 9])
    assert not readable.any()
    assert not words.any()


@pytest.mark.parametrize("flag", [HWPOISON, NO_PAGE, OFFLINE])
def test_zeros_that_the_kernel_gives_for_what_it_does_not_read_are_unreadable(
    proc: Proc, flag: int
) -> None:
    proc.memory(RAM, content=bytes(4 * FRAME))
    proc.kpageflags(pfn8=flag | 1 << 10)
    assert frames_of(proc.open(), [8, 9])[1].tolist() == [False, True]
    with pytest.raises(UnreadableMemoryError):
        proc.open().read(8 * FRAME + 8, 8)


def test_zeros_are_unreadable_where_nobody_can_say_what_they_are(proc: Proc) -> None:
    proc.memory(RAM, content=bytes(FRAME) + CONTENT)
    proc.flags.unlink()
    assert frames_of(proc.open(), [8, 9])[1].tolist() == [False, True]
    proc.flags.write_bytes(bytes(8 * 8))  # it ends before the page
    assert frames_of(proc.open(), [8, 9])[1].tolist() == [False, True]


def test_one_word_that_is_not_zero_makes_a_frame(proc: Proc) -> None:
    proc.flags.unlink()
    for word in (0, 7, 8, 511):
        content = np.zeros(1024, np.uint64)
        content[word] = content[1023] = 1
        proc.memory(RAM, content=content.tobytes())
        assert frames_of(proc.open(), [8, 9])[1].all()


def test_a_file_that_is_gone_or_is_another_now_is_unreadable(proc: Proc) -> None:
    memory = proc.open()
    proc.kcore.unlink()
    assert frames_of(memory, [8])[1].all()
    assert not frames_of(memory, [8, 20])[1].any()
    proc.kcore.write_bytes(b"no core")
    assert not frames_of(memory, [8, 20])[1].any()


@pytest.mark.parametrize("content", [b"", elf_core([VMALLOC], CONTENT)], ids=["none", "no memory"])
def test_what_is_no_memory_is_refused(proc: Proc, content: bytes) -> None:
    """As where containers mask it, and a kernel that tells no physical addresses."""
    proc.kcore.write_bytes(content)
    with pytest.raises(ValueError, match=r"not an ELF core|no segment"):
        proc.open()
