"""What a user may call a page, and to which page it leads."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvoinspect.errors import ExitStatus, HvoinspectError
from hvoinspect.target.address import Address, parse_address, place_of
from tests.madeup import DIRECT_MAP, SECTION_PAGES, Machine

KERNEL = Machine((1, 4)).kernel()
FIRST = SECTION_PAGES


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("ffffea0004009340", Address("virtual", 0xFFFF_EA00_0400_9340)),
        ("0xFFFFEA0004009340", Address("virtual", 0xFFFF_EA00_0400_9340)),
        (" 0x10 ", Address("virtual", 16)),
        ("10", Address("virtual", 16)),
        ("pfn:10", Address("pfn", 10)),
        ("PFN:0x10", Address("pfn", 16)),
        ("phys:4096", Address("phys", 4096)),
        ("phys:0xffFF", Address("phys", 0xFFFF)),
        ("pfn:18446744073709551615", Address("pfn", (1 << 64) - 1)),
    ],
)
def test_the_forms_of_an_address(text: str, address: Address) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0x",
        "page",
        "-1",
        "+1",
        "1 2",
        "1_0",
        "٣",
        "pfn:",
        "pfn:-1",
        "pfn:ff",
        "pfn: 1",
        "phys:0xg",
        "page:10",
        "pfn:pfn:1",
        ":1",
        "0x10000000000000000",
        "pfn:18446744073709551616",
        "\x1b[31m",
    ],
)
def test_what_is_no_address_is_a_usage_error(text: str) -> None:
    with pytest.raises(HvoinspectError) as caught:
        parse_address(text)
    assert caught.value.status == ExitStatus.USAGE
    assert "pfn:N" in caught.value.remedy
    assert "\x1b" not in caught.value.why


@given(st.text())
def test_no_text_is_worse_than_a_usage_error(text: str) -> None:
    value = 0
    with contextlib.suppress(HvoinspectError):
        value = parse_address(text).value
    assert 0 <= value < 1 << 64


@given(pfn=st.integers(FIRST, FIRST + SECTION_PAGES - 1), byte=st.integers(0, 4095))
def test_every_form_leads_to_the_same_page(pfn: int, byte: int) -> None:
    struct_page = KERNEL.vmemmap + 64 * pfn
    for address in (
        Address("pfn", pfn),
        Address("phys", (pfn << 12) + byte),
        Address("virtual", DIRECT_MAP + (pfn << 12) + byte),
        Address("virtual", struct_page + byte % 64),
    ):
        assert place_of(KERNEL, address).pfn == pfn
    assert place_of(KERNEL, Address("virtual", struct_page)).how is None


def test_an_address_inside_of_a_struct_page_says_so() -> None:
    place = place_of(KERNEL, Address("virtual", KERNEL.vmemmap + 64 * FIRST + 0x34))
    assert place.how == "0xffffea0000200034 is byte 52 of the struct page of pfn 0x8000."
    place = place_of(KERNEL, Address("virtual", DIRECT_MAP + (FIRST << 12) + 8))
    assert place.how == (
        "0xffff888008000008 is in the direct map: physical address 0x8000008, byte 8 of the page "
        "of pfn 0x8000."
    )


@pytest.mark.parametrize(
    ("text", "why", "remedy"),
    [
        ("1234", "0x1234 is neither in the vmemmap", "pfn:N"),
        ("ffffea0000a00000", "0xffffea0000a00000 is neither in the vmemmap", "pfn:N"),
        ("ffff888028000000", "nor in the direct map (0xffff888000000000 to", "pfn:N"),
        ("pfn:0x28000", "pfn 0x28000 is beyond the memory", "ends before pfn 0x28000"),
        ("phys:0xffffffffffffffff", "is beyond the memory", "ends before pfn 0x28000"),
        ("pfn:0", "pfn 0x0 is in a hole", "below does not exist, the next begins at pfn 0x8000"),
        ("ffffea0000400000", "pfn 0x10000 is in a hole", "ends before pfn 0x10000, the next"),
    ],
)
def test_what_leads_to_no_page_says_why(text: str, why: str, remedy: str) -> None:
    with pytest.raises(HvoinspectError) as caught:
        place_of(KERNEL, parse_address(text))
    assert caught.value.status == ExitStatus.CANNOT_INSPECT
    assert why in caught.value.why
    assert remedy in caught.value.remedy


def test_without_the_direct_maps_place_its_addresses_lead_nowhere() -> None:
    with pytest.raises(HvoinspectError, match="the direct map, whose place is not known"):
        place_of(replace(KERNEL, direct_map=None), Address("virtual", DIRECT_MAP + (FIRST << 12)))
