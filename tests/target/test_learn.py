"""What is learned of a kernel, and which kernels and damages are refused with a reason."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Literal

import pytest
from drgn import Architecture, Platform, Program

from hvoinspect.errors import HvoinspectError
from hvoinspect.target.drgn_memory import DrgnMemory
from hvoinspect.target.facts import Facts
from hvoinspect.target.layout import Bits, Counters, Hstate, Hvo, Kernel, PageField, Paging
from hvoinspect.target.learn import _paging, learn
from hvoinspect.target.memory import UnreadableMemoryError
from hvoinspect.target.symbols import register_all
from hvoinspect.vmemmap.scan import scan
from tests.tiny_kernel import IMAGE, SIZE, TABLES, VMEMMAP, ZONE, TinyKernel, kernel_btf

LOST = IMAGE + 2 * SIZE
"""An address in the kernel's image that cannot be read."""


def learned(kernel: TinyKernel) -> Kernel:
    prog = kernel.program()
    register_all(prog)
    return learn(prog, "core", "made-up", ("vmcoreinfo", "btf"))


def refusal(kernel: TinyKernel) -> str:
    """The error of a kernel that cannot be inspected, which also says what to do."""
    with pytest.raises(HvoinspectError) as caught:
        learned(kernel)
    assert caught.value.remedy
    return caught.value.why


def without_symbol(kernel: TinyKernel, name: str) -> TinyKernel:
    kernel.symbols = [symbol for symbol in kernel.symbols if symbol[0] != name]
    return kernel


