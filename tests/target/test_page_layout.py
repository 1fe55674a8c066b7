"""The layout of struct page at each fork in the kernel's history, by what a kernel has.

Each kernel here is a few types and lines of VMCOREINFO, as the sources of that release make them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from drgn import Architecture, Platform, Program

from hvoinspect.errors import HvoinspectError
from hvoinspect.target.btf import Btf
from hvoinspect.target.btf_types import register_types
from hvoinspect.target.facts import Facts
from hvoinspect.target.layout import Bits, HugetlbMark, PageField, StructPage
from hvoinspect.target.page_layout import learn_page_layout
from tests.btf_encoder import Encoder

Members = Sequence[tuple[str, int]]
"""Name and offset in bytes."""

PAGE: Members = [("flags", 0), ("compound_head", 8), ("private", 40), ("page_type", 48)]
RENAMED: Members = [("flags", 0), ("compound_info", 8), ("private", 40), ("page_type", 48)]
FOLIO: Members = [("page", 0), ("_flags_1", 64)]


def layout(
    page: Members = PAGE,
    folio: Members = FOLIO,
    info: Mapping[str, str] | None = None,
    constants: Mapping[str, int] | None = None,
    *,
    size: int = 64,
    nodes: int = 1024,
    zones: int = 5,
) -> StructPage:
    e = Encoder()
    long = e.integer("long unsigned int", 8)
    uint = e.integer("unsigned int", 4)
    e.aggregate("page", size, [(name, long, 8 * offset) for name, offset in page])
    e.aggregate("folio", 2 * size, [(name, long, 8 * offset) for name, offset in folio])
    e.aggregate("hstate", 4 * nodes, [("nr_huge_pages_node", e.array(uint, nodes), 0)])
    zone = e.aggregate("zone", 8, [("start", long, 0)])
    e.aggregate("pglist_data", 8 * zones, [("node_zones", e.array(zone, zones), 0)])
    e.enum("constants", {"PG_head": 6} | dict(constants or {}))
    prog = Program(Platform(Architecture.X86_64))
    register_types(prog, Btf.parse(e.blob()))
    return learn_page_layout(Facts(prog, info or {}, "btf"))


class TestCompoundWord:
    def test_up_to_7_0_it_is_compound_head(self) -> None:
        assert layout().compound_field == "compound_head"
        assert layout().compound == 8

    def test_from_7_1_it_is_compound_info(self) -> None:
        """d50569612c29."""
        assert layout(RENAMED).compound_field == "compound_info"
        assert layout(RENAMED).compound == 8

    def test_vmcoreinfo_alone_tells_it_too(self) -> None:
        page = [member for member in PAGE if member[0] != "compound_head"]
        assert (
            layout(page, info={"OFFSET(page.compound_info)": "8"}).compound_field == "compound_info"
        )

    def test_neither_is_an_error_that_names_both(self) -> None:
        page = [member for member in PAGE if member[0] != "compound_head"]
        with pytest.raises(
            HvoinspectError, match=r"page\.compound_info or page\.compound_head"
        ) as e:
            layout(page)
        assert "--symbols" in e.value.remedy


class TestOrder:
    def test_up_to_6_2_in_the_second_struct_page(self) -> None:
        assert layout([*PAGE, ("compound_order", 17)]).order == PageField(1, 17, 1)

    def test_6_3_to_6_5_in_the_folio(self) -> None:
        """It counts from the head, and the second struct page begins 64 bytes later."""
        assert layout(folio=[*FOLIO, ("_folio_order", 65)]).order == PageField(1, 1, 1)

    def test_from_6_6_in_the_low_byte_of_the_second_flags(self) -> None:
        """ebc1baf5c9b4."""
        assert layout().order == PageField(1, 0, 1)
        moved = [("flags", 16), *PAGE[1:]]
        assert layout(moved).order == PageField(1, 16, 1)


def told(mark: HugetlbMark | None, value: int) -> bool:
    """Whether a page with `value` where the mark is counts as hugetlb."""
    assert mark is not None
    return (value >> mark.bits.shift) & mark.bits.mask == mark.value


class TestHugetlbMark:
    def test_up_to_6_5_the_destructor(self) -> None:
        """HUGETLB_PAGE_DTOR is the third of `enum compound_dtor_id`."""
        mark = layout(
            [*PAGE, ("compound_dtor", 16)], info={"NUMBER(HUGETLB_PAGE_DTOR)": "2"}
        ).hugetlb
        assert mark == HugetlbMark(PageField(1, 16, 1), Bits(0, 0xFF), 2)
        assert told(mark, 2)
        assert not told(mark, 1), "a compound page of another kind"
        assert not told(mark, 3), "a huge page of THP"

    def test_6_6_to_6_8_a_flag_of_the_second_struct_page(self) -> None:
        """9c5ccf2db04b."""
        mark = layout(info={"NUMBER(PG_hugetlb)": "8"}).hugetlb
        assert mark == HugetlbMark(PageField(1, 0, 8), Bits(8, 1), 1)
        assert told(mark, 1 << 8 | 9)
        assert not told(mark, 1 << 7 | 9)

    def test_6_9_to_6_11_a_clear_bit_of_the_type(self) -> None:
        """d99e3140a4d3: VMCOREINFO has ~PG_hugetlb, a signed number."""
        mark = layout(info={"NUMBER(PAGE_HUGETLB_MAPCOUNT_VALUE)": str(~0x100)}).hugetlb
        assert mark is not None
        assert mark.where == PageField(0, 48, 4)
        assert told(mark, 0xFFFF_FFFF & ~0x100)
        assert told(mark, 0xFFFF_F000 & ~0x100), "the low bits may count"
        assert not told(mark, 0xFFFF_FFFF), "no type"
        assert not told(mark, 0xFFFF_FFFF & ~0x80), "another type"
        assert not told(mark, 5), "a count of mappings, with that bit clear by chance"

    def test_free_blocks_are_marked_by_a_type_all_along(self) -> None:
        """VMCOREINFO has ~PG_buddy up to 6.11, PGTY_buddy << 24 from 6.12 on."""
        early = layout(info={"NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)": str(~0x80)}).buddy
        assert told(early, 0xFFFF_FFFF & ~0x80)
        assert not told(early, 0xFFFF_FFFF & ~0x100)
        late = layout(info={"NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)": str(0xF0 << 24)}).buddy
        assert late == HugetlbMark(PageField(0, 48, 4), Bits(24, 0xFF), 0xF0)
        assert layout(info={"NUMBER(PG_hugetlb)": "8"}).buddy is None

    def test_from_6_12_a_number_in_the_highest_byte_of_the_type(self) -> None:
        mark = layout(constants={"PGTY_hugetlb": 0xF4}).hugetlb
        assert mark == HugetlbMark(PageField(0, 48, 4), Bits(24, 0xFF), 0xF4)
        assert told(mark, 0xF4FF_FFFF)
        assert told(mark, 0xF400_0003)
        assert not told(mark, 0xF5FF_FFFF)
        assert not told(mark, 0xFFFF_FFFF)

    @pytest.mark.parametrize("number", [0xF4 << 24, (0xF4 << 24) - (1 << 32)])
    def test_vmcoreinfo_alone_tells_that_number_too(self, number: int) -> None:
        """Under the name that meant ~PG_hugetlb before; as an int it is negative."""
        mark = layout(info={"NUMBER(PAGE_HUGETLB_MAPCOUNT_VALUE)": str(number)}).hugetlb
        assert mark == HugetlbMark(PageField(0, 48, 4), Bits(24, 0xFF), 0xF4)

    def test_the_type_shares_its_place_with_the_count_of_mappings(self) -> None:
        """Some releases name only the latter in VMCOREINFO."""
        page = [member for member in PAGE if member[0] != "page_type"]
        info = {"OFFSET(page._mapcount)": "48"}
        mark = layout(page, info=info, constants={"PGTY_hugetlb": 0xF4}).hugetlb
        assert mark is not None
        assert mark.where == PageField(0, 48, 4)

    def test_none(self) -> None:
        assert layout().hugetlb is None

    @pytest.mark.parametrize("flag", ["64", "-1"])
    def test_a_flag_that_no_word_has_is_none(self, flag: str) -> None:
        assert layout(info={"NUMBER(PG_hugetlb)": flag}).hugetlb is None


class TestBits:
    def test_head_bit_by_its_number_or_its_mask(self) -> None:
        """6.1 has it at 16, 6.12 and later at 6; VMCOREINFO has the mask."""
        assert layout().head_bit == 1 << 6
        assert layout(info={"NUMBER(PG_head_mask)": str(1 << 16)}).head_bit == 1 << 16

    @pytest.mark.parametrize("mask", ["0", "-64", "96", str(1 << 64)])
    def test_a_head_bit_that_is_none(self, mask: str) -> None:
        with pytest.raises(HvoinspectError, match="PG_head would be"):
            layout(info={"NUMBER(PG_head_mask)": mask})

    @pytest.mark.parametrize("name", ["PG_head", "HPG_freed", "HPG_vmemmap_optimized"])
    @pytest.mark.parametrize("bit", [64, -1, 0x7FFF_FFFF])
    def test_a_bit_that_no_word_has(self, name: str, bit: int) -> None:
        with pytest.raises(HvoinspectError, match=f"{name} would be bit {bit}"):
            layout(constants={name: bit})

    def test_flags_of_hugetlb_pages(self) -> None:
        page = layout(constants={"HPG_freed": 3, "HPG_vmemmap_optimized": 4})
        assert (page.hugetlb_free, page.hugetlb_optimized) == (8, 16)
        assert (layout().hugetlb_free, layout().hugetlb_optimized) == (None, None)

    @pytest.mark.parametrize(
        ("nodes", "zones", "node", "zone"),
        [
            (1024, 5, Bits(54, 1023), Bits(51, 7)),
            (64, 4, Bits(58, 63), Bits(56, 3)),
            (1, 3, Bits(0, 0), Bits(62, 3)),
            (1, 1, Bits(0, 0), Bits(0, 0)),
        ],
    )
    def test_node_and_zone_are_at_the_top_of_the_flags(
        self, nodes: int, zones: int, node: Bits, zone: Bits
    ) -> None:
        """include/linux/page-flags-layout.h."""
        page = layout(nodes=nodes, zones=zones)
        assert (page.node, page.zone) == (node, zone)

    def test_the_number_of_zones_by_its_constant(self) -> None:
        assert layout(constants={"__MAX_NR_ZONES": 4}).zone == Bits(52, 3)


class TestDamage:
    @pytest.mark.parametrize("size", ["0", "24", "60", "8192"])
    def test_a_size_that_no_struct_page_has(self, size: str) -> None:
        with pytest.raises(HvoinspectError, match=f"usable size of struct page .found {size}"):
            layout(info={"SIZE(page)": size})

    @pytest.mark.parametrize("name", ["flags", "private"])
    def test_a_member_that_is_missing(self, name: str) -> None:
        with pytest.raises(HvoinspectError, match=r"where page\.flags and page\.private are"):
            layout([member for member in PAGE if member[0] != name])

    @pytest.mark.parametrize("offset", ["4", "64", "999999999"])
    @pytest.mark.parametrize("name", ["flags", "compound_head", "private"])
    def test_a_word_that_is_in_no_word_of_it(self, name: str, offset: str) -> None:
        with pytest.raises(HvoinspectError, match=f"{name} would be at byte {offset} of 64"):
            layout(info={f"OFFSET(page.{name})": offset})

    @pytest.mark.parametrize("offset", ["46", "64"])
    def test_a_mark_that_is_in_no_word_of_it(self, offset: str) -> None:
        with pytest.raises(HvoinspectError, match=f"hugetlb mark would be at byte {offset} of 64"):
            layout(info={"OFFSET(page.page_type)": offset}, constants={"PGTY_hugetlb": 0xF4})

    def test_other_sizes_are_fine(self) -> None:
        """Kernels with memory tagging or KMSAN have 56, 72 or 80 bytes."""
        for size in (56, 72, 80, 96, 128):
            assert layout(size=size).size == size

    def test_no_types_at_all(self) -> None:
        facts = Facts(Program(Platform(Architecture.X86_64)), {}, "btf")
        with pytest.raises(HvoinspectError) as caught:
            learn_page_layout(facts)
        assert caught.value.why.startswith("neither VMCOREINFO and BTF of this kernel tell")
