"""Damage to the tiny kernel: what is written where, small enough to be kept as a case."""

from __future__ import annotations

import functools
import json
import struct
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from random import Random
from typing import Self

from drgn import Program

from tests.fuzz.mutate import EDGES, number
from tests.tiny_kernel import (
    BTF,
    DIRECT,
    IMAGE,
    KALLSYMS,
    PAGES,
    SIZE,
    TABLES,
    VARIABLES,
    VMEMMAP,
    TinyKernel,
    kernel_btf,
)

SECTIONS = 256
"""Of one root of mem_section."""
TAIL = 1

ADDED = (
    *("SIZE(page)", "SIZE(mem_section)", "OFFSET(page.flags)", "OFFSET(page.compound_head)"),
    *("OFFSET(mem_section.section_mem_map)", "NUMBER(PG_head_mask)", "NUMBER(sme_mask)"),
    *("NUMBER(pgtable_l5_enabled)", "NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)", "CRASHTIME"),
)
"""Of VMCOREINFO what the tiny kernel's does not have."""


def kernel(*, shared_tails: bool) -> TinyKernel:
    """Make the undamaged one: an optimized hugetlb page of 2 MiB, and a compound page."""
    made = TinyKernel(btf=kernel_btf(shared_tails=shared_tails))
    made.compound(512, 9)
    made.page(512, flags=1 << 6, page_type=0xF4FFFFFF)
    made.put(PAGES + 64 * 512 + 8 + 32 + 8, 1 << 4)
    made.compound(1024, 3)
    return made


@dataclass
class Damage:
    """What is different.

    `writes`: physical address, or beyond memory the place in a core's headers, and content in
    hexadecimal. `vmcoreinfo`: what an entry becomes, None if it goes. `kept`: bytes of a core.
    """

    shared_tails: bool = False
    vmcoreinfo: dict[str, str | None] = field(default_factory=dict)
    writes: list[tuple[int, str]] = field(default_factory=list)
    kept: int | None = None

    def pack(self) -> bytes:
        return json.dumps(asdict(self), indent=1).encode()

    @classmethod
    def unpack(cls, case: bytes) -> Self:
        return cls(**json.loads(case or b"{}"))

    def put(self, place: int, *words: int, size: int = 8) -> None:
        content = b"".join((word % (1 << 8 * size)).to_bytes(size, "little") for word in words)
        self.writes.append((place, content.hex()))

    def program(self) -> Program:
        """Return the damaged kernel, as drgn sees it. Raises ValueError if it sees none."""
        made = self._kernel()
        prog = made.program()
        self._write(made.memory, 0)
        return prog

    def core(self) -> bytes:
        """Return the damaged kernel's dump."""
        core = bytearray(self._kernel().core())
        headers = len(core) - SIZE
        self._write(core, headers)
        for place, content in self.writes:
            if place >= SIZE:
                data = bytes.fromhex(content)
                core[place - SIZE : place - SIZE + len(data)] = data
        return bytes(core[: self.kept])

    def _kernel(self) -> TinyKernel:
        made = kernel(shared_tails=self.shared_tails)
        for key, text in self.vmcoreinfo.items():
            made.vmcoreinfo.pop(key, None)
            if text is not None:
                made.vmcoreinfo[key] = text
        return made

    def _write(self, memory: bytearray, start: int) -> None:
        for place, content in self.writes:
            data = bytes.fromhex(content)[: max(0, SIZE - place)]
            memory[start + place : start + place + len(data)] = data


@functools.cache
def example(*, shared_tails: bool) -> TinyKernel:
    """Return the undamaged kernel, to look up where things are in it."""
    made = kernel(shared_tails=shared_tails)
    made.write()
    return made


def damage_a_kernel(random: Random) -> Damage:
    """Damage a kernel in one to four ways."""
    damage = Damage(shared_tails=random.random() < 0.5)
    made = example(shared_tails=damage.shared_tails)
    for _ in range(random.randint(1, 4)):
        random.choice(WAYS)(random, damage, made)
    return damage


def _variable(random: Random, damage: Damage, made: TinyKernel) -> None:
    """Write a number over a variable, or somewhere within it."""
    places = [address - IMAGE for _, letter, address in made.symbols if letter in "dDR"]
    place = random.choice(places) + 4 * random.randrange(16)
    damage.put(place, _pointer(random, made), size=random.choice((4, 8)))


def _pointer(random: Random, made: TinyKernel) -> int:
    """Return an address that may be anything, such as that of another of the kernel's objects."""
    objects = (made.roots, made.sections, made.hstates, *made.nodes, TABLES, PAGES, KALLSYMS, BTF)
    base = random.choice((IMAGE, DIRECT, VMEMMAP, 0))
    return number(random) if random.random() < 0.5 else base + random.choice(objects)


