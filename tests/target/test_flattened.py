"""Flattened dumps are put together again; what is damaged, cut short or too large says so."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvoinspect.errors import HvoinspectError
from hvoinspect.target.flattened import MAGIC, is_flattened, rearranged
from hvoinspect.target.open import open_core
from tests.tiny_kernel import TinyKernel

END = struct.pack(">qq", -1, -1)


def flattened(*blocks: tuple[int, bytes], end: bytes = END) -> bytes:
    header = (MAGIC + struct.pack(">qq", 1, 1)).ljust(4096, b"\0")
    parts = [struct.pack(">qq", offset, len(content)) + content for offset, content in blocks]
    return header + b"".join(parts) + end


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "dump"


@given(st.lists(st.tuples(st.integers(0, 100), st.binary(min_size=1, max_size=50)), max_size=8))
def test_what_comes_later_counts_and_what_never_comes_is_zeros(
    tmp_path_factory: pytest.TempPathFactory, blocks: list[tuple[int, bytes]]
) -> None:
    path = tmp_path_factory.mktemp("flattened") / "dump"
    path.write_bytes(flattened(*blocks))
    expected = bytearray()
    for place, content in blocks:
        expected.extend(bytes(max(0, place - len(expected))))
        expected[place : place + len(content)] = content
    assert is_flattened(path)
    with rearranged(path) as dump:
        dump.seek(0)
        assert dump.read() == expected


def test_one_of_a_kernel_is_opened_as_what_is_in_it(path: Path) -> None:
    core = TinyKernel().core()
    half = len(core) // 2
    path.write_bytes(flattened((half, core[half:]), (0, core[:half])))
    kernel = open_core(path)
    assert kernel.source.path == str(path)
    assert kernel.sections.struct_pages == 1 << 15


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (flattened((0, b"content"), end=b""), "its end is missing"),
        (flattened((0, b"content"))[:-20], "a block at 4112 is of 7 bytes"),
        (flattened(end=struct.pack(">qq", 0, 0)), "a block at 4112 is of 0 bytes"),
        (flattened(end=struct.pack(">qqq", -2, 1, 0)), "a block at 4112 is of 1 bytes"),
        (flattened((1 << 62, b"far")), "cannot be put together: "),
    ],
)
def test_what_cannot_be_put_together_says_why(path: Path, content: bytes, why: str) -> None:
    path.write_bytes(content)
    with pytest.raises(HvoinspectError, match=why) as caught, rearranged(path):
        pass
    assert str(path) in caught.value.why


def test_what_is_none(path: Path) -> None:
    assert not is_flattened(path)
    path.write_bytes(b"\x7fELF")
    assert not is_flattened(path)
