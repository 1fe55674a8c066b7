"""Whole dumps and captures, from opening to the result: a scan, and a page explained."""

from __future__ import annotations

import json
import lzma
import tempfile
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Literal

from hvoinspect.api.page import explain_in
from hvoinspect.api.scan import scan_target
from hvoinspect.errors import ExitStatus, HvoinspectError
from hvoinspect.report.result import exit_status, to_json
from hvoinspect.target.address import parse_address
from hvoinspect.target.choice import Target
from hvoinspect.target.open import open_target
from tests.fuzz.damage import Damage, damage_a_kernel, example
from tests.fuzz.harness import Fuzzer, promised
from tests.fuzz.mutate import number
from tests.tiny_kernel import PAGES, SIZE, TABLES, VMEMMAP

ADDRESSES = ("pfn:0", "pfn:512", "pfn:513", "pfn:576", "phys:0x400000", "ffffea0000008040")
MANY = 0xFFFF_C900_0000_0000
"""Where nothing is in the kernel's address space."""
Level = Literal["pud", "pmd"]


def generate(random: Random) -> bytes:
    damage = damage_a_kernel(random)
    if random.random() < 0.2:
        damage.put(SIZE + 4 * random.randrange(64), number(random))
    if random.random() < 0.1:
        damage.kept = random.randrange(SIZE)
    return damage.pack()


def check(case: bytes) -> None:
    core = Damage.unpack(case).core()
    with tempfile.NamedTemporaryFile() as file:
        # Not each one as a capture, which takes longer to make than to look at.
        file.write(core if len(case) % 8 else lzma.compress(core, preset=0))
        file.flush()
        inspect(Target(Path(file.name)))


def refused(error: HvoinspectError) -> None:
    promised(error)
    assert error.status in (ExitStatus.CANNOT_INSPECT, ExitStatus.USAGE)


def inspect(target: Target) -> None:
    try:
        kernel = open_target(target)
        for page in ADDRESSES:
            try:
                explain_in(kernel, parse_address(page))
            except HvoinspectError as error:
                promised(error)
        result = scan_target(target)
    except HvoinspectError as error:
        refused(error)
        return
    status = exit_status(result, strict=False)
    assert status in (ExitStatus.OK, ExitStatus.FINDINGS, ExitStatus.PARTIAL)
    pages = result["pages"]
    classes = (pages["head"], pages["fake_head"], pages["tail"], pages["single"])
    assert sum(count or 0 for count in (*classes, pages["unreadable"])) == pages["total"]
    assert json.loads(to_json(result))["pages"] == pages


def many_sections(*, at: Level = "pud", entries: Sequence[int] = ()) -> bytes:
    """Make a kernel of 524,288 present sections, 64 TiB of memory, out of 4 KiB of them.

    Page tables map these 2,048 times. The vmemmap's table of level `at` has `entries`.
    """
    damage, made = Damage(), example(shared_tails=False)
    sections, table = 0x700000, 0x780000
    damage.put(sections, *[VMEMMAP | 0xF, 0] * 256)
    damage.put(TABLES + 8 * (MANY >> 39 & 511), table | 3)
    for below in (table, table + 4096):
        damage.put(below, *[below + 4096 | 3] * 512)
    damage.put(table + 8192, *[sections | 3] * 512)
    damage.put(made.roots, *(MANY + 4096 * root for root in range(2048)))
    pud = made.entry(TABLES, VMEMMAP >> 39)
    damage.put(pud if at == "pud" else made.entry(pud, VMEMMAP >> 30), *entries)
    return damage.pack()


def one_pmd_table() -> int:
    made = example(shared_tails=False)
    return made.entry(made.entry(TABLES, VMEMMAP >> 39), VMEMMAP >> 30) | 3


FUZZER = Fuzzer(
    generate,
    check,
    cases=50,
    known={
        "sections that nothing maps": many_sections,
        "sections that one table maps": lambda: many_sections(entries=[one_pmd_table()] * 512),
        "sections whose tables are missing": lambda: many_sections(
            entries=[(1 << 40) + (at << 12) | 3 for at in range(512)]
        ),
        "sections in 1 GiB mappings": lambda: many_sections(
            entries=[at << 30 | 0x83 for at in range(512)]
        ),
        "sections in one 1 GiB mapping": lambda: many_sections(entries=[0x83] * 512),
        "sections in 512 mappings of one 2 MiB": lambda: many_sections(
            at="pmd", entries=[PAGES | 0x83] * 512
        ),
        "sections in 512 mappings of one page table": lambda: many_sections(
            at="pmd", entries=[PAGES | 3] * 512
        ),
    },
    seconds=5,
    mebibytes=300,
)
