"""Page tables behind the vmemmap that point at themselves, at each other, and out of memory.

A case is a byte that tells the levels and how much memory there would be, and then physical memory
from 0: page tables, the first of them the root. What is beyond cannot be read.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from random import Random

import numpy as np

from hvoinspect.errors import HvoinspectError
from hvoinspect.target.layout import Paging
from hvoinspect.target.memory import ByRanges, UnreadableMemoryError
from hvoinspect.vmemmap.pagetable import BLOCK, map_pages, walk_directory
from tests.fuzz.harness import Fuzzer, promised
from tests.fuzz.mutate import damaged, number

VMEMMAP = {4: 0xFFFF_EA00_0000_0000, 5: 0xFFD4_0000_0000_0000}
SIZES = {4: (1 << 21, 1 << 30, 1 << 36, 1 << 40), 5: (1 << 21, 1 << 36, 1 << 40, 1 << 46)}
"""Bytes of the vmemmap: 2^40 and 2^46 are those of all the memory that 4 or 5 levels can map."""
PRESENT, LEAF = 3, 0x83
CHUNK = 32
"""Blocks of 64 MiB of vmemmap, which a scan looks at together."""


class Tables(ByRanges):
    """Physical memory."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def read(self, address: int, size: int) -> bytes:
        if not 0 <= address <= len(self.content) - size:
            raise UnreadableMemoryError(address, size)
        return self.content[address : address + size]


def generate(random: Random) -> bytes:
    count = random.choice((1, 2, 3, 4, 5, 8, 16))
    tables = b"".join(table(random, count) for _ in range(count))
    if random.random() < 0.3:
        tables = damaged(random, tables)
    return bytes([random.randrange(8)]) + tables


def table(random: Random, count: int) -> bytes:
    """Make a page table; there are `count`."""

    def any_table() -> int:
        return random.randrange(count) << 12

    one = any_table()
    kinds: tuple[Callable[[int], int], ...] = (
        lambda _: any_table() | PRESENT,
        lambda _: one | PRESENT,
        lambda at: (at << 30) | LEAF,
        lambda at: (at << 21) | LEAF,
        lambda _: LEAF,
        lambda at: (1 << 40) + (at << 12) | PRESENT,
        lambda _: 0,
        lambda _: number(random),
    )
    fill = random.choice(kinds)
    entries = [fill(at) for at in range(512)]
    for _ in range(random.choice((0, 0, 3, 40))):
        entries[random.randrange(512)] = random.choice(kinds)(random.randrange(512))
    return struct.pack("<512Q", *(entry % (1 << 64) for entry in entries))


def check(case: bytes) -> None:
    kind = case[0] if case else 0
    levels = 5 if kind & 1 else 4
    start = VMEMMAP[levels]
    end = start + SIZES[levels][kind >> 1 & 3]
    memory, paging = Tables(case[1:]), Paging(0, 5 if levels == 5 else 4)
    try:
        directory = walk_directory(memory, paging, start, end)
    except HvoinspectError as error:
        promised(error)
        return
    address = directory.address
    assert (np.diff(address) >= BLOCK).all(), "a block is there twice"
    assert address.min(initial=end) >= start
    assert address.max(initial=start) < end
    for first in {0, max(0, len(directory) - CHUNK)}:
        if len(directory):
            part = directory.between(int(address[first]), int(address[first]) + CHUNK * BLOCK)
            pages = map_pages(memory, paging, part)
            assert not (pages.present & pages.unreadable).any()


def all_at(kind: int, *entries: int) -> bytes:
    """Make a table for each of `entries`, which has nothing but that one."""
    return bytes([kind]) + b"".join(struct.pack("<Q", entry) * 512 for entry in entries)


FUZZER = Fuzzer(
    generate,
    check,
    cases=250,
    known={
        "a table of four levels that is all of them": lambda: all_at(6, PRESENT),
        "a table of five levels that is all of them": lambda: all_at(7, PRESENT),
        "1 GiB leaves everywhere, four levels": lambda: all_at(6, 0x1000 | PRESENT, LEAF),
        "1 GiB leaves everywhere, five levels": lambda: all_at(
            7, 0x1000 | PRESENT, 0x2000 | PRESENT, LEAF
        ),
        "2 MiB leaves everywhere": lambda: all_at(
            7, 0x1000 | PRESENT, 0x2000 | PRESENT, 0x3000 | PRESENT, LEAF
        ),
        "no table can be read": lambda: bytes([7]),
        "no table but the root can be read": lambda: all_at(7, 0x1000 | PRESENT),
        "no table of the third level can be read": lambda: all_at(
            7, 0x1000 | PRESENT, 0x2000 | PRESENT
        ),
    },
)
