"""Which page a user means: an address of the kernel's, a pfn or a physical address."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hvoinspect.errors import ExitStatus, HvoinspectError
from hvoinspect.target.layout import Kernel

PAGE_SHIFT = 12

AddressKind = Literal["virtual", "pfn", "phys"]

_FORMS = "a struct page's address in hexadecimal, pfn:N or phys:N (decimal, or hexadecimal with 0x)"


@dataclass(frozen=True)
class Address:
    """An address as it was given: `value` is what `kind` says."""

    kind: AddressKind
    value: int


@dataclass(frozen=True)
class Place:
    """The page that an address leads to; `how` says how, where it is not plain from the address."""

    pfn: int
    how: str | None


def parse_address(text: str) -> Address:
    """Read an address as a user writes it. Raises HvoinspectError, a usage error."""
    kind, colon, number = text.strip().lower().rpartition(":")
    if colon and kind in ("pfn", "phys") and re.fullmatch("0x[0-9a-f]+|[0-9]+", number):
        value = int(number, 16 if number.startswith("0x") else 10)
        address = Address("pfn" if kind == "pfn" else "phys", value)
    elif not colon and re.fullmatch("(0x)?[0-9a-f]+", number):
        address = Address("virtual", int(number, 16))
    else:
        raise HvoinspectError(f"{text!r} names no page", f"give {_FORMS}", ExitStatus.USAGE)
    if address.value >= 1 << 64:
        raise HvoinspectError(f"{text!r} has more than 64 bits", f"give {_FORMS}", ExitStatus.USAGE)
    return address


def place_of(kernel: Kernel, address: Address) -> Place:
    """Return the page that `address` leads to, one of a present section.

    Raises HvoinspectError if it leads to none: outside of the vmemmap and the direct map, beyond
    the memory, or in a hole.
    """
    place = _place(kernel, address)
    sections = kernel.sections
    at = int(np.searchsorted(sections.numbers, place.pfn // sections.pages, side="right"))
    end = _end(kernel)
    if place.pfn >= end:
        raise HvoinspectError(
            f"pfn {place.pfn:#x} is beyond the memory of this kernel",
            f"its last section ends before pfn {end:#x}",
        )
    if at == 0 or int(sections.numbers[at - 1]) != place.pfn // sections.pages:
        above = int(sections.numbers[at]) * sections.pages
        below = f"ends before pfn {(int(sections.numbers[at - 1]) + 1) * sections.pages:#x}"
        raise HvoinspectError(
            f"pfn {place.pfn:#x} is in a hole: no memory section has it, so it has no struct page",
            f"the section below {below if at else 'does not exist'}, the next begins at "
            f"pfn {above:#x}",
        )
    return place


def _place(kernel: Kernel, address: Address) -> Place:
    value = address.value
    if address.kind == "pfn":
        return Place(value, None)
    if address.kind == "phys":
        return _with_byte(value, "physical address")
    if kernel.vmemmap <= value < kernel.vmemmap_end:
        pfn, byte = divmod(value - kernel.vmemmap, kernel.page.size)
        how = f"{value:#x} is byte {byte} of the struct page of pfn {pfn:#x}."
        return Place(pfn, how if byte else None)
    # The regions lie close to one another on a randomized layout, so the direct map is no longer
    # than the memory that it maps.
    base = kernel.direct_map
    if base is not None and base <= value < base + (_end(kernel) << PAGE_SHIFT):
        return _with_byte(value - base, f"{value:#x} is in the direct map: physical address")
    direct_map = "the direct map, whose place is not known"
    if base is not None:
        direct_map = f"the direct map ({base:#x} to {base + (_end(kernel) << PAGE_SHIFT):#x})"
    raise HvoinspectError(
        f"{value:#x} is neither in the vmemmap ({kernel.vmemmap:#x} to {kernel.vmemmap_end:#x}) "
        f"nor in {direct_map}",
        f"give {_FORMS}",
    )


def _with_byte(physical: int, what: str) -> Place:
    pfn = physical >> PAGE_SHIFT
    byte = physical & ((1 << PAGE_SHIFT) - 1)
    return Place(pfn, f"{what} {physical:#x}, byte {byte} of the page of pfn {pfn:#x}.")


def _end(kernel: Kernel) -> int:
    """Return the pfn after the last page of the last present section."""
    return (kernel.vmemmap_end - kernel.vmemmap) // kernel.page.size
