"""The kernel's symbol table, decoded: as drgn decodes it, in every form that kernels have."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest
from drgn import Program, Symbol
from drgn.helpers.linux.kallsyms import load_vmlinux_kallsyms
from hypothesis import given, settings
from hypothesis import strategies as st

from hvoinspect.target.choice import Target
from hvoinspect.target.kallsyms import MAX_SAME, MAX_SYMBOLS, Kallsyms, read_kallsyms
from hvoinspect.target.open import open_program
from tests.tiny_kernel import IMAGE, KALLSYMS, STEXT, TinyKernel

Facts = tuple[str, int, int, str, str]


def facts(symbols: Sequence[Symbol]) -> list[Facts]:
    return sorted((s.name, s.address, s.size, s.binding.name, s.kind.name) for s in symbols)


def place_of(kernel: TinyKernel, table: str) -> int:
    return int(kernel.vmcoreinfo[f"SYMBOL(kallsyms_{table})"], 16) - IMAGE


def addresses_of(prog: Program) -> list[int]:
    return [int(address) for address in read_kallsyms(prog).addresses]


@pytest.mark.parametrize("demo", ["before", "after"])
def test_all_symbols_of_a_real_kernel_are_those_that_drgn_finds(demo: str) -> None:
    prog = open_program(Target(demo=demo)).prog
    expected, own = load_vmlinux_kallsyms(prog), read_kallsyms(prog)
    everything = expected(prog, None, None, False)
    assert len(everything) > 100_000
    assert facts(own.find(prog, None, None, False)) == facts(everything)
    for symbol in everything[::997]:
        same = expected(prog, symbol.name, None, False)
        assert facts(own.find(prog, symbol.name, None, False)) == facts(same)
        within = own.find(prog, None, symbol.address + symbol.size // 2, False)
        there = expected(prog, None, symbol.address + symbol.size // 2, False)
        assert bool(within) == bool(there)
        assert set(facts(within)) <= set(facts(there))


@settings(max_examples=30)
@given(
    names=st.lists(st.text("abc_.", min_size=1, max_size=300), max_size=8),
    letters=st.lists(st.sampled_from("abBcdDgGrRtTuvVwW"), min_size=8, max_size=8),
)
def test_names_of_any_length_and_letter(names: list[str], letters: list[str]) -> None:
    kernel = TinyKernel()
    for rank, (name, letter) in enumerate(zip(names, letters, strict=False)):
        kernel.symbols.append((name, letter, STEXT + 0x1000 + 8 * rank))
    prog = kernel.program()
    expected = load_vmlinux_kallsyms(prog)(prog, None, None, False)
    own = read_kallsyms(prog)
    assert facts(own.find(prog, None, None, False)) == facts(expected)
    for name in names:
        found = own.find(prog, name, None, False)
        assert {symbol.name for symbol in found} == {name}
        assert len(found) == names.count(name)
        assert len(own.find(prog, name, None, True)) == 1
    assert own.find(prog, "none of them", None, False) == []


def test_addresses_are_kept_in_four_ways() -> None:
    kernel = TinyKernel()
    prog = kernel.program()
    offsets, base = place_of(kernel, "offsets"), IMAGE + 0x100
    expected = addresses_of(prog)  # from the base: up to 6.15 and 7.0
    assert STEXT in expected
    count = len(expected)

    struct.pack_into("<Q", kernel.memory, place_of(kernel, "relative_base"), base)
    percpu = [0, 0x1F000]
    kept = [*percpu, *(base - 1 - address for address in expected[2:])]
    struct.pack_into(f"<{count}i", kernel.memory, offsets, *kept)
    with pytest.raises(ValueError, match="none of the ways"):
        read_kallsyms(prog)  # the first symbol is _stext, which is at no such place
    kept = [base - 1 - address for address in expected[:-2]] + percpu
    struct.pack_into(f"<{count}i", kernel.memory, offsets, *kept)
    assert addresses_of(prog) == [*expected[:-2], *percpu]

    own = [address - (IMAGE + offsets + 4 * rank) for rank, address in enumerate(expected)]
    struct.pack_into(f"<{count}i", kernel.memory, offsets, *own)
    assert addresses_of(prog) == expected

    absolute = TinyKernel()
    table = absolute.object(8 * 64)
    absolute.vmcoreinfo["SYMBOL(kallsyms_addresses)"] = f"{IMAGE + table:x}"
    prog = absolute.program()
    struct.pack_into(f"<{count}Q", absolute.memory, table, *range(100, 100 + count))
    assert addresses_of(prog) == list(range(100, 100 + count))


def test_an_address_is_in_the_symbol_that_begins_before_it_and_ends_behind_it() -> None:
    kernel = TinyKernel()
    kernel.symbols += [("first", "t", STEXT + 0x40), ("also", "t", STEXT + 0x40)]
    kernel.symbols += [("far", "t", IMAGE + (1 << 23))]
    prog = kernel.program()
    find = read_kallsyms(prog).find

    def at(address: int) -> list[str]:
        return [symbol.name for symbol in find(prog, None, address, False)]

    assert at(STEXT) == at(STEXT + 0x3F) == ["_stext"]
    assert at(STEXT + 0x40) == at(STEXT + 0xFF) == ["also"]
    assert at(STEXT - 1) == at(0) == at(IMAGE + (1 << 23) - 1) == at((1 << 64) - 1) == []


class TestDamage:
    def test_a_number_of_symbols_that_no_kernel_has(self) -> None:
        kernel = TinyKernel()
        prog = kernel.program()
        for count in (0, MAX_SYMBOLS + 1, 0xFFFFFFFF):
            struct.pack_into("<I", kernel.memory, KALLSYMS, count)
            with pytest.raises(ValueError, match=f"would have {count} symbols"):
                read_kallsyms(prog)

    def test_names_that_come_to_too_much(self) -> None:
        kernel = TinyKernel()
        prog = kernel.program()
        table = place_of(kernel, "token_table")
        kernel.memory[table : table + 511] = b"a" * 510 + b"\0"
        for token in range(256):
            struct.pack_into("<H", kernel.memory, place_of(kernel, "token_index") + 2 * token, 0)
        names = place_of(kernel, "names")
        count = 3000
        kernel.memory[names : names + 128 * count] = (b"\x7f" + bytes(127)) * count
        struct.pack_into("<I", kernel.memory, KALLSYMS, count)
        with pytest.raises(ValueError, match=r"would have [0-9]+ characters"):
            read_kallsyms(prog)

    def test_a_part_of_names_without_an_end(self) -> None:
        kernel = TinyKernel()
        prog = kernel.program()
        table = place_of(kernel, "token_table")
        kernel.memory[table : table + 4096] = b"a" * 4096
        with pytest.raises(ValueError, match="too long"):
            read_kallsyms(prog)

    def test_a_name_that_half_the_kernel_has(self) -> None:
        kernel = TinyKernel()
        kernel.symbols += [("same", "t", STEXT + 0x1000)] * (MAX_SAME + 1)
        prog = kernel.program()
        symbols: Kallsyms = read_kallsyms(prog)
        assert len(symbols.find(prog, "same", None, True)) == 1
        with pytest.raises(ValueError, match="are named same"):
            symbols.find(prog, "same", None, False)

    def test_names_that_are_all_alike(self, monkeypatch: pytest.MonkeyPatch) -> None:
        kernel = TinyKernel()
        kernel.symbols += [(f"a{number:03}x", "t", STEXT + 0x1000) for number in range(100)]
        symbols = read_kallsyms(kernel.program())
        assert len(symbols.named("a007x")) == 1
        monkeypatch.setattr("hvoinspect.target.kallsyms.MAX_ALIKE", 100 * 6 - 1)
        with pytest.raises(ValueError, match="100 symbols are as long as a007x"):
            symbols.named("a007x")

    def test_a_symbol_without_a_name(self) -> None:
        kernel = TinyKernel()
        prog = kernel.program()
        kernel.memory[place_of(kernel, "names")] = 0
        with pytest.raises(ValueError, match="has no name"):
            read_kallsyms(prog)
