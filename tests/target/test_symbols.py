"""Symbols and variables, and drgn's helpers on a kernel that has no debug package."""

from __future__ import annotations

import struct

import pytest
from drgn import FindObjectFlags, Object, Program, Symbol, SymbolIndex, Type, TypeKind, TypeKindSet
from drgn.helpers.linux.hugetlb import for_each_hstate, huge_page_size, hugetlb_total_pages
from drgn.helpers.linux.mm import (
    PageHead,
    PageTail,
    compound_head,
    compound_order,
    decode_page_flags,
    follow_phys,
    for_each_valid_page_range,
    page_to_pfn,
    pfn_to_page,
    phys_to_virt,
)
from drgn.helpers.linux.mmzone import NODE_DATA, for_each_online_pgdat, for_each_present_section

from hvoinspect.errors import HvoinspectError
from hvoinspect.target import symbols as symbols_module
from hvoinspect.target.btf import Btf, BtfError, read_btf
from hvoinspect.target.symbols import SymbolSource, register_all, register_symbols
from hvoinspect.target.variables import VARIABLES, require
from tests.tiny_kernel import BTF, DIRECT, IMAGE, PAGES, STEXT, VMEMMAP, TinyKernel


@pytest.fixture
def kernel() -> TinyKernel:
    return TinyKernel()


@pytest.fixture
def prog(kernel: TinyKernel) -> Program:
    kernel.compound(512, 9)
    prog = kernel.program()
    register_all(prog)
    return prog


class TestHelpersOfDrgn:
    def test_compound_pages(self, prog: Program) -> None:
        head, tail, single = (pfn_to_page(prog, pfn) for pfn in (512, 700, 1100))
        assert prog["vmemmap"].value_() == VMEMMAP
        assert page_to_pfn(tail).value_() == 700
        assert compound_head(tail) == head
        assert compound_head(single) == single
        assert [PageHead(page) for page in (head, tail, single)] == [True, False, False]
        assert [PageTail(page) for page in (head, tail, single)] == [False, True, False]
        assert compound_order(head) == 9
        assert compound_order(single) == 0
        assert decode_page_flags(head) == "PG_head"

    def test_translation(self, prog: Program) -> None:
        init_mm = prog["init_mm"].address_of_()
        assert follow_phys(init_mm, VMEMMAP + 64 * 512) == PAGES + 64 * 512
        assert phys_to_virt(prog, 0x1234).value_() == DIRECT + 0x1234

    def test_nodes_and_sections(self, prog: Program) -> None:
        assert NODE_DATA(prog, 1).node_id == 1
        assert [pgdat.node_id.value_() for pgdat in for_each_online_pgdat(prog)] == [0, 1]
        assert [number for number, _ in for_each_present_section(prog)] == [0]
        assert [(a, b) for a, b, _ in for_each_valid_page_range(prog)] == [(0, 1 << 15)]

    def test_hugetlb(self, kernel: TinyKernel) -> None:
        pools = kernel.hstate(18, b"1G", (1, 2, 0, 0, 0, 0, 0, 0))
        pools += kernel.hstate(9, b"2M", (0, 3, 0, 0, 0, 1, 0, 0))
        kernel.memory[kernel.hstates : kernel.hstates + len(pools)] = pools
        prog = kernel.program()
        register_all(prog)
        sizes = [(h.name.string_(), huge_page_size(h).value_()) for h in for_each_hstate(prog)]
        assert sizes == [(b"1G", 1 << 30), (b"2M", 2 << 20)]
        assert hugetlb_total_pages(prog) == 3 * (1 << 18) + 3 * 512

    def test_variables(self, prog: Program) -> None:
        assert prog["vmemmap_optimize_enabled"].value_() is True
        assert prog["linux_banner"].string_() == b"Linux version 6.12.0\n"
        assert len(prog["hstates"]) == 2
        assert len(prog["node_data"]) == 4
        assert prog.function("vmemmap_populate").address_ == STEXT + 0x100
        assert prog.constant("PG_head").value_() == 6
        assert prog.variable("nr_node_ids").value_() == 2
        for name in ("hugetlb_optimize_vmemmap_key", "per_cpu_thing", "jiffies", "nonsense"):
            with pytest.raises(KeyError):
                prog[name]
        with pytest.raises(LookupError):
            prog.object("init_mm", FindObjectFlags.ANY, "mm/init-mm.c")


