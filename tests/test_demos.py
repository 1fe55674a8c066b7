"""The shipped kernels, one before 7.1 and one after it, looked at a page at a time."""

from __future__ import annotations

import pytest
from drgn import Program

from hvoinspect.target.choice import DEMOS, Target
from hvoinspect.target.layout import Kernel
from hvoinspect.vmemmap.explain import explain
from hvoinspect.vmemmap.scan import scan
from tests.lab.page_witness import heads_of_every_page, run_lines
from tests.opened import open_with_drgn


@pytest.fixture(scope="module", params=DEMOS)
def opened(request: pytest.FixtureRequest) -> tuple[Kernel, Program]:
    return open_with_drgn(Target(demo=request.param))


@pytest.fixture
def kernel(opened: tuple[Kernel, Program]) -> Kernel:
    return opened[0]


@pytest.mark.parametrize("order", [9, 18], ids=["2 MiB", "1 GiB"])
def test_every_page_of_an_optimized_hugepage_leads_to_its_head(
    opened: tuple[Kernel, Program], order: int
) -> None:
    """By the steps that `page` tells, and by drgn's own helpers in the same capture."""
    kernel, prog = opened
    hugepages = scan(kernel).hugepages
    head = int(hugepages.pfn[(hugepages.order == order) & hugepages.remapped][0])
    found = heads_of_every_page(kernel, prog, head, order)
    assert found == {"pages": 1 << order, "ours": [head], "drgn": [head], "right": head}


@pytest.mark.parametrize(("order", "step"), [(9, 1), (18, 64)], ids=["2 MiB", "1 GiB"])
def test_every_vmemmap_page_of_a_hugepage_is_explained(
    kernel: Kernel, order: int, step: int
) -> None:
    """All of a 2 MiB page, and of a 1 GiB page all struct pages that begin a vmemmap page."""
    hugepages = scan(kernel).hugepages
    head = int(hugepages.pfn[hugepages.order == order][0])
    for pfn in range(head, head + (1 << order), step):
        found = explain(kernel, pfn)
        assert found.resolved.head == head
        assert found.hugepage is not None
        assert (found.hugepage.pfn, found.problem, found.missing) == (head, None, None)


def test_the_drgn_lines_of_an_explanation_run_on_a_capture(
    opened: tuple[Kernel, Program],
) -> None:
    kernel, prog = opened
    pfns = [int(kernel.sections.numbers[0]) * kernel.sections.pages]
    for head in scan(kernel).hugepages.pfn[[0, -1]].tolist():
        pfns += [head + index for index in (0, 1, 64, 77, 511)]
    assert run_lines(kernel, prog, pfns) == []
