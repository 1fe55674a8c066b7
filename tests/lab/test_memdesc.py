"""`hvoinspect memdesc` on real kernels: its runs are the kernel's, its rule right.

The machine has two NUMA nodes, a hole below 4 GiB, persistent memory (ZONE_DEVICE) in the midst of
a node's where the kernel's modules can be had, and a DIMM that is plugged in while it runs.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import pytest

from lab.guest import Guest
from lab.kernels import KNOWN
from lab.machine import Config
from lab.qmp import qmp
from tests.lab.test_scan import PROJECT

PYTHON = sys.executable
SECTION, SECTION_BYTES = 1 << 15, 1 << 27
GIB = 1 << 30
DIMM_AT, DIMM_BYTES = 12 * GIB, 512 << 20
DEVICE_AT, DEVICE_BYTES = 6 * GIB, 256 << 20
WITHOUT_MODULES = ["7.0", "7.1"]
"""Debian carries no modules of superseded kernels."""
GUESTS = [
    Config(
        kernel,
        hvo=True,
        memory="5G",
        nodes=2,
        append="hugepages=64 memhp_default_state=online"
        + f" memmap={DEVICE_BYTES:#x}!{DEVICE_AT:#x}" * (kernel not in WITHOUT_MODULES),
        modules=() if kernel in WITHOUT_MODULES else ("nd_e820", "nd_pmem"),
        qemu_args=("-m", "size=5G,slots=4,maxmem=32G"),
    )
    for kernel in KNOWN
]


def memdesc(guest: Guest, *options: str) -> dict[str, Any]:
    command = [PYTHON, "-m", "hvoinspect", "memdesc", "--json", *options]
    result: dict[str, Any] = json.loads(guest.run(command, cwd=PROJECT).stdout)
    return result


def witness(guest: Guest) -> dict[str, Any]:
    done = guest.run([PYTHON, "-m", "tests.lab.memdesc_witness"], cwd=PROJECT)
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


def runs_of(numbers: list[int]) -> list[list[int]]:
    """The sections `numbers` as ranges of pfns without a gap."""
    found: list[list[int]] = []
    for number in numbers:
        if found and found[-1][1] == number * SECTION:
            found[-1][1] += SECTION
        else:
            found.append([number * SECTION, (number + 1) * SECTION])
    return found


def spans(result: dict[str, Any]) -> dict[tuple[int, str], list[int]]:
    """(node, zone) -> the first pfn of it, the one after the last, and how many there are."""
    found: dict[tuple[int, str], list[int]] = {}
    base = int(result["needs"]["vmemmap"], 16)
    for span in (span for run in result["runs"] for span in run["spans"]):
        start = (int(span["start"], 16) - base) // 64
        first = found.setdefault((span["node"], span["zone"]), [start, 0, 0])
        first[1] = start + span["bytes"] // 64
        first[2] += span["bytes"] // 64
    return found


def are_the_kernels(result: dict[str, Any], seen: dict[str, Any]) -> None:
    """Runs are `mem_section`'s, spans are /proc/zoneinfo's, memory blocks are sysfs's."""
    base = int(result["needs"]["vmemmap"], 16)
    assert base == seen["vmemmap"] == seen["vmemmap_base"]
    ours = [[run["first_pfn"], run["first_pfn"] + run["bytes"] // 64] for run in result["runs"]]
    assert ours == runs_of(seen["sections"])
    assert [int(run["start"], 16) - base for run in result["runs"]] == [s * 64 for s, _ in ours]

    found = spans(result)
    # What a section lacks of memory looks like its zone's. A zone may span a hole; no struct page
    # of it does.
    zones = {(zone["node"], zone["zone"]): zone for zone in seen["zones"]}
    assert found.keys() == zones.keys()
    for place, (start, end, count) in found.items():
        zone = zones[place]
        if zone["start"] is None:
            assert end - start == count == zone["spanned"], place
            continue
        assert zone["start"] // SECTION * SECTION <= start <= zone["start"], place
        last = zone["start"] + zone["spanned"]
        assert end <= -(-last // SECTION) * SECTION, place
        assert zone["present"] <= count < zone["present"] + SECTION, place

    blocks = seen["blocks"]
    assert result["worst_case"]["memory_block_bytes"] == blocks["bytes"]
    assert result["worst_case"]["memory_block_known"]
    each = blocks["bytes"] // SECTION_BYTES
    device = range(DEVICE_AT // SECTION_BYTES, (DEVICE_AT + DEVICE_BYTES) // SECTION_BYTES)
    device = device if (1, "Device") in found else range(0)
    of_blocks = {number * each + at for number in blocks["online"] for at in range(each)}
    # Memory of devices is in no memory block.
    assert sorted(of_blocks | set(device)) == seen["sections"]
    assert (blocks["offline"], result["offline"]) == ([], 0)


def plug_a_dimm(guest: Guest, witnessed: dict[str, Any]) -> dict[str, Any]:
    backend = {"qom-type": "memory-backend-memfd", "id": "of-dimm", "size": DIMM_BYTES}
    qmp(guest, "object-add", **backend, share=True, reserve=False)
    qmp(guest, "device_add", driver="pc-dimm", id="dimm", memdev="of-dimm", node=1, addr=DIMM_AT)
    deadline = time.monotonic() + 120
    more = DIMM_BYTES // witnessed["blocks"]["bytes"]
    while True:
        seen = witness(guest)
        if len(seen["blocks"]["online"]) == len(witnessed["blocks"]["online"]) + more:
            return seen
        assert time.monotonic() < deadline, seen["blocks"]


@pytest.mark.parametrize("guest", GUESTS, indirect=True, ids=str)
def test_runs_are_the_kernels_before_and_after_a_dimm_is_plugged_in(guest: Guest) -> None:
    """And on a kernel at rest the rule is right for every struct page."""
    before = witness(guest)
    first = memdesc(guest)
    are_the_kernels(first, before)
    # Below 2 GiB, and from 4 GiB on: the hole in between divides them, the device's memory not.
    assert [run["first_pfn"] * 4096 // GIB for run in first["runs"]] == [0, 4]
    if guest.config.modules:
        device = spans(first)[1, "Device"]
        assert device[:2] == [DEVICE_AT >> 12, (DEVICE_AT + DEVICE_BYTES) >> 12]
    rule = first["rule"]
    assert (rule["false_tail"], rule["missed_tail"], rule["unjudged"]) == (0, 0, 0)
    assert rule["agree"] == len(before["sections"]) * SECTION
    assert first["guard"]["zero_pages"] == 2

    after = plug_a_dimm(guest, before)
    second = memdesc(guest, "--model", "null-free")
    are_the_kernels(second, after)
    assert [run["first_pfn"] * 4096 // GIB for run in second["runs"]] == [0, 4, 12]
    assert second["guard"]["zero_pages"] == 3
    assert second["guard"]["pte_tables"] == 3
    # Free memory is most of it; not one tail is missed.
    assert second["rule"]["false_tail"] > second["rule"]["agree"] // 4
    assert second["rule"]["missed_tail"] == 0
    assert [kind["kind"] for kind in second["disagreements"]] in (
        ["free"],
        ["free", "run-start-null"],
    )