class TestLearned:
    def test_a_kernel(self) -> None:
        kernel = learned(TinyKernel())
        assert kernel.identity.release == "6.12.0"
        assert kernel.identity.build_id is None
        assert (kernel.identity.arch, kernel.identity.page_size) == ("x86_64", 4096)
        assert kernel.vmemmap == VMEMMAP
        assert kernel.vmemmap_end == VMEMMAP + (2 << 20)
        assert kernel.paging == Paging(TABLES, 4, 0)
        assert kernel.hstates == (Hstate(9), Hstate(18))
        assert kernel.hvo == Hvo(supported=True, enabled=True, has_shared_tails=False)
        assert kernel.tail_frames() == {}
        assert not kernel.live

    def test_its_struct_page(self) -> None:
        page = learned(TinyKernel()).page
        assert (page.size, page.compound, page.flags, page.private) == (64, 8, 0, 40)
        assert page.order == PageField(1, 0, 1)
        assert (page.hugetlb_free, page.hugetlb_optimized) == (1 << 3, 1 << 4)
        assert page.node == Bits(62, 3), "four nodes, at the very top of the flags"
        assert page.zone == Bits(61, 1), "two zones, right below"

    def test_where_facts_came_from(self) -> None:
        kernel = TinyKernel()
        kernel.vmcoreinfo["SIZE(page)"] = "64"
        origins = learned(kernel).origins
        assert origins["sizeof(page)"] == origins["SECTION_SIZE_BITS"] == "vmcoreinfo"
        assert origins["page.flags"] == "btf"

    def test_sections_and_which_are_online(self) -> None:
        kernel = TinyKernel()
        present, online = 1, 4
        for number, flags in ((0, present), (1, present | online), (2, online), (255, present)):
            kernel.put(kernel.sections + 16 * number, VMEMMAP | flags)
            kernel.map_section(number)
        second = kernel.object(4096)
        kernel.put(second + 16 * 3, VMEMMAP | present | online)
        kernel.put(kernel.roots + 8, IMAGE + second)
        kernel.map_section(256 + 3)
        sections = learned(kernel).sections
        assert sections.pages == 1 << 15
        assert sections.numbers.tolist() == [0, 1, 255, 256 + 3]
        assert sections.online.tolist() == [False, True, False, True]
        assert sections.struct_pages == 4 << 15

    def test_a_section_without_struct_pages_is_none(self) -> None:
        kernel = TinyKernel()
        for number in (0, 1, 2, 3):
            kernel.put(kernel.sections + 16 * number, VMEMMAP | 5)
        kernel.map_section(3)
        assert learned(kernel).sections.numbers.tolist() == [0, 1, 3]

    @pytest.mark.parametrize(("pages", "numbers"), [(2 << 15, [0, 1]), (1 << 15, [0])])
    def test_sections_whose_table_is_lost_are_those_whose_struct_pages_are_mapped(
        self, pages: int, numbers: list[int]
    ) -> None:
        """As in a dump that was cut short: the table is at the end of memory."""
        kernel = TinyKernel()
        kernel.put(kernel.mem_section, LOST)
        kernel.put(kernel.max_pfn, pages)
        found = learned(kernel)
        assert found.vmemmap == VMEMMAP
        assert found.sections.numbers.tolist() == numbers
        assert found.sections.online.all()
        assert found.origins["mem_section"] == "page tables"

    def test_sections_that_may_be_there_are_not_holes(self) -> None:
        """A page table that is lost too tells nothing, so all that it could map may be there."""
        kernel = TinyKernel()
        kernel.put(kernel.mem_section, LOST)
        kernel.put(kernel.max_pfn, 600 << 15)
        upper = kernel.entry(TABLES, VMEMMAP >> 39)
        kernel.put(upper + 8 * ((VMEMMAP >> 30) + 1 & 511), 2 * SIZE | 3)
        assert learned(kernel).sections.numbers.tolist() == [0, 1, *range(512, 600)]

    @pytest.mark.parametrize("entry", [0xDEAD_0000_0000, (1 << 64) - 1])
    def test_a_table_that_leads_nowhere_is_lost(self, entry: int) -> None:
        kernel = TinyKernel()
        kernel.put(kernel.roots + 8, entry)
        assert learned(kernel).sections.numbers.tolist() == [0, 1]

    def test_without_page_tables_either_it_is_refused(self) -> None:
        kernel = TinyKernel()
        kernel.put(kernel.mem_section, LOST)
        kernel.put(TABLES + 8 * (VMEMMAP >> 39 & 511), 2 * SIZE | 3)
        assert "own tables cannot be read" in refusal(kernel)

    @pytest.mark.parametrize("value", [b"\0", b"\1"])
    def test_whether_hvo_is_on(self, value: bytes) -> None:
        kernel = without_symbol(TinyKernel(), "vmemmap_optimize_enabled")
        kernel.variable("vmemmap_optimize_enabled", value)
        assert learned(kernel).hvo.enabled is (value == b"\1")

    def test_a_kernel_without_hvo(self) -> None:
        kernel = without_symbol(TinyKernel(), "vmemmap_optimize_enabled")
        assert learned(kernel).hvo == Hvo(supported=False, enabled=None, has_shared_tails=False)

    def test_memory_encryption(self) -> None:
        kernel = TinyKernel()
        kernel.vmcoreinfo["NUMBER(sme_mask)"] = str(1 << 47)
        assert learned(kernel).paging.encryption_mask == 1 << 47

    @pytest.mark.parametrize(("enabled", "levels"), [("0", 4), ("1", 5)])
    def test_levels_of_page_tables(self, enabled: str, levels: Literal[4, 5]) -> None:
        """The tiny kernel runs on four, so it is only asked here."""
        prog = TinyKernel().program()
        info = {"NUMBER(pgtable_l5_enabled)": enabled, "NUMBER(phys_base)": "0"}
        assert _paging(prog, Facts(prog, info, "btf")) == Paging(TABLES, levels)

    @pytest.mark.parametrize("base", [0x200_0000, -TABLES])
    def test_an_image_that_was_moved(self, base: int) -> None:
        prog = TinyKernel().program()
        info = {"NUMBER(pgtable_l5_enabled)": "0", "NUMBER(phys_base)": str(base)}
        assert _paging(prog, Facts(prog, info, "btf")).root_physical == TABLES + base

    def test_no_hugetlb_built_in(self) -> None:
        kernel = TinyKernel()
        kernel.btf = kernel.btf.replace(b"hstate\0", b"hstatx\0")
        without_symbol(without_symbol(kernel, "hstates"), "hugetlb_max_hstate")
        assert learned(kernel).hstates == ()


