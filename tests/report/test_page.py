"""The drgn code that an explanation prints runs, and shows the head."""

from __future__ import annotations

import pytest

from hvoinspect.report.page import drgn_lines
from hvoinspect.target.symbols import register_all
from tests.tiny_kernel import PAGES, VMEMMAP, TinyKernel


@pytest.mark.parametrize(
    ("pfn", "head", "order", "is_head"), [(700, 512, 9, False), (512, 512, 9, True)]
)
def test_the_printed_drgn_lines_show_the_head(
    capsys: pytest.CaptureFixture[str], pfn: int, head: int, order: int, is_head: bool
) -> None:
    kernel = TinyKernel()
    kernel.compound(512, 9)
    prog = kernel.program()
    register_all(prog)
    lines = drgn_lines(pfn, "compound_head")
    assert max(map(len, lines)) <= 74
    exec("\n".join(lines), {"prog": prog})
    info = 0 if is_head else VMEMMAP + 64 * head | 1
    assert capsys.readouterr().out.splitlines() == [
        f"{VMEMMAP + 64 * pfn:#x} {info:#x} {is_head} {not is_head}",
        f"{VMEMMAP + 64 * head:#x} {head:#x} {order}",
        f"{PAGES + 64 * pfn:#x}",
    ]
