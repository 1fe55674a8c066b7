"""What a crash dump's file is, before drgn opens it: its format, its machine, what it leaves out.

drgn takes memory that an ELF dump leaves out for zeros, because its format cannot tell pages of
zeros from others that were excluded. So the headers are read here too: ELF as in elf(5); kdump's,
`struct disk_dump_header`, as in makedumpfile's IMPLEMENTATION file.
"""

from __future__ import annotations

import contextlib
import os
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from hvoinspect.errors import ExitStatus, HvoinspectError
from hvoinspect.target.cutshort import is_cut_short
from hvoinspect.target.notes import elf_notes
from hvoinspect.target.openfile import OpenFile

Form = Literal["elf", "kdump"]

ELF_MAGIC = b"\x7fELF"
KDUMP_MAGICS = (b"KDUMP   ", b"DISKDUMP")
PACKED = {b"\x1f\x8b": "gzip", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2"}

ET_CORE, PT_LOAD, PT_NOTE, PN_XNUM = 4, 1, 4, 0xFFFF
MACHINES = {3: "i386", 21: "ppc64", 22: "s390x", 40: "arm", 62: "x86_64", 183: "aarch64"}
MACHINES |= {243: "riscv64", 258: "loongarch64"}

MAX_HEADERS = 1 << 22
"""Program headers of one ELF file: one a page of 16 GiB, and 224 MiB of headers."""
MAX_NOTES = 1 << 23
"""Bytes of notes: 8,192 processors, the most there can be, have 3 MiB."""
MAX_NOTE_COUNT = 1 << 16
"""Notes that are looked at: a processor has two or three."""
MAX_NOTE_HEADERS = 1 << 14
"""Program headers of notes: one a processor, and VMCOREINFO's, where nobody has merged them."""

PROGRAM_HEADER = np.dtype(
    [
        ("type", "<u4"),
        ("flags", "<u4"),
        ("offset", "<u8"),
        ("virtual", "<u8"),
        ("physical", "<u8"),
        ("file_size", "<u8"),
        ("size", "<u8"),
        ("align", "<u8"),
    ]
)
NO_ADDRESS = 0xFFFF_FFFF_FFFF_FFFF


def _none() -> NDArray[np.uint64]:
    return np.zeros((0, 3), np.uint64)


@dataclass(frozen=True)
class DumpFile:
    """What a dump's headers say.

    `machine` is its architecture, None if that cannot be told. `headers` PROGRAM_HEADER[n], of ELF
    dumps: the program headers, as the file has them. `holes` uint64[n, 3], of ELF dumps:
    virtual address, physical address and size of each range that the dump names but does not hold;
    an address is NO_ADDRESS if the range has none of that kind. `notes` are the owners of an ELF
    dump's notes, as "VMCOREINFO". `cut_short`: its headers name bytes beyond its end.
    """

    form: Form
    machine: str | None
    headers: NDArray[np.void] = field(default_factory=lambda: np.zeros(0, PROGRAM_HEADER))
    holes: NDArray[np.uint64] = field(default_factory=_none)
    notes: frozenset[bytes] = frozenset()
    cut_short: bool = False


def open_dump(path: Path) -> OpenFile:
    """Open what may be a dump. Raises HvoinspectError."""
    with _told(path):
        # Opening a pipe would wait for a writer. A dump may lie on a partition of its own.
        mode = path.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode) or stat.S_ISCHR(mode)):
            raise HvoinspectError(f"{path} is no file", "give the path of a dump", ExitStatus.USAGE)
        return OpenFile(path)


def recognize(path: Path, file: OpenFile) -> DumpFile:
    """Read the headers of a dump, which the user knows as `path`.

    Raises HvoinspectError if it is none, or is cut short in them.
    """
    with _told(path), file.path.open("rb") as stream:
        return _recognize(path, stream)


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise HvoinspectError(
            f"there is no file {path}", "give the path of a dump", ExitStatus.USAGE
        ) from error
    except OSError as error:
        raise HvoinspectError(
            f"{path} cannot be read: {error.strerror}",
            "give a vmcore, as an ELF or a kdump file, that this user may read",
        ) from error


