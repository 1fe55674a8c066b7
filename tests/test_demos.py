"""The shipped kernels, one before 7.1 and one after it, looked at a page at a time."""

from __future__ import annotations

import pytest

from hvoinspect.target.choice import DEMOS, Target
from hvoinspect.target.layout import Kernel
from hvoinspect.target.open import open_target
from hvoinspect.vmemmap.explain import explain
from hvoinspect.vmemmap.scan import scan


@pytest.fixture(scope="module", params=DEMOS)
def kernel(request: pytest.FixtureRequest) -> Kernel:
    return open_target(Target(demo=request.param))


def test_every_vmemmap_page_of_both_sizes_leads_to_its_head(kernel: Kernel) -> None:
    """All of a 2 MiB page, and of a 1 GiB page all struct pages that begin a vmemmap page."""
    hugepages = scan(kernel).hugepages
    for order, step in ((9, 1), (18, 64)):
        head = int(hugepages.pfn[hugepages.order == order][0])
        found = {
            explain(kernel, pfn).resolved.head for pfn in range(head, head + (1 << order), step)
        }
        assert found == {head}