class TestHstates:
    @pytest.mark.parametrize(
        ("orders", "kept"),
        [
            ((9, 9), [9]),
            ((0, 9), [9]),
            ((0xFFFFFFFF, 9), [9]),
            ((21, 9), [9]),
            ((20, 1), [1, 20]),
            ((0, 0xFFFF), []),
        ],
        ids=["twice", "none", "huge", "beyond a chunk", "bounds", "only bad ones"],
    )
    def test_each_order_counts_once_and_only_if_it_can_be(
        self, orders: tuple[int, ...], kept: list[int]
    ) -> None:
        kernel = TinyKernel(orders=orders)
        kernel.compound(512, 9)
        found = learned(kernel)
        assert [hstate.order for hstate in found.hstates] == kept
        assert scan(found).total == 1 << 15, "and a scan can be made with them"

    def test_only_those_in_use_count(self) -> None:
        kernel = without_symbol(TinyKernel(), "hugetlb_max_hstate")
        kernel.variable("hugetlb_max_hstate", struct.pack("<i", 1))
        assert learned(kernel).hstates == (Hstate(18),)

    @pytest.mark.parametrize("count", [-1, 1 << 30])
    def test_an_absurd_count_is_bounded_by_the_array(self, count: int) -> None:
        kernel = without_symbol(TinyKernel(), "hugetlb_max_hstate")
        kernel.variable("hugetlb_max_hstate", struct.pack("<i", count))
        assert len(learned(kernel).hstates) == (2 if count > 0 else 0)


class TestCounters:
    def test_they_are_read_anew_each_time(self) -> None:
        kernel = TinyKernel()
        found = learned(kernel)
        assert found.counters() == Counters((Hstate(9, {}, {}), Hstate(18, {}, {})))
        hugepages = (0, 7, 5, 0, 0, 0, 4, 0)
        size = len(kernel.hstate(9, b""))
        place = kernel.hstates + size  # the second one
        kernel.memory[place : place + size] = kernel.hstate(9, b"2M", hugepages)
        assert found.counters().hstates == (Hstate(9, {1: 7, 2: 5}, {2: 4}), Hstate(18, {}, {}))

    def test_of_the_static_keys_only_one_counts_hugepages(self) -> None:
        """hugetlb_free_vmemmap_enabled_key (up to 5.18) is on or off."""
        kernel = TinyKernel()
        kernel.variable("hugetlb_free_vmemmap_enabled_key", struct.pack("<Q8x", 1))
        assert learned(kernel).counters().optimized_key is None

    def test_what_cannot_be_read_is_not_known(self) -> None:
        kernel = TinyKernel()
        found = learned(kernel)
        kernel.put(kernel.entry(kernel.entry(TABLES, 511), 510) + 8, 0)  # the variables' block
        assert found.counters() == Counters((Hstate(9), Hstate(18)))


