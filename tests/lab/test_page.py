"""Single struct pages explained on real kernels, against drgn's word for each of them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from lab.guest import Completed, Guest
from lab.machine import Config
from tests.lab.conftest import some
from tests.lab.test_scan import BEFORE_7_1, ON, PROTECTS_TOO_LITTLE, as_nobody, two_lines

PYTHON = sys.executable
PAGE = [PYTHON, "-m", "hvoinspect", "page"]
PROJECT = Path(__file__).resolve().parents[2]
BOTH = ("7.0", "7.3")
"""The last kernel with pointers, and the newest."""

some_kernels = pytest.mark.parametrize("guest", some(ON), indirect=True, ids=str)


@pytest.fixture(scope="session")
def witnesses() -> dict[Config, dict[str, Any]]:
    return {}


@pytest.fixture
def witness(guest: Guest, witnesses: dict[Config, dict[str, Any]]) -> dict[str, Any]:
    """What `page_witness.py` says in a guest, asked once a session."""
    if guest.config not in witnesses:
        # Pages are explained one at a time, which under emulation takes a tenth of a second each.
        sample = ["--sample", "200", "--step", "4096"]
        done = guest.run([PYTHON, "tests/lab/page_witness.py", *sample], cwd=PROJECT, timeout=1200)
        witnesses[guest.config] = json.loads(done.stdout)
    return witnesses[guest.config]


def run(guest: Guest, *arguments: str) -> Completed:
    return guest.run([*PAGE, *arguments], check=False, cwd=PROJECT)


@some_kernels
def test_every_page_of_a_2_mib_page_has_drgns_head(witness: dict[str, Any], guest: Guest) -> None:
    small = witness["small"]
    assert (small["compared"], small["apart"]) == (512, [])
    fakes = guest.config.kernel in BEFORE_7_1
    assert small["classes"] == {
        "head": 1,
        "tail": 504 if fakes else 511,
        **({"fake_head": 7} if fakes else {}),
    }
    assert small["read_only"] == 448
    assert small["shared"] == {"8 of 8, zone False" if fakes else "7 of 8, zone True": 448}
    hugepage = small["hugepage"]
    assert (hugepage["size_bytes"], hugepage["free"]) == (2 << 20, True)
    assert (hugepage["optimized"], hugepage["flagged"]) == (True, True)
    assert (hugepage["vmemmap_pages"], hugepage["vmemmap_frames"]) == (8, 1 if fakes else 2)


@some_kernels
def test_hundreds_of_pages_of_the_1_gib_page_have_drgns_head(
    witness: dict[str, Any], guest: Guest
) -> None:
    large = witness["large"]
    assert large["apart"] == []
    assert large["compared"] > 64 + 190
    fakes = guest.config.kernel in BEFORE_7_1
    assert large["classes"].get("fake_head", 0) == (large["aligned"] - 1 if fakes else 0)
    assert large["classes"]["head"] == 1
    shared = "4096 of 4096, zone False" if fakes else "4095 of 4096, zone True"
    assert list(large["shared"]) == [shared]
    in_tail_pages = large["shared"][shared]
    too_little = guest.config.kernel in PROTECTS_TOO_LITTLE
    assert large["read_only"] == (large["in_first_63"] if too_little else in_tail_pages)
    assert large["hugepage"]["size_bytes"] == 1 << 30
    assert (large["hugepage"]["optimized"], large["hugepage"]["flagged"]) == (True, True)


@some_kernels
def test_the_printed_drgn_lines_show_the_same(witness: dict[str, Any]) -> None:
    assert witness["lines_run"] == 14
    assert witness["lines_apart"] == []


@some_kernels
def test_the_static_key_and_the_direct_map_are_the_kernels(
    witness: dict[str, Any], guest: Guest
) -> None:
    """The key counts the optimized hugepages; 7.1 has no such key."""
    assert witness["static_key"] == (33 if guest.config.kernel in BEFORE_7_1 else None)
    assert witness["direct_map"] == witness["drgn_direct_map"]


both = pytest.mark.parametrize("guest", [c for c in ON if c.kernel in BOTH], indirect=True, ids=str)


@both
def test_the_command_line(guest: Guest, witness: dict[str, Any]) -> None:
    """A tail by its struct page, by its memory in the direct map, and by an address inside."""
    head = witness["small"]["hugepage"]["pfn"]
    pfn = head + 77
    inside = f"{witness['vmemmap'] + 64 * pfn + 52:x}"
    done = run(guest, inside)
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stdout.split())
    assert f"pfn {pfn:#x} is tail 77 of a hugepage of 2 MiB (free, optimized)." in said
    assert f"0x{inside} is byte 52 of the struct page of pfn {pfn:#x}." in said
    assert "A write here faults" in said
    assert max(map(len, done.stdout.splitlines())) <= 80
    direct = run(guest, f"{witness['direct_map'] + (pfn << 12) + 8:#x}", "--json")
    assert direct.returncode == 0, direct.stderr
    found = json.loads(direct.stdout)
    assert (found["pfn"], found["head_pfn"], found["class"]) == (pfn, head, "tail")


@both
def test_errors_are_two_lines_and_the_right_status(guest: Guest) -> None:
    for done, status, why in (
        (run(guest, "nonsense"), 2, "names no page"),
        (run(guest, "pfn:0x7fffffff"), 3, "beyond the memory"),
        (as_nobody(guest, "page", "pfn:1"), 3, "root"),
    ):
        assert done.returncode == status
        assert why in two_lines(done)[0]