class TestWhatIsMissing:
    def test_require(self, prog: Program) -> None:
        require(prog, "mem_section", "hstates", "struct page", "PG_head", "vmemmap_populate")
        with pytest.raises(HvoinspectError) as caught:
            require(prog, "hstates", "min_low_pfn", "struct absent", "union absent")
        assert "min_low_pfn, struct absent, union absent" in caught.value.why

    @pytest.mark.parametrize(
        "name", ["hstates", "hugetlb_max_hstate", "node_states", "nr_node_ids", "mem_section"]
    )
    def test_no_silent_wrong_answers(self, kernel: TinyKernel, name: str) -> None:
        kernel.symbols = [symbol for symbol in kernel.symbols if symbol[0] != name]
        del kernel.vmcoreinfo["SYMBOL(mem_section)"]
        prog = kernel.program()
        register_all(prog)
        with pytest.raises(HvoinspectError, match=f"must have a variable {name}"):
            prog[name]
        walks = (for_each_hstate, for_each_online_pgdat, for_each_valid_page_range)
        with pytest.raises(HvoinspectError, match=name):
            [list(walk(prog)) for walk in walks]

    def test_vmcoreinfo_helps_out(self, kernel: TinyKernel) -> None:
        kernel.symbols = [s for s in kernel.symbols if s[0] not in ("mem_section", "node_data")]
        prog = kernel.program()
        register_all(prog)
        assert prog["vmemmap"].value_() == VMEMMAP
        assert NODE_DATA(prog, 1).node_id == 1

    def test_a_kernel_without_the_feature(self, kernel: TinyKernel) -> None:
        kernel.btf = kernel.btf.replace(b"hstate\0", b"hstatx\0").replace(b"mem_sec", b"mem_sex")
        kernel.symbols = [s for s in kernel.symbols if s[0] not in ("hstates", "mem_section")]
        del kernel.vmcoreinfo["SYMBOL(mem_section)"]
        prog = kernel.program()
        register_all(prog)
        assert list(for_each_hstate(prog)) == []
        with pytest.raises(KeyError):
            prog["mem_section"]

    def test_a_name_that_two_symbols_have(self, kernel: TinyKernel) -> None:
        kernel.variable("hstates", bytes(80))
        prog = kernel.program()
        register_all(prog)
        with pytest.raises(HvoinspectError, match="2 symbols of the name hstates"):
            prog["hstates"]


class TestArrays:
    def test_an_array_too_large_for_drgn_to_size(self, kernel: TinyKernel) -> None:
        """Symbols end where the next begins, and drgn gives those of 64 KiB and more no size."""
        place = next(s for s in kernel.symbols if s[0] == "hstates")[2] - IMAGE
        moved = 0x2C0000
        kernel.memory[moved : moved + 160] = kernel.memory[place : place + 160]
        kernel.symbols = [s for s in kernel.symbols if s[0] != "hstates"]
        kernel.symbols.append(("hstates", "D", IMAGE + moved))
        prog = kernel.program()
        register_all(prog)
        assert prog.symbol("hstates").size == 0
        assert len(prog["hstates"]) == 2

    def test_an_absurd_count(self, kernel: TinyKernel) -> None:
        kernel.symbols = [
            s for s in kernel.symbols if s[0] not in ("hstates", "hugetlb_max_hstate")
        ]
        kernel.symbols.append(("hstates", "D", IMAGE + 0x2C0000))
        kernel.variable("hugetlb_max_hstate", struct.pack("<i", -1))
        prog = kernel.program()
        register_all(prog)
        with pytest.raises(HvoinspectError, match="-1 sizes"):
            prog["hstates"]

    def test_static_sections(self, kernel: TinyKernel) -> None:
        place = next(s for s in kernel.symbols if s[0] == "mem_section")[2]
        kernel.vmcoreinfo["SYMBOL(mem_section)"] = f"{place:x}"
        kernel.vmcoreinfo["LENGTH(mem_section)"] = "8"
        prog = kernel.program()
        register_all(prog)
        assert prog["mem_section"].type_.type_name() == "struct mem_section [8][1]"


