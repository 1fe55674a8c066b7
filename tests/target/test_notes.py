"""Build-ids are read out of ELF notes, and nothing else is taken for one."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvoinspect.target.notes import build_id_of, running_build_id


def note(name: bytes, kind: int, content: bytes) -> bytes:
    def padded(data: bytes) -> bytes:
        return data + bytes(-len(data) % 4)

    return struct.pack("<III", len(name), len(content), kind) + padded(name) + padded(content)


XEN = note(b"Xen\0", 6, b"linux")
OTHER = note(b"GNU\0", 1, bytes(16))
MINE = note(b"GNU\0", 3, bytes(range(20)))


@pytest.mark.parametrize("before", [b"", XEN, OTHER, XEN + OTHER, note(b"Linux\0", 3, b"7")])
def test_it_is_found_among_others(before: bytes) -> None:
    assert build_id_of(before + MINE + XEN) == bytes(range(20)).hex()


@pytest.mark.parametrize("notes", [b"", XEN, MINE[:-1], MINE[:11], note(b"GNU\0", 3, b"")])
def test_there_is_none(notes: bytes) -> None:
    assert build_id_of(notes) is None


@given(st.binary(max_size=64))
def test_anything_may_be_there(notes: bytes) -> None:
    build_id_of(notes)


def test_of_the_running_kernel(tmp_path: Path) -> None:
    assert running_build_id(tmp_path / "notes") is None
    (tmp_path / "notes").write_bytes(MINE)
    assert running_build_id(tmp_path / "notes") == bytes(range(20)).hex()