def _recognize(path: Path, file: BinaryIO) -> DumpFile:
    start = file.read(512)
    if not start:
        raise HvoinspectError(
            f"{path} is empty", "give a vmcore; one that could not be saved is left behind empty"
        )
    if start.startswith(ELF_MAGIC):
        return _elf(path, file, start)
    if start.startswith(KDUMP_MAGICS):
        return DumpFile("kdump", _kdump_machine(start), cut_short=is_cut_short(file, start))
    for magic, program in PACKED.items():
        if start.startswith(magic):
            raise HvoinspectError(
                f"{path} is packed with {program}", f"unpack it first: {program} -dk {path}"
            )
    raise HvoinspectError(
        f"{path} is no dump: it begins like neither an ELF nor a kdump file",
        "give a vmcore, as an ELF or a kdump file",
    )


def _elf(path: Path, file: BinaryIO, start: bytes) -> DumpFile:
    """Read an ELF dump's headers; of another architecture's only which one it is."""
    if len(start) < 64:
        raise _cut_short(path, 64, len(start))
    order = ">" if start[5] == 2 else "<"
    kind, machine = struct.unpack_from(f"{order}HH", start, 16)
    if kind != ET_CORE:
        raise HvoinspectError(
            f"{path} is an ELF file, but no dump",
            "give a vmcore with -c; a vmlinux goes to -s",
        )
    name = MACHINES.get(machine, f"ELF machine {machine}")
    if start[4] != 2 or order == ">":
        return DumpFile("elf", f"{name} with words of another size or order")
    headers = _program_headers(path, file, start)
    loads = headers[headers["type"] == PT_LOAD]
    end = int((loads["offset"] + loads["file_size"]).max(initial=0))
    cut_short = end > file.seek(0, os.SEEK_END)
    return DumpFile("elf", name, headers, _holes(loads), _notes(path, file, headers), cut_short)


def _program_headers(path: Path, file: BinaryIO, start: bytes) -> NDArray[np.void]:
    table, sections = struct.unpack_from("<QQ", start, 32)
    each, count = struct.unpack_from("<HH", start, 54)
    if count == PN_XNUM:
        # The real number is in the first section header's sh_info (elf(5)).
        count = int.from_bytes(_read(path, file, sections + 44, 4), "little")
    if each != PROGRAM_HEADER.itemsize or count > MAX_HEADERS:
        raise HvoinspectError(
            f"{path} would have {count} program headers of {each} bytes",
            "the file is damaged: copy it again from where it was saved",
        )
    return np.frombuffer(_read(path, file, table, count * each), PROGRAM_HEADER)


def _holes(loads: NDArray[np.void]) -> NDArray[np.uint64]:
    """Return the ranges beyond p_filesz: how makedumpfile -E leaves out what it excludes."""
    short = loads[loads["file_size"] < loads["size"]]
    start = short["file_size"]
    holes = [
        np.where(short[kind] == NO_ADDRESS, np.uint64(NO_ADDRESS), short[kind] + start)
        for kind in ("virtual", "physical")
    ]
    return np.stack([*holes, short["size"] - start], axis=1).astype(np.uint64)


def _notes(path: Path, file: BinaryIO, headers: NDArray[np.void]) -> frozenset[bytes]:
    owners: set[bytes] = set()
    left, count = MAX_NOTES, MAX_NOTE_COUNT
    for header in headers[headers["type"] == PT_NOTE][:MAX_NOTE_HEADERS]:
        size = min(int(header["file_size"]), left)
        data = _read(path, file, int(header["offset"]), size)
        found = [owner for owner, _, _ in islice(elf_notes(data), count)]
        owners.update(found)
        left, count = left - size, count - len(found)
    return frozenset(owners)


def _kdump_machine(header: bytes) -> str | None:
    """Return `utsname.machine` of a struct disk_dump_header, the fifth of six texts of 65 bytes."""
    text = header[12 + 4 * 65 : 12 + 5 * 65].split(b"\0")[0]
    return text.decode("ascii", "replace") or None


def _read(path: Path, file: BinaryIO, offset: int, size: int) -> bytes:
    """Return part of a file. Raises HvoinspectError if it ends before."""
    end = file.seek(0, os.SEEK_END)
    if offset + size > end:
        raise _cut_short(path, offset + size, end)
    file.seek(offset)
    return file.read(size)


def _cut_short(path: Path, wanted: int, end: int) -> HvoinspectError:
    return HvoinspectError(
        f"{path} is cut short: its headers go to byte {wanted}, the file ends at {end}",
        "copy it again, whole, from where it was saved",
    )
