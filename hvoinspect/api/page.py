"""What `page` asks: all about one struct page."""

from __future__ import annotations

from hvoinspect.report.page import PageJson, page_json
from hvoinspect.target.address import Address, parse_address, place_of
from hvoinspect.target.choice import Target
from hvoinspect.target.layout import Kernel
from hvoinspect.target.open import open_target
from hvoinspect.vmemmap.explain import explain


def explain_page(address: str, target: Target) -> PageJson:
    """Explain one struct page of a kernel.

    `address` is what `target.address.parse_address` reads. Raises HvoinspectError.
    """
    wanted = parse_address(address)  # before the kernel is opened, which takes a while
    return explain_in(open_target(target), wanted)


def explain_in(kernel: Kernel, address: Address) -> PageJson:
    """Explain one struct page of a kernel that is open, for many questions to one kernel.

    Raises HvoinspectError.
    """
    place = place_of(kernel, address)
    return page_json(explain(kernel, place.pfn), place.how)
