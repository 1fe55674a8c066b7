"""Runs in a guest: every page that is explained, beside what drgn says of it.

Explains the pages of one optimized 2 MiB page and many of the 1 GiB page, in one process, and runs
the drgn code that the explanations print. The answer is one JSON object.

    python tests/lab/page_witness.py [--sample N] [--step N] [--every]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import random
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from drgn import Program
from drgn.helpers.linux.mm import compound_head, page_to_pfn, pfn_to_page

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from hvoinspect.api.page import explain_in
from hvoinspect.report.page import PageJson
from hvoinspect.target.address import Address
from hvoinspect.target.choice import Target
from hvoinspect.target.layout import Kernel
from hvoinspect.vmemmap.chunks import chunk_starts, map_chunk, read_chunk
from hvoinspect.vmemmap.hugepages import find_hugepages, join
from hvoinspect.vmemmap.pagetable import walk_directory
from hvoinspect.vmemmap.resolve import resolve
from hvoinspect.vmemmap.window import open_window
from tests.opened import open_with_drgn

SMALL, LARGE = 9, 18


def heads(kernel: Kernel) -> dict[int, list[int]]:
    """The pfns of the hugetlb heads of each order that page tables show optimized."""
    directory = walk_directory(kernel.memory, kernel.paging, kernel.vmemmap, kernel.vmemmap_end)
    parts = [
        find_hugepages(kernel, read_chunk(kernel, map_chunk(kernel, directory, start), start))
        for start in chunk_starts(kernel)
    ]
    pages = join(parts)
    return {
        order: pages.pfn[(pages.order == order) & pages.remapped].tolist()
        for order in (SMALL, LARGE)
    }


def page_of(kernel: Kernel, pfn: int) -> PageJson:
    return explain_in(kernel, Address("pfn", pfn))


def against_drgn(kernel: Kernel, prog: Program, head: int, indices: list[int]) -> dict[str, Any]:
    """Explain the struct pages of a hugepage, and compare each with drgn's `compound_head`."""
    apart = []
    classes, writable, shared = Counter[str](), Counter[bool](), Counter[str]()
    for index in indices:
        found = page_of(kernel, head + index)
        drgn_head = int(page_to_pfn(compound_head(pfn_to_page(prog, head + index))))
        assert found["hugepage"] is not None, found
        ours = found["head_pfn"], found["hugepage"]["pfn"]
        if ours != (drgn_head, head) or found["problem"] or found["missing"]:
            apart.append({"index": index, "ours": ours, "drgn": drgn_head})
        classes[found["class"]] += 1
        mapping = found["mapping"]
        if index >= 64:
            writable[mapping["writable"]] += 1
            zone = mapping["shared_tail_of"]
            shared[
                f"{mapping['shared_by']} of {mapping['looked_at']}, zone {zone is not None}"
            ] += 1
    return {
        "compared": len(indices),
        "aligned": sum(index % 64 == 0 for index in indices),
        "in_first_63": sum(64 <= index < 64 * 64 for index in indices),
        "apart": apart[:5],
        "classes": dict(classes),
        "read_only": writable[False],
        "shared": dict(shared),
        "hugepage": page_of(kernel, head)["hugepage"],
    }


def heads_of_every_page(kernel: Kernel, prog: Program, head: int, order: int) -> dict[str, Any]:
    """The heads of all struct pages of a hugepage: by the steps that are explained, and by drgn."""
    size = kernel.page.size
    window = open_window(kernel, kernel.vmemmap + head * size, size << order)
    pfns = range(head, head + (1 << order))
    page = pfn_to_page(prog, head)
    theirs = {compound_head(page + index).value_() for index in range(1 << order)}
    return {
        "pages": len(pfns),
        "ours": [*{resolve(kernel, pfn, window.word).head for pfn in pfns}],
        "drgn": [(address - kernel.vmemmap) // size for address in theirs],
        "right": head,
    }


def run_lines(kernel: Kernel, prog: Program, pfns: list[int]) -> list[dict[str, Any]]:
    """Run the printed drgn lines of some pages; return what differs from the explanation."""
    apart = []
    for pfn in pfns:
        found = page_of(kernel, pfn)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec("\n".join(found["drgn"]), {"prog": prog})
        page, head, frame = (line.split() for line in printed.getvalue().splitlines())
        is_head, is_tail = found["class"] == "head", found["class"] in ("tail", "fake_head")
        address, info = found["address"], found["raw"]["info"]
        physical = (found["mapping"]["frame"] << 12) + (int(address, 16) & 4095)
        expected = [
            [address, info, str(is_head), str(is_tail)],
            [
                hex(kernel.vmemmap + (found["head_pfn"] or 0) * kernel.page.size),
                hex(found["head_pfn"] or 0),
                str(found["order"]),
            ],
            [hex(physical)],
        ]
        if [page, head, frame] != expected:
            apart.append({"pfn": pfn, "ours": expected, "drgn": [page, head, frame]})
    return apart


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sample", type=int, default=2000)
    parser.add_argument("--step", type=int, default=64)
    parser.add_argument("--every", action="store_true")
    arguments = parser.parse_args()
    kernel, prog = open_with_drgn(Target())
    found = heads(kernel)
    small, large = found[SMALL][0], found[LARGE][0]
    sample = random.Random(0).sample(range(1 << LARGE), arguments.sample)
    many = sorted({*range(0, 1 << LARGE, arguments.step), *sample, (1 << LARGE) - 1})
    some = [small + index for index in (0, 1, 64, 77, 448, 511)]
    some += [large + index for index in (0, 1, 64, 77, 4096, (1 << LARGE) - 64)]
    some += [small - 1, 0x1000]
    result = {
        "small": against_drgn(kernel, prog, small, list(range(1 << SMALL))),
        "large": against_drgn(kernel, prog, large, many),
        "lines_run": len(some),
        "lines_apart": run_lines(kernel, prog, some),
        "static_key": kernel.hvo.fake_head_key,
        "direct_map": kernel.direct_map,
        "drgn_direct_map": int(prog["page_offset_base"].value_()),
        "vmemmap": kernel.vmemmap,
    }
    if arguments.every:
        hugepages = ((small, SMALL), (large, LARGE))
        result["every"] = [heads_of_every_page(kernel, prog, *each) for each in hugepages]
    sys.stdout.write(json.dumps(result))


if __name__ == "__main__":
    main()
