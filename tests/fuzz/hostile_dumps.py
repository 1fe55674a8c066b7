"""Headers of dumps: ELF, kdump and the flattened form, before drgn opens them and by drgn."""

from __future__ import annotations

import contextlib
import struct
import tempfile
from pathlib import Path
from random import Random

from drgn import FaultError

from hvoinspect.errors import HvoinspectError
from hvoinspect.target.choice import Target
from hvoinspect.target.dumpfile import open_dump, recognize
from hvoinspect.target.flattened import MAGIC
from hvoinspect.target.open import open_program
from tests.fuzz.harness import Fuzzer, kept, promised
from tests.fuzz.mutate import damaged, number

Load = tuple[int, int, int, int, int, int]
"""Type, offset, virtual, physical, bytes in the file, bytes in memory."""


def elf(loads: list[Load], content: bytes, count: int | None = None) -> bytes:
    head = struct.pack(
        "<16s2HI3QI6H",
        b"\x7fELF\2\1\1",
        *(4, 62, 1, 0, 64, 0, 0, 64, 56, len(loads) if count is None else count, 0, 0, 0),
    )
    table = b"".join(struct.pack("<2I6Q", load[0], 7, *load[1:], 0) for load in loads)
    return head + table + content


def note(content: bytes) -> bytes:
    return struct.pack("<3I12s", 11, len(content), 0, b"VMCOREINFO") + content


VMCOREINFO = note(b"OSRELEASE=6.12.0\nPAGESIZE=4096\nSYMBOL(swapper_pg_dir)=ffffffff80100000\n" * 2)


def kdump(random: Random) -> bytes:
    """Make a kdump file of 4 KiB blocks with a few pages, each field damaged at times."""

    def field(usual: int, size: int = 4) -> int:
        return number(random, size) if random.random() < 0.08 else usual

    pages = random.choice((0, 1, 5, 64))
    head = b"KDUMP   " + struct.pack("<I", field(6)) + bytes(4 * 65) + b"x86_64".ljust(65, b"\0")
    head = head.ljust(424, b"\0") + struct.pack(
        "<11I",
        *(field(usual) for usual in (1, 4096, 1, 2, 64, 0, 0, 0, 0, 0, 1)),
    )
    sub = struct.pack(
        "<Q2iQ10Q",
        *(field(0, 8), field(31) & 0x7FFFFFFF, field(0) & 0x7FFFFFFF, field(0, 8)),
        *(field(usual, 8) for usual in (0, 4096 + 256, len(VMCOREINFO), 0, 0, 0, 0, 0, 0, 64)),
    )
    sub = sub.ljust(256, b"\0") + VMCOREINFO
    bitmap = ((1 << pages) - 1).to_bytes(4096, "little")
    first = 4096 * 4 + 24 * pages
    descriptors = b"".join(
        struct.pack("<QIIQ", field(first, 8), field(4096), field(random.choice((0, 1, 2, 4))), 0)
        for _ in range(pages)
    )
    return head.ljust(4096, b"\0") + sub.ljust(4096, b"\0") + bitmap * 2 + descriptors + bytes(4096)


def flattened(random: Random, content: bytes) -> bytes:
    head = (MAGIC + struct.pack(">qq", 1, 1)).ljust(4096, b"\0")
    at, parts = 0, []
    while at < len(content):
        size = random.choice((64, 512, 4096, 1 << 16))
        piece = content[at : at + size]
        told = number(random) % (1 << 63) if random.random() < 0.03 else len(piece)
        parts.append(struct.pack(">qq", at, told) + piece)
        at += size
    return head + b"".join(parts) + struct.pack(">qq", -1, -1)


def some_elf(random: Random) -> bytes:
    def place(usual: int) -> int:
        return number(random) if random.random() < 0.3 else usual

    count = random.choice((1, 2, 5, 100))
    at = 64 + 56 * count
    size = len(VMCOREINFO)
    loads: list[Load] = [(4, at, 0, 0, size, size)]
    for rank in range(count - 1):
        kind = random.choice((1, 1, 1, 4, number(random, 4)))
        virtual, physical = 0xFFFF888000000000 + (rank << 12), rank << 12
        loads.append((kind, place(at), place(virtual), place(physical), place(4096), place(8192)))
    number_told = number(random, 2) if random.random() < 0.1 else None
    return elf(loads, VMCOREINFO + bytes(4096), number_told)


def generate(random: Random) -> bytes:
    dump = some_elf(random) if random.random() < 0.5 else kdump(random)
    if random.random() < 0.25:
        dump = flattened(random, dump)
    return damaged(random, dump, 3) if random.random() < 0.5 else dump


def check(case: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(case)
        file.flush()
        try:
            path = Path(file.name)
            found = recognize(path, open_dump(path))
            assert found.holes.shape[1] == 3
            prog = open_program(Target(core=Path(file.name))).prog
        except HvoinspectError as error:
            promised(error)
            return
        for page in range(4):
            with contextlib.suppress(FaultError, ValueError, OSError):
                assert len(prog.read(page << 12, 4096, physical=True)) == 4096


def headers(kind: int, count: int, content: bytes) -> bytes:
    """Make an ELF dump of `count` program headers, all with the same `content`."""
    at = 64 + 56 * count
    return elf([(kind, at, 0, 0, len(content), len(content))] * count, content)


FUZZER = Fuzzer(
    generate,
    check,
    cases=1200,
    known={
        # These three ended the process, from within libkdumpfile.
        "a kdump file that its end cuts through a bitmap": lambda: kept("kdump-bitmap-cut"),
        "a kdump file that its end cuts through a page": lambda: kept("kdump-page-cut"),
        "a note of 2^62 bytes in a kdump file": lambda: kept("kdump-note-size"),
        "60,000 headers with the same 80,000 notes": lambda: headers(
            4, 60_000, struct.pack("<3I", 0, 0, 0) * 80_000
        ),
        "60,000 overlapping segments": lambda: headers(1, 60_000, bytes(4096)),
        "a million notes": lambda: headers(4, 1, struct.pack("<3I", 0, 0, 0) * 1_000_000),
        "a flattened dump of 65,536 blocks of one byte": lambda: (
            (MAGIC + struct.pack(">qq", 1, 1)).ljust(4096, b"\0")
            + struct.pack(">qqb", 1, 1, 0) * 65_536
        ),
    },
)
