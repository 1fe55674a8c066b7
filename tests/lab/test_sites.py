"""`sites` finds what another reader of DWARF finds in real kernels: LLVM's. No guest is needed."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from hvoinspect.hotpath.helpers import HELPERS
from hvoinspect.hotpath.sites import sites_of
from hvoinspect.hotpath.sitesfile import Sites
from tests.lab.conftest import cannot, debug_vmlinux

# One after the other: the witness takes over a gigabyte of memory.
pytestmark = [pytest.mark.lab, pytest.mark.xdist_group("dwarf")]

Known = tuple[str, int, tuple[tuple[int, int], ...]]
"""A copy: its helper, entry and pieces."""


@pytest.fixture(scope="module", params=["6.12", "7.3"])
def kernel(request: pytest.FixtureRequest) -> tuple[str, Path]:
    return request.param, debug_vmlinux(request.param)


@pytest.fixture(scope="module")
def sites(kernel: tuple[str, Path]) -> Sites:
    return sites_of(kernel[1])


def dwarfdump(vmlinux: Path) -> Iterator[Known]:
    """Yield each copy that has code, as `llvm-dwarfdump` prints it."""
    if shutil.which("llvm-dwarfdump") is None:
        cannot("llvm-dwarfdump is missing: apt-get install llvm")
    command = ["llvm-dwarfdump", "--debug-info", *(f"--name={helper}" for helper in HELPERS)]
    with subprocess.Popen([*command, vmlinux], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield from entries(process.stdout)
    assert process.returncode == 0


def entries(lines: Iterable[str]) -> Iterator[Known]:
    entry: list[str] = []
    for line in itertools.chain(lines, ["\n"]):
        if line.strip():
            entry.append(line)
            continue
        known = parsed("".join(entry))
        if known is not None:
            yield known
        entry = []


def parsed(text: str) -> Known | None:
    """Return the copy that an entry is, None if it has no code, as abstract ones have none."""
    name = re.search(r'DW_AT_(?:abstract_origin|name)\t\((?:0x\w+ )?"(\w+)"\)', text)
    places = dict(re.findall(r"DW_AT_(entry|low|high)_pc\t\((0x\w+)\)", text))
    pieces = [(int(a, 16), int(b, 16)) for a, b in re.findall(r"\[(0x\w+), (0x\w+)\)", text)]
    if "high" in places:
        pieces.append((int(places["low"], 16), int(places["high"], 16)))
    ranges = tuple(sorted((start, end - start) for start, end in pieces if start < end))
    if name is None or not ranges:
        return None
    entry = places.get("entry") or places.get("low")
    return name[1], int(entry, 16) if entry else ranges[0][0], ranges


def test_no_copy_is_missing_and_none_made_up(kernel: tuple[str, Path], sites: Sites) -> None:
    seen = Counter(dwarfdump(kernel[1]))
    assert sum(seen.values()) > 800
    assert Counter((copy.helper, copy.address, copy.ranges) for copy in sites.copies) == seen


def test_fake_heads_are_gone_and_copies_became_small(
    kernel: tuple[str, Path], sites: Sites
) -> None:
    heads = [copy for copy in sites.copies if copy.helper == "_compound_head"]
    fakes = [copy for copy in sites.copies if copy.helper == "page_fixed_fake_head"]
    before = kernel[0] == "6.12"
    assert len(heads) > 500
    # Up to 7.0 copies of the one have one of the other in them, and there are others.
    assert len(fakes) >= len(heads) if before else not fakes
    mean = sum(copy.instructions for copy in heads) / len(heads)
    assert (12 < mean < 25) if before else (3 < mean < 10)
    assert sites.release.startswith(kernel[0] + ".")


def test_loops_are_where_the_source_has_them(sites: Sites) -> None:
    """mm/slub.c: kfree() looks at one object; mm/swap.c: release_pages() walks an array."""
    loops = {
        copy.function: copy.in_loop for copy in sites.copies if copy.helper == "_compound_head"
    }
    assert not loops["kfree"]
    assert not loops["vm_normal_folio"]
    assert loops["release_pages"]
    assert loops["copy_page_range"]


def test_it_takes_less_than_three_seconds(kernel: tuple[str, Path]) -> None:
    started = time.process_time()  # what else runs on the machine is not counted
    sites_of(kernel[1])
    assert time.process_time() - started < 3
