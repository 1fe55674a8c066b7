"""A kernel's memory and its VMCOREINFO: symbols, types, sections, zones and hugepage sizes.

A case is what was written where over the memory of the tiny kernel, as `damage.py` keeps it.
"""

from __future__ import annotations

from random import Random

from drgn import BadDataError

from hvoinspect.errors import HvoinspectError
from hvoinspect.target.drgn_memory import DrgnMemory
from hvoinspect.target.kallsyms import MAX_SYMBOLS
from hvoinspect.target.layout import DebugInfo
from hvoinspect.target.open import Opened, learn_opened
from tests.fuzz.damage import Damage, damage_a_kernel, example
from tests.fuzz.harness import Fuzzer, promised
from tests.tiny_kernel import DIRECT, IMAGE, KALLSYMS, PAGES, TABLES

DEBUG_INFO: tuple[DebugInfo, ...] = ("vmcoreinfo", "btf")


def generate(random: Random) -> bytes:
    return damage_a_kernel(random).pack()


def check(case: bytes) -> None:
    try:
        prog = Damage.unpack(case).program()
    except (ValueError, OverflowError, BadDataError):  # drgn takes it for no VMCOREINFO
        return
    try:
        kernel = learn_opened(Opened(prog, DrgnMemory(prog), "core", None, running=False), None)
        kernel.counters()
        kernel.descriptors()
        kernel.tail_frames()  # types are looked at late, so these too may find them damaged
    except HvoinspectError as error:
        promised(error)
        return
    assert kernel.sections.struct_pages > 0
    assert kernel.vmemmap < kernel.vmemmap_end


def symbols(count: int) -> bytes:
    """Make a kernel that would have `count` symbols, most of them in what is no table of names."""
    damage = Damage()
    damage.put(KALLSYMS, count, size=4)
    return damage.pack()


def long_tokens() -> bytes:
    """Make a kernel each byte of whose symbols' names stands for 64 KiB."""
    damage, made = Damage(), example(shared_tails=False)
    places = {
        name: int(made.vmcoreinfo[f"SYMBOL(kallsyms_{name})"], 16) - IMAGE
        for name in ("token_table", "token_index", "names")
    }
    damage.put(KALLSYMS, 8192, size=4)
    damage.vmcoreinfo["SYMBOL(kallsyms_token_table)"] = f"{IMAGE + PAGES:x}"
    damage.vmcoreinfo["SYMBOL(kallsyms_names)"] = f"{IMAGE + PAGES + (1 << 20):x}"
    damage.put(places["token_index"], *[0] * 64)
    damage.put(PAGES, *[0x6161616161616161] * 8191)
    damage.put(PAGES + (1 << 20), *([0x7F] + [0] * 15) * 8192)
    return damage.pack()


def one_table() -> bytes:
    """Make a kernel whose top page table is all the page tables there are."""
    damage = Damage()
    damage.put(TABLES, *[TABLES | 3] * 512)
    return damage.pack()


def roots(step: int) -> bytes:
    """Make a kernel whose table of sections has 2,048 parts, `step` bytes from one to the next."""
    damage, made = Damage(), example(shared_tails=False)
    damage.put(made.roots, *(DIRECT + made.sections + step * part for part in range(2048)))
    return damage.pack()


FUZZER = Fuzzer(
    generate,
    check,
    cases=400,
    known={
        "names of symbols that come to gigabytes": long_tokens,
        "4,000,000 symbols": lambda: symbols(4_000_000),
        "as many symbols as there may be": lambda: symbols(MAX_SYMBOLS),
        "a top page table that is all of them": one_table,
        "parts of the table of sections that overlap": lambda: roots(8),
        "parts of the table of sections that are one": lambda: roots(0),
    },
)