class TestSymbols:
    def test_from_memory(self, kernel: TinyKernel) -> None:
        prog = kernel.program()
        assert register_symbols(prog) == SymbolSource.MEMORY
        assert prog.symbol("_stext").address == STEXT
        assert prog.enabled_symbol_finders() == ["elf", "kallsyms"]

    def as_root_on_a_running_kernel(
        self, monkeypatch: pytest.MonkeyPatch, kernel: TinyKernel, shift: int | None
    ) -> Program:
        """A kernel whose tables cannot be read; /proc shows addresses, `shift` too high or none."""
        symbols = symbols_module._load_from_memory(kernel.program())
        kernel.vmcoreinfo["SYMBOL(kallsyms_num_syms)"] = "0"
        prog = kernel.program()
        monkeypatch.setattr(symbols_module, "_LOCAL", prog.flags)
        monkeypatch.setattr("os.geteuid", lambda: 0)

        def load(prog: Program) -> SymbolIndex:
            return SymbolIndex(
                Symbol(s.name, 0 if shift is None else s.address + shift, s.size, s.binding, s.kind)
                for s in symbols(prog, None, None, False)
            )

        monkeypatch.setattr("drgn.helpers.linux.kallsyms.load_vmlinux_kallsyms", load)
        return prog

    def test_from_proc(self, monkeypatch: pytest.MonkeyPatch, kernel: TinyKernel) -> None:
        prog = self.as_root_on_a_running_kernel(monkeypatch, kernel, 0)
        assert register_symbols(prog) == SymbolSource.PROC
        assert prog.symbol("_stext").address == STEXT

    @pytest.mark.parametrize("shift", [None, 4096], ids=["hidden", "of another kernel"])
    def test_neither_tables_nor_addresses_in_proc(
        self, monkeypatch: pytest.MonkeyPatch, kernel: TinyKernel, shift: int | None
    ) -> None:
        prog = self.as_root_on_a_running_kernel(monkeypatch, kernel, shift)
        with pytest.raises(HvoinspectError) as caught:
            register_symbols(prog)
        assert "/proc/kallsyms" in caught.value.why
        assert "tables" in caught.value.why
        assert prog.enabled_symbol_finders() == ["elf"]

    def test_a_dump_of_an_old_kernel(self, kernel: TinyKernel) -> None:
        prog = kernel.program()
        old = Program(prog.platform)
        old.set_linux_kernel_custom(
            "OSRELEASE=5.19.0\nPAGESIZE=4096\nSYMBOL(swapper_pg_dir)=ffffffff80100000\n", False
        )
        with pytest.raises(
            HvoinspectError, match="VMCOREINFO does not tell where kallsyms_num_syms is"
        ):
            register_symbols(old)

    @pytest.mark.parametrize("count", [0, 0xFFFFFFFF])
    def test_an_absurd_number_of_symbols(self, kernel: TinyKernel, count: int) -> None:
        prog = kernel.program()
        place = int(kernel.vmcoreinfo["SYMBOL(kallsyms_num_syms)"], 16) - IMAGE
        kernel.memory[place : place + 4] = struct.pack("<I", count)
        with pytest.raises(HvoinspectError, match=f"{count} symbols"):
            register_symbols(prog)

    def test_symbols_of_another_kernel(self, kernel: TinyKernel) -> None:
        kernel.vmcoreinfo["SYMBOL(_stext)"] = f"{STEXT + 0x1000:x}"
        with pytest.raises(HvoinspectError):
            register_symbols(kernel.program())


class TestBtfOfADump:
    def test_it_is_read(self, kernel: TinyKernel) -> None:
        prog = kernel.program()
        register_symbols(prog)
        assert read_btf(prog) == kernel.btf

    def test_it_is_absent(self, kernel: TinyKernel) -> None:
        with pytest.raises(BtfError, match="CONFIG_DEBUG_INFO_BTF"):
            read_btf(kernel.program())

    @pytest.mark.parametrize("stop", [BTF - 1, BTF, BTF + (65 << 20)])
    def test_its_bounds_are_absurd(self, kernel: TinyKernel, stop: int) -> None:
        prog = kernel.program()
        kernel.symbols = [s for s in kernel.symbols if s[0] != "__stop_BTF"]
        kernel.symbols.append(("__stop_BTF", "R", IMAGE + stop))
        kernel.write_kallsyms()
        register_symbols(prog)
        with pytest.raises(BtfError, match="bytes"):
            read_btf(prog)

    def test_it_is_not_in_the_dump(self, kernel: TinyKernel) -> None:
        prog = kernel.program()
        kernel.symbols = [s for s in kernel.symbols if s[0] != "__stop_BTF"]
        kernel.symbols.append(("__stop_BTF", "R", IMAGE + (32 << 20)))
        kernel.write_kallsyms()
        register_symbols(prog)
        with pytest.raises(BtfError, match="cannot be read"):
            read_btf(prog)

    def test_it_is_damaged(self, kernel: TinyKernel) -> None:
        kernel.btf = kernel.btf[:-1]
        with pytest.raises(BtfError):
            register_all(kernel.program())


class TestOrder:
    def test_what_is_there_already_wins(self, kernel: TinyKernel) -> None:
        prog = kernel.program()

        def find_type(
            prog: Program, kinds: TypeKindSet, name: str, filename: str | None
        ) -> Type | None:
            if name == "page" and TypeKind.STRUCT in kinds:
                return prog.struct_type("page", 128, ())
            return None

        def find_object(
            prog: Program, name: str, flags: FindObjectFlags, filename: str | None
        ) -> Object | None:
            return Object(prog, "int", 77) if name == "hugetlb_max_hstate" else None

        prog.register_type_finder("debug information", find_type, enable_index=0)
        prog.register_object_finder("debug information", find_object, enable_index=0)
        btf = register_all(prog)
        assert prog.type("struct page").size == 128
        assert btf.size_of("struct page") == 64
        assert prog["hugetlb_max_hstate"].value_() == 77
        assert prog.enabled_object_finders()[-2:] == ["btf", "variables"]


def test_every_listed_type_can_be_written() -> None:
    for name, c_type in VARIABLES.items():
        assert name.isidentifier()
        assert not c_type.endswith("]")
    assert Btf.parse(TinyKernel().btf).size_of("struct page") == 64
