"""Runs in a guest: what others say of its pages, beside what the classifier says.

The witnesses are the kernel (kpageflags, sysfs, vmstat, the sections that it shows) and drgn. The
project's own classes are laid beside them a page at a time; the answer is one JSON object.

    python tests/lab/witness.py [--sample N] [--hugetlb N]
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from drgn import Object, Program
from drgn.helpers.linux.mm import PageHead, PageTail, compound_head
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from hvoinspect.target.choice import Target
from hvoinspect.target.kernelview import COMPOUND_HEAD, COMPOUND_TAIL, HUGE, NO_PAGE
from hvoinspect.target.layout import Kernel
from hvoinspect.vmemmap.pages import PageClass
from tests.lab.census import Census, keep_out_of_the_picture
from tests.opened import open_with_drgn

CLASSES = {
    PageClass.HEAD: "head",
    PageClass.FAKE_HEAD: "tail",  # drgn knows heads and tails only
    PageClass.TAIL: "tail",
    PageClass.SINGLE: "single",
}


def kpageflags() -> NDArray[np.uint64]:
    with Path("/proc/kpageflags").open("rb", buffering=0) as file:  # refuses sizes but 8 * n
        return np.frombuffer(b"".join(iter(lambda: file.read(1 << 20), b"")), "<u8")


def pools() -> list[dict[str, int]]:
    """The hugepages that sysfs counts, a size and node each."""
    found = []
    for path in Path("/sys/devices/system/node").glob("node*/hugepages/hugepages-*kB"):
        size = re.fullmatch(r"hugepages-(\d+)kB", path.name)
        assert size
        total = int((path / "nr_hugepages").read_text())
        if total:
            found.append(
                {
                    "size_bytes": int(size[1]) * 1024,
                    "node": int(path.parent.parent.name[4:]),
                    "total": total,
                    "free": int((path / "free_hugepages").read_text()),
                }
            )
    return sorted(found, key=lambda pool: (pool["size_bytes"], pool["node"]))


def present_pages() -> int:
    """Struct pages of the memory blocks that sysfs shows; a block is present or it is not there."""
    memory = Path("/sys/devices/system/memory")
    block = int((memory / "block_size_bytes").read_text(), 16)
    return len(list(memory.glob("memory[0-9]*"))) * block // 4096


def memmap_counters(vmstat: str) -> dict[str, int]:
    """What /proc/vmstat counts of the vmemmap: nothing before 6.10."""
    lines = (line.split() for line in vmstat.splitlines())
    return {name: int(value) for name, value in lines if name.startswith("nr_memmap")}


def against_kpageflags(census: Census, flags: NDArray[np.uint64]) -> dict[str, int]:
    """Compare hugetlb heads and tails with what the kernel says, a page at a time."""
    huge = (flags & np.uint64(HUGE)) != 0
    theirs_head = huge & ((flags & np.uint64(COMPOUND_HEAD)) != 0)
    theirs_tail = huge & ((flags & np.uint64(COMPOUND_TAIL)) != 0)
    kind = census.kind[: len(flags)]
    head = census.head[: len(flags)]
    inside = head < np.uint64(len(flags))
    of_huge = np.zeros(len(flags), np.bool_)
    of_huge[inside] = huge[head[inside].astype(np.intp)]
    ours_head = of_huge & (kind == PageClass.HEAD)
    ours_tail = of_huge & ((kind == PageClass.TAIL) | (kind == PageClass.FAKE_HEAD))
    return {
        "heads": int(theirs_head.sum()),
        "tails": int(theirs_tail.sum()),
        "our_heads": int(ours_head.sum()),
        "our_tails": int(ours_tail.sum()),
        "heads_apart": int((theirs_head != ours_head).sum()),
        "tails_apart": int((theirs_tail != ours_tail).sum()),
        "fakes_taken_for_heads": int((theirs_head & (kind == PageClass.FAKE_HEAD)).sum()),
    }


def drgn_says(vmemmap: Object, kernel: Kernel, pfn: int) -> tuple[str, int]:
    """Class and head of a page by drgn's helpers."""
    page = vmemmap + pfn
    head = (int(compound_head(page).value_()) - kernel.vmemmap) // kernel.page.size
    if PageTail(page):
        return "tail", head
    return ("head" if PageHead(page) else "single"), head


def against_drgn(prog: Program, census: Census, pfns: list[int]) -> dict[str, Any]:
    """Compare pages with drgn's helpers; what differs is looked at again, for the kernel runs."""
    vmemmap = prog["vmemmap"]
    apart = pfns
    looked = Counter[str]()
    for _ in range(4):
        wrong = []
        for pfn in apart:
            ours = CLASSES[PageClass(census.kind[pfn])], int(census.head[pfn])
            looked[ours[0]] += 1
            if drgn_says(vmemmap, census.kernel, pfn) != ours:
                wrong.append(pfn)
        apart = wrong
        if not apart:
            break
        census.read()
    return {
        "compared": len(pfns),
        "classes": dict(looked),
        "apart": [
            {
                "pfn": pfn,
                "ours": [CLASSES[PageClass(census.kind[pfn])], int(census.head[pfn])],
                "drgn": drgn_says(vmemmap, census.kernel, pfn),
            }
            for pfn in apart[:5]
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sample", type=int, default=10_000)
    parser.add_argument("--hugetlb", type=int, help="so many of hugetlb's pages, not all")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    keep_out_of_the_picture()

    kernel, prog = open_with_drgn(Target())
    flags = kpageflags()
    census = Census(kernel)
    result: dict[str, Any] = {
        "pools": pools(),
        "present_pages": present_pages(),
        "vmstat": memmap_counters(Path("/proc/vmstat").read_text()),
        "kpageflags": against_kpageflags(census, flags),
    }
    mapped = np.flatnonzero(
        (census.kind != PageClass.HOLE) & (np.arange(len(census.kind)) < len(flags))
    )
    online = mapped[(flags[mapped] & np.uint64(NO_PAGE)) == 0]
    chance = random.Random(arguments.seed)
    sample = chance.sample(online.tolist(), arguments.sample)
    huge = census.hugetlb((flags & np.uint64(HUGE)) != 0).tolist()
    if arguments.hugetlb:
        huge = chance.sample(huge, arguments.hugetlb)
    result["drgn"] = against_drgn(prog, census, sorted({*sample, *huge}))
    result["drgn"]["hugetlb"] = len(huge)
    sys.stdout.write(json.dumps(result))


if __name__ == "__main__":
    main()