class TestSharedTails:
    @pytest.fixture
    def kernel(self) -> TinyKernel:
        return TinyKernel(btf=kernel_btf(shared_tails=True))

    @staticmethod
    def put(kernel: TinyKernel, node: int, zone: int, entry: int, address: int) -> None:
        """Write `zone.vmemmap_tails[entry]`."""
        kernel.put(kernel.nodes[node] + 8 + zone * ZONE + 8 + entry * 8, address)

    def test_they_are_found_by_node_zone_and_order(self, kernel: TinyKernel) -> None:
        self.put(kernel, 0, 1, 2, VMEMMAP + 64 * 1000)
        self.put(kernel, 1, 0, 11, VMEMMAP + 64 * 2000)
        found = learned(kernel)
        assert found.hvo.has_shared_tails
        assert found.tail_frames() == {(0, 1, 9): 1000, (1, 0, 18): 2000}

    def test_they_are_read_anew_each_time(self, kernel: TinyKernel) -> None:
        found = learned(kernel)
        assert found.tail_frames() == {}
        self.put(kernel, 0, 1, 2, VMEMMAP + 64 * 1000)
        assert found.tail_frames() == {(0, 1, 9): 1000}

    def test_built_in_though_its_switch_is_not_seen(self, kernel: TinyKernel) -> None:
        without_symbol(kernel, "vmemmap_optimize_enabled")
        assert learned(kernel).hvo == Hvo(supported=True, enabled=None, has_shared_tails=True)

    @pytest.mark.parametrize(
        "address",
        [1, VMEMMAP - 64, VMEMMAP + 65, VMEMMAP + (2 << 20), (1 << 64) - 64],
        ids=["low", "before", "between", "beyond", "high"],
    )
    def test_what_is_no_struct_page_is_left_out(self, kernel: TinyKernel, address: int) -> None:
        self.put(kernel, 0, 0, 2, address)
        found = learned(kernel)
        assert found.tail_frames() == {}
        scan(found)

    def test_nodes_that_cannot_be_read_are_left_out(self, kernel: TinyKernel) -> None:
        self.put(kernel, 0, 1, 2, VMEMMAP + 64 * 1000)
        node_data = int(kernel.vmcoreinfo["SYMBOL(node_data)"], 16) - IMAGE
        kernel.put(node_data + 8, IMAGE + (1 << 30))
        assert learned(kernel).tail_frames() == {(0, 1, 9): 1000}


def no_present_section(kernel: TinyKernel) -> None:
    kernel.put(kernel.sections, VMEMMAP | 2)


def no_roots(kernel: TinyKernel) -> None:
    kernel.put(kernel.roots, 0)


def two_memory_maps(kernel: TinyKernel) -> None:
    kernel.put(kernel.sections + 16, VMEMMAP + (1 << 30) | 0xF)


def root_twice(kernel: TinyKernel) -> None:
    kernel.put(kernel.roots + 8, IMAGE + kernel.sections)


def map_at_the_end(kernel: TinyKernel) -> None:
    kernel.put(kernel.sections, 0xFFFF_FFFF_FFFF_F00F)


def map_of_a_process(kernel: TinyKernel) -> None:
    kernel.put(kernel.sections, 0x7FFF_0000_0000_000F)


class TestMemSection:
    @pytest.mark.parametrize(
        ("damage", "why"),
        [
            (no_present_section, "no present memory section"),
            (no_roots, "no present memory section"),
            (two_memory_maps, "2 different memory maps"),
            (root_twice, "two parts of its table of memory sections overlap"),
            (map_at_the_end, "not in the kernel's half of the address space"),
            (map_of_a_process, "not in the kernel's half of the address space"),
        ],
    )
    def test_damage(self, damage: Callable[[TinyKernel], None], why: str) -> None:
        kernel = TinyKernel()
        damage(kernel)
        assert why in refusal(kernel)

    @pytest.mark.parametrize(
        ("section", "physical"),
        [
            ("12", "46"),
            ("26", "46"),
            ("33", "46"),
            ("27", "26"),
            ("27", "53"),
            ("27", "64"),
        ],
    )
    def test_absurd_sizes(self, section: str, physical: str) -> None:
        kernel = TinyKernel()
        kernel.vmcoreinfo["NUMBER(SECTION_SIZE_BITS)"] = section
        kernel.vmcoreinfo["NUMBER(MAX_PHYSMEM_BITS)"] = physical
        assert f"memory of {physical} bits would have sections of {section}" in refusal(kernel)

    @pytest.mark.parametrize("entry", ["SIZE(mem_section)", "OFFSET(mem_section.section_mem_map)"])
    def test_absurd_layout(self, entry: str) -> None:
        kernel = TinyKernel()
        kernel.vmcoreinfo[entry] = "99999"
        assert "layout of struct mem_section" in refusal(kernel)


