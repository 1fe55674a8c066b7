"""What a dump's file is, on made-up headers; real dumps are in tests/lab/test_dumps.py."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from hvoinspect.errors import ExitStatus, HvoinspectError
from hvoinspect.target.dumpfile import (
    MACHINES,
    NO_ADDRESS,
    PN_XNUM,
    PT_LOAD,
    PT_NOTE,
    DumpFile,
    open_dump,
    recognize,
)

Header = tuple[int, int, int, int, int, int]
"""Type, offset, virtual, physical, bytes in the file, bytes in memory."""


def elf(*headers: Header, machine: int = 62, kind: int = 4, content: bytes = b"") -> bytes:
    """An ELF file; `content` follows the program headers."""
    table = [struct.pack("<IIQQQQQQ", h[0], 0, *h[1:], 0) for h in headers]
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    start = struct.pack(
        "<HHIQQQIHHHHHH", kind, machine, 1, 0, 64, 0, 0, 64, 56, len(table), 0, 0, 0
    )
    return ident + start + b"".join(table) + content


def note(owner: bytes, content: bytes) -> bytes:
    name = owner + b"\0"
    padded = [part + bytes(-len(part) % 4) for part in (name, content)]
    return struct.pack("<III", len(name), len(content), 0) + b"".join(padded)


def kdump(machine: bytes = b"x86_64", pages: int = 0, page_offset: int = 0) -> bytes:
    """A kdump file of blocks of 4 KiB: header, sub-header, two bitmaps, and page descriptors."""
    header = b"KDUMP   " + struct.pack("<I", 6) + bytes(4 * 65) + machine.ljust(65, b"\0")
    header = header.ljust(428, b"\0") + struct.pack("<III", 4096, 1, 2)
    bitmap = ((1 << pages) - 1).to_bytes(4096, "little")
    descriptors = struct.pack("<QIIQ", page_offset, 4096, 0, 0) * pages
    return header.ljust(8192, b"\0") + bitmap + bitmap + descriptors


def recognized(path: Path) -> DumpFile:
    return recognize(path, open_dump(path))


@pytest.fixture
def dump(tmp_path: Path) -> Path:
    return tmp_path / "dump"


def test_an_elf_dump_tells_its_notes_and_what_it_leaves_out(dump: Path) -> None:
    notes = note(b"CORE", b"abc") + note(b"VMCOREINFO", b"OSRELEASE=7.3\n")
    at = 64 + 4 * 56
    dump.write_bytes(
        elf(
            (PT_NOTE, at, 0, 0, len(notes), len(notes)),
            (PT_LOAD, at, 0xFFFF_8880_0000_1000, 0x1000, 16, 16),
            (PT_LOAD, at, 0xFFFF_8880_0010_0000, 0x10_0000, 16, 0x3000),
            (PT_LOAD, at, 0xFFFF_8880_0020_0000, NO_ADDRESS, 0, 0x1000),
            content=notes,
        )
    )
    found = recognized(dump)
    assert (found.form, found.machine, found.cut_short) == ("elf", "x86_64", False)
    assert found.notes == {b"CORE", b"VMCOREINFO"}
    assert found.holes.tolist() == [
        [0xFFFF_8880_0010_0010, 0x10_0010, 0x2FF0],
        [0xFFFF_8880_0020_0000, NO_ADDRESS, 0x1000],
    ]


def test_more_program_headers_than_a_halfword_counts(dump: Path) -> None:
    data = bytearray(elf((PT_LOAD, 0, 0x1000, 0x1000, 8, 16)))
    struct.pack_into("<H", data, 56, PN_XNUM)
    struct.pack_into("<Q", data, 40, len(data))
    data += bytes(44) + struct.pack("<I", 1) + bytes(16)
    dump.write_bytes(data)
    assert recognized(dump).holes.tolist() == [[0x1008, 0x1008, 8]]


@pytest.mark.parametrize("missing", [1, 4096])
def test_a_dump_that_ends_before_its_memory_is_cut_short(dump: Path, missing: int) -> None:
    whole = elf((PT_LOAD, 120, 0, 0, 8192, 8192), content=bytes(8192))
    dump.write_bytes(whole)
    assert not recognized(dump).cut_short
    dump.write_bytes(whole[:-missing])
    assert recognized(dump).cut_short


def test_a_kdump_file_that_ends_before_its_pages_is_cut_short(dump: Path) -> None:
    whole = kdump(pages=3, page_offset=20480) + bytes(4096 + 4096 - 3 * 24)
    dump.write_bytes(whole)
    assert len(whole) == 24576
    assert recognized(dump).form == "kdump"
    assert not recognized(dump).cut_short
    for size in (24575, 16384 + 60, 12780, 4096 + 60, 300):
        dump.write_bytes(whole[:size])
        assert recognized(dump).cut_short


@pytest.mark.parametrize("page", range(3))
def test_any_page_of_a_kdump_file_may_be_the_one_beyond_its_end(dump: Path, page: int) -> None:
    whole = bytearray(kdump(pages=3, page_offset=20480) + bytes(4096 + 4096 - 3 * 24))
    dump.write_bytes(whole)
    assert not recognized(dump).cut_short
    for offset in (20481, 1 << 63, (1 << 64) - 1):
        struct.pack_into("<Q", whole, 16384 + 24 * page, offset)
        dump.write_bytes(whole)
        assert recognized(dump).cut_short


@pytest.mark.parametrize("field", [5, 7, 9], ids=["VMCOREINFO", "notes", "erased"])
def test_what_the_sub_header_names_may_be_beyond_the_end(dump: Path, field: int) -> None:
    whole = bytearray(kdump())
    struct.pack_into("<QQ", whole, 4096 + 8 * (field - 1), len(whole) - 8, 9)
    dump.write_bytes(whole)
    assert recognized(dump).cut_short
    struct.pack_into("<QQ", whole, 4096 + 8 * (field - 1), len(whole) - 8, 8)
    dump.write_bytes(whole)
    assert not recognized(dump).cut_short


@pytest.mark.parametrize(("number", "name"), MACHINES.items())
def test_machines_of_elf_dumps(dump: Path, number: int, name: str) -> None:
    dump.write_bytes(elf(machine=number))
    assert recognized(dump).machine == name


def test_an_elf_dump_of_other_words_is_no_x86_64(dump: Path) -> None:
    smaller, big_endian = bytearray(elf()), bytearray(elf())
    smaller[4] = 1
    big_endian[5] = 2
    struct.pack_into(">HH", big_endian, 16, 4, 22)
    for data, machine in ((smaller, "x86_64 with"), (big_endian, "s390x with")):
        dump.write_bytes(data)
        assert (recognized(dump).machine or "").startswith(machine)


def test_machine_of_a_kdump_file(dump: Path) -> None:
    dump.write_bytes(kdump(b"aarch64"))
    assert recognized(dump).machine == "aarch64"


@pytest.mark.parametrize(
    ("content", "why", "remedy"),
    [
        (b"", "is empty", "left behind empty"),
        (b"not a dump\n", "is no dump", "give a vmcore"),
        (b"\x1f\x8b\x08rest", "is packed with gzip", "gzip -dk"),
        (b"\xfd7zXZ\0", "is packed with xz", "xz -dk"),
        (b"\x28\xb5\x2f\xfdrest", "is packed with zstd", "zstd -dk"),
        (b"\x7fELF\x02\x01\x01", "is cut short: its headers go to byte 64, the file ends", "whole"),
        (elf(kind=2), "is an ELF file, but no dump", "goes to -s"),
        (elf((PT_LOAD, 0, 0, 0, 0, 0))[:100], "go to byte 120, the file ends at 100", "whole"),
        (elf((PT_NOTE, 200, 0, 0, 50, 50)), "go to byte 250, the file ends at 120", "whole"),
        (elf()[:54] + b"\x07\0\x01\0" + bytes(6), "1 program headers of 7 bytes", "copy it again"),
    ],
)
def test_what_is_no_dump_says_so(dump: Path, content: bytes, why: str, remedy: str) -> None:
    dump.write_bytes(content)
    with pytest.raises(HvoinspectError) as caught:
        recognized(dump)
    assert why in caught.value.why
    assert str(dump) in caught.value.why
    assert remedy in caught.value.remedy
    assert caught.value.status == ExitStatus.CANNOT_INSPECT


def test_what_is_no_file_says_so(dump: Path) -> None:
    os.mkfifo(dump.with_name("pipe"))
    for path, why in ((dump, "no file"), (dump.parent, "no file"), (dump.with_name("pipe"), "no")):
        with pytest.raises(HvoinspectError, match=why) as caught:
            recognized(path)
        assert caught.value.status == ExitStatus.USAGE