def _roots(random: Random, damage: Damage, made: TinyKernel) -> None:
    """Let many roots of mem_section lead somewhere: to one place, or to overlapping ones."""
    step = random.choice((0, 1, 8, 16, 4096))
    count = random.choice((1, 2, 16, 2048))
    first = random.choice((made.sections, made.roots, 0))
    damage.put(made.roots, *(IMAGE + first + step * rank for rank in range(count)))


def _sections(random: Random, damage: Damage, made: TinyKernel) -> None:
    words = (VMEMMAP | 0xF, VMEMMAP | 0x3, number(random), 0, 0xF)
    for at in range(random.choice((1, 3, SECTIONS))):
        word = random.choice(words[: random.randint(1, len(words))])
        damage.put(made.sections + 16 * at, word)


def _tables(random: Random, damage: Damage, made: TinyKernel) -> None:
    """Write over page tables: one entry, or all of a table."""
    table = TABLES + 4096 * random.randrange(7)
    target = TABLES + 4096 * random.randrange(7)
    entry = random.choice(
        (target | 3, target | 0x83, PAGES | 0x83, PAGES | 3, 0x83, 0, number(random))
    )
    if random.random() < 0.5:
        damage.put(table, *[entry] * 512)
    else:
        damage.put(
            table + 8 * random.choice((*range(4), 256, 468, 511, random.randrange(512))), entry
        )


def _hstates(random: Random, damage: Damage, made: TinyKernel) -> None:
    damage.put(made.hstates + 80 * random.randrange(2), number(random, 4), size=4)


def _zones(random: Random, damage: Damage, made: TinyKernel) -> None:
    """Let zones' shared tail frames lead anywhere."""
    node = random.choice(made.nodes)
    pages = (VMEMMAP + 64 * random.randrange(1 << 15), VMEMMAP, _pointer(random, made))
    damage.put(node + 16, *(random.choice(pages) for _ in range(16)))


def _text(random: Random, damage: Damage, made: TinyKernel) -> None:
    """Change VMCOREINFO."""
    key = random.choice((*made.vmcoreinfo, *ADDED))
    value = number(random)
    texts = (
        *(str(value), f"-{value}", f"{value:x}", str(random.randrange(64)), "", "x" * 500, "\0"),
        *(f"{_pointer(random, made):x}", "9" * 30, str(1 << random.randrange(64))),
    )
    damage.vmcoreinfo[key] = None if random.random() < 0.1 else random.choice(texts)


def _symbols(random: Random, damage: Damage, made: TinyKernel) -> None:
    """Write over the tables of kallsyms."""
    starts = [
        int(text, 16) - IMAGE
        for key, text in made.vmcoreinfo.items()
        if key.startswith("SYMBOL(kall")
    ]
    size = random.choice((1, 2, 4, 8))
    place = random.choice(starts) + size * random.choice((0, 1, 2, random.randrange(512)))
    damage.put(place, number(random, size), size=size)


def _types(random: Random, damage: Damage, made: TinyKernel) -> None:
    """Write over words of BTF, those of its header at times."""
    words = struct.unpack_from("<I", made.btf, 12)[0] // 4
    place = random.choice((random.randrange(6), 6 + random.randrange(words)))
    old = struct.unpack_from("<I", made.btf, 4 * place)[0]
    new = random.choice((random.randrange(100), number(random, 4), old ^ 1 << random.randrange(32)))
    damage.put(BTF + 4 * place, new, size=4)


def _pages(random: Random, damage: Damage, made: TinyKernel) -> None:
    """Write over struct pages: flags, compound words, orders."""
    pfn = random.choice((0, 511, 512, 513, 514, 576, 1024, 1025, random.randrange(1 << 14)))
    mask = ~((1 << random.randrange(6, 40)) - 1) | TAIL
    words = (1 << 6, mask, VMEMMAP + 64 * random.randrange(1 << 15) + TAIL, number(random), 9, 18)
    for at in range(random.choice((1, 2, 8))):
        damage.put(PAGES + 64 * pfn + 8 * at, random.choice(words))


def _anywhere(random: Random, damage: Damage, made: TinyKernel) -> None:
    start, size = random.choice(((TABLES, 7 << 12), (VARIABLES, 0x6000), (KALLSYMS, 0x2000)))
    damage.put(start + 8 * random.randrange(size // 8), random.choice((*EDGES, number(random))))


Way = Callable[[Random, Damage, TinyKernel], None]
WAYS: tuple[Way, ...] = (
    *(_variable, _roots, _sections, _tables, _hstates, _zones, _text, _text, _symbols, _types),
    *(_pages, _anywhere),
)
