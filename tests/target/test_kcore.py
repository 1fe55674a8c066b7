"""The headers of /proc/kcore: whatever they say ends in VMCOREINFO, in none, or in an error."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvoinspect.target.elfcore import ELF_HEADER, PROGRAM_HEADER
from hvoinspect.target.kcore import read_vmcoreinfo
from tests.madeup_host import VMCOREINFO, kcore


def read(folder: Path, content: bytes) -> bytes | None:
    path = folder / "kcore"
    path.write_bytes(content)
    return read_vmcoreinfo(path)


def test_vmcoreinfo_is_in_its_notes(tmp_path: Path) -> None:
    assert read(tmp_path, kcore()) == VMCOREINFO


def test_it_may_come_after_other_notes(tmp_path: Path) -> None:
    """As in the kernel: a CPU's registers and a task come first, with lengths that are padded."""
    content = kcore()
    at = ELF_HEADER.size + 2 * PROGRAM_HEADER.size
    other = struct.pack("<III", 5, 3, 1) + b"CORE\0\0\0\0" + b"abc\0"
    notes = other + content[at:]
    header = PROGRAM_HEADER.pack(4, 0, at, 0, 0, len(notes), len(notes), 4)
    start = content[: ELF_HEADER.size] + header
    assert read(tmp_path, start + content[len(start) : at] + notes) == VMCOREINFO


def test_without_the_note_there_is_none(tmp_path: Path) -> None:
    assert read(tmp_path, kcore().replace(b"VMCOREINFO\0", b"OTHERINFO_\0")) is None


@pytest.mark.parametrize("content", [b"", b"\x7fELF", bytes(4096), b"\x7fELF\x01" + bytes(99)])
def test_what_is_no_core_is_refused(tmp_path: Path, content: bytes) -> None:
    """/dev/null is what containers mask it with."""
    with pytest.raises(ValueError, match="not an ELF core file"):
        read(tmp_path, content)


def test_a_program_is_no_core(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not an ELF core file"):
        read_vmcoreinfo(Path("/proc/self/exe"))


@given(
    st.lists(st.tuples(st.integers(0, 400), st.binary(min_size=1, max_size=8)), max_size=6),
    st.integers(0, 500),
)
def test_damage_is_an_error_and_never_a_bug(
    tmp_path_factory: pytest.TempPathFactory, damages: list[tuple[int, bytes]], size: int
) -> None:
    content = bytearray(kcore())
    for at, data in damages:
        content[at : at + len(data)] = data
    with contextlib.suppress(OSError, ValueError):
        found = read(tmp_path_factory.mktemp("kcore"), bytes(content[: 100 + size]))
        assert found is None or len(found) <= len(content)