class TestMissing:
    @pytest.mark.parametrize("name", ["mem_section", "hstates", "hugetlb_max_hstate"])
    def test_symbols_that_must_be_there(self, name: str) -> None:
        kernel = without_symbol(TinyKernel(), name)
        del kernel.vmcoreinfo["SYMBOL(mem_section)"]
        assert f"must have a variable {name}" in refusal(kernel)

    def test_no_sparse_memory(self) -> None:
        kernel = without_symbol(TinyKernel(), "mem_section")
        kernel.btf = kernel.btf.replace(b"mem_section\0", b"mem_sextion\0")
        kernel.vmcoreinfo |= {"SIZE(mem_section)": "16", "OFFSET(mem_section.section_mem_map)": "0"}
        del kernel.vmcoreinfo["SYMBOL(mem_section)"]
        assert "incomplete: could not find 'mem_section'" in refusal(kernel)

    def test_a_member_of_hstate(self) -> None:
        kernel = TinyKernel()
        kernel.btf = kernel.btf.replace(b"\0order\0", b"\0ordex\0")
        assert "'struct hstate' has no member 'order'" in refusal(kernel)

    def test_the_mark_of_hugetlb_pages(self) -> None:
        """Without it no hugetlb page would be found, and the result would say there are none."""
        kernel = TinyKernel()
        kernel.btf = kernel.btf.replace(b"PGTY_hugetlb", b"PGTY_hugetlx")
        assert "how hugetlb pages are marked" in refusal(kernel)


class TestPaging:
    def test_another_architecture(self) -> None:
        prog = Program(Platform(Architecture.AARCH64))
        with pytest.raises(HvoinspectError) as caught:
            learn(prog, "core", None, ("vmcoreinfo", "btf"))
        assert caught.value.why.startswith("the kernel's architecture is aarch64")
        assert "x86_64 machine" in caught.value.remedy

    def test_no_platform(self) -> None:
        with pytest.raises(HvoinspectError, match="architecture is unknown"):
            learn(Program(), "core", None, ("vmcoreinfo", "btf"))

    @pytest.mark.parametrize(
        "address", ["0", f"{IMAGE + TABLES + 8:x}", "ffff888000000000"], ids=["0", "odd", "direct"]
    )
    def test_page_tables_that_cannot_be_there(self, address: str) -> None:
        kernel = TinyKernel()
        kernel.vmcoreinfo["SYMBOL(init_top_pgt)"] = address
        assert "page tables would be at physical address" in refusal(kernel)

    @pytest.mark.parametrize("mask", [-1, 3 << 47, 1 << 11, 1 << 52], ids=hex)
    def test_an_encryption_mask_that_is_no_address_bit(self, mask: int) -> None:
        kernel = TinyKernel()
        kernel.vmcoreinfo["NUMBER(sme_mask)"] = str(mask)
        assert "memory encryption mask" in refusal(kernel)


class TestMemory:
    def test_it_reads_by_physical_address(self) -> None:
        kernel = TinyKernel()
        kernel.put(kernel.sections, 0x1234)
        memory = DrgnMemory(kernel.program())
        assert memory.read(kernel.sections, 8) == struct.pack("<Q", 0x1234)

    @pytest.mark.parametrize("address", [SIZE, SIZE - 4, 1 << 62, (1 << 64) - 4, 1 << 64, -8])
    def test_what_is_not_there_is_never_zeros(self, address: int) -> None:
        with pytest.raises(UnreadableMemoryError):
            DrgnMemory(TinyKernel().program()).read(address, 8)
