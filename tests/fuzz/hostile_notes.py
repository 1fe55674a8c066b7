"""ELF notes, as /sys/kernel/notes and /proc/kcore have them."""

from __future__ import annotations

import os
import struct
import tempfile
from pathlib import Path
from random import Random

from hvoinspect.target.kcore import read_vmcoreinfo
from hvoinspect.target.notes import build_id_of, elf_notes
from tests.fuzz.harness import Fuzzer
from tests.fuzz.mutate import damaged, number


def note(owner: bytes, kind: int, content: bytes) -> bytes:
    parts = (owner + b"\0", content)
    padded = [part + bytes(-len(part) % 4) for part in parts]
    return struct.pack("<III", len(parts[0]), len(content), kind) + b"".join(padded)


NOTES = (
    note(b"GNU", 3, bytes(range(20)))
    + note(b"CORE", 1, bytes(336))
    + note(b"VMCOREINFO", 0, b"OSRELEASE=6.12.0\n" * 20)
)


def core(notes: bytes, count: int = 3) -> bytes:
    """Make the beginning of a /proc/kcore, with `count` program headers, the notes' the last."""
    at = 64 + 56 * count
    start = struct.pack(
        "<16s2HI3QI6H", b"\x7fELF\2\1\1", 4, 62, 1, 0, 64, 0, 0, 64, 56, count, 0, 0, 0
    )
    load = struct.pack("<2I6Q", 1, 7, at, 0, 0, 4096, 4096, 0)
    return (
        start
        + load * (count - 1)
        + struct.pack("<2I6Q", 4, 0, at, 0, 0, len(notes), len(notes), 0)
        + notes
    )


def generate(random: Random) -> bytes:
    notes = NOTES if random.random() < 0.5 else damaged(random, NOTES)
    whole = bytearray(core(notes))
    for _ in range(random.randint(0, 3)):
        at = random.randrange(0, 64 + 3 * 56, 4)
        whole[at : at + 8] = number(random).to_bytes(8, "little")
    return damaged(random, bytes(whole), 3) if random.random() < 0.5 else bytes(whole)


def check(case: bytes) -> None:
    for notes in (case, case[64 + 3 * 56 :]):
        assert sum(len(content) for _, _, content in elf_notes(notes)) <= len(notes)
        found = build_id_of(notes)
        assert found is None or bytes.fromhex(found) in notes
    with tempfile.NamedTemporaryFile() as file:
        os.pwrite(file.fileno(), case, 0)
        try:
            read_vmcoreinfo(Path(file.name))
        except (OSError, ValueError):  # as it says
            return


def notes_everywhere(count: int) -> bytes:
    """Make `count` program headers that all name the same notes, which have no VMCOREINFO."""
    notes = note(b"", 0, b"") * 80_000
    each = struct.pack("<2I6Q", 4, 0, 64 + 56 * count, 0, 0, len(notes), len(notes), 0)
    return core(notes, count)[:64] + each * count + notes


FUZZER = Fuzzer(
    generate,
    check,
    cases=2000,
    known={
        "a million notes": lambda: core(note(b"", 0, b"") * 80_000),
        "4,000 program headers with the same 80,000 notes": lambda: notes_everywhere(4000),
    },
)
