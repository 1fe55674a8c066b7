"""A scan on real kernels, before and after 7.1, against the kernel's own word and drgn's.

Each kernel runs with HVO on and off, on two NUMA nodes, with hugepages of both sizes from boot.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from lab.guest import Completed, Guest
from lab.kernels import KNOWN
from lab.machine import Config
from tests.lab.conftest import RESTORES_WRONGLY, LabPool, some
from tests.lab.witness import memmap_counters

PYTHON = sys.executable
SCAN = [PYTHON, "-m", "hvoinspect", "scan"]
PROJECT = Path(__file__).resolve().parents[2]
SMALL, LARGE = 2 << 20, 1 << 30
BEFORE_7_1 = [name for name in KNOWN if tuple(map(int, name.split("."))) < (7, 1)]
COUNTS_FAKES = ["7.0"]
"""Kernels whose kpageflags take fake heads for heads (measured: 6.18 to 7.0)."""
PROTECTS_TOO_LITTLE = ["7.0", "7.1"]
"""Kernels that write-protect too few tails of boot-time 1 GiB pages (measured: 6.18 to 7.1)."""


def config(kernel: str, *, hvo: bool) -> Config:
    return Config(
        kernel,
        hvo=hvo,
        memory="6G",
        nodes=2,
        append="hugepagesz=1G hugepages=1 hugepagesz=2M hugepages=32",
    )


ON = [config(kernel, hvo=True) for kernel in KNOWN]
OFF = [config(kernel, hvo=False) for kernel in KNOWN]


@dataclass(frozen=True)
class Seen:
    """What the scan printed in a guest, and, for those who ask, what the witnesses say there."""

    config: Config
    scan: dict[str, Any]
    done: Completed
    ask: Callable[[], Completed]

    @cached_property
    def witness(self) -> dict[str, Any]:
        said: dict[str, Any] = json.loads(self.ask().stdout)
        return said


Look = Callable[[Config], Seen]


@pytest.fixture(scope="session")
def look(lab_pool: LabPool) -> Look:
    """Scan in a guest of a configuration, once a session."""
    seen: dict[Config, Seen] = {}

    def look(wanted: Config) -> Seen:
        if wanted not in seen:
            done = lab_pool.guest(wanted).run([*SCAN, "--json"], check=False, cwd=PROJECT)
            assert done.returncode == 0, done
            # drgn takes a minute for all of a 1 GiB page, under emulation.
            hugetlb = [] if wanted.hvo else ["--hugetlb", "5000"]
            witness = [PYTHON, "tests/lab/witness.py", *hugetlb]
            seen[wanted] = Seen(
                wanted,
                json.loads(done.stdout),
                done,
                lambda: lab_pool.guest(wanted).run(witness, cwd=PROJECT, timeout=600),
            )
        return seen[wanted]

    return look


@pytest.fixture
def seen(guest: Guest, look: Look) -> Seen:
    return look(guest.config)


every_kernel = pytest.mark.parametrize("guest", [*ON, *some(OFF)], indirect=True, ids=str)
with_hvo_on = pytest.mark.parametrize("guest", ON, indirect=True, ids=str)
with_hvo_off = pytest.mark.parametrize("guest", some(OFF), indirect=True, ids=str)


def optimized(scan: dict[str, Any], size: int) -> int:
    return sum(p["optimized"] for p in scan["hugetlb"] if p["size_bytes"] == size)


@every_kernel
def test_the_scan_knows_the_kernel_it_runs_on(seen: Seen) -> None:
    kernel = seen.config.kernel
    assert seen.scan["kernel"]["release"].startswith(f"{kernel}.")
    assert seen.scan["source"] == {
        "kind": "kcore",
        "path": None,
        "debug_info": ["vmcoreinfo", "btf"],
    }
    assert seen.scan["encoding"] == {
        "tail": "pointer" if kernel in BEFORE_7_1 else "mask",
        "field": "compound_head" if kernel in BEFORE_7_1 else "compound_info",
        "struct_page_bytes": 64,
        "hvo": "fake_heads" if kernel in BEFORE_7_1 else "shared_tail",
        "hvo_enabled": seen.config.hvo,
    }


@every_kernel
def test_the_five_classes_are_all_the_pages_of_present_sections(seen: Seen) -> None:
    pages = seen.scan["pages"]
    five = ("head", "fake_head", "tail", "single", "unreadable")
    assert sum(pages[name] for name in five) == pages["total"] == seen.witness["present_pages"]
    assert pages["unreadable"] == 0
    assert seen.scan["coverage"]["fraction"] == 1.0


@every_kernel
def test_hugetlb_heads_and_tails_are_the_kernels(seen: Seen) -> None:
    """A page at a time against kpageflags; where that counts fake heads, against arithmetic."""
    pools = seen.witness["pools"]
    heads = sum(pool["total"] for pool in pools)
    tails = sum(pool["total"] * (pool["size_bytes"] // 4096 - 1) for pool in pools)
    flags = seen.witness["kpageflags"]
    assert (flags["our_heads"], flags["our_tails"]) == (heads, tails)
    if seen.config.kernel in COUNTS_FAKES and seen.config.hvo:
        fakes = seen.scan["pages"]["fake_head"]
        assert flags["heads"] == heads + fakes
        assert flags["fakes_taken_for_heads"] == flags["heads_apart"] == fakes
        assert any("kpageflags" in note for note in seen.scan["notes"])
    else:
        assert (flags["heads_apart"], flags["tails_apart"]) == (0, 0)
        assert [note for note in seen.scan["notes"] if not note.startswith("unstable")] == []


@every_kernel
def test_pools_are_those_of_sysfs_by_size_and_node(seen: Seen) -> None:
    names = ("size_bytes", "node", "total", "free")
    ours = [{name: pool[name] for name in names} for pool in seen.scan["hugetlb"]]
    assert ours == seen.witness["pools"]
    assert {pool["node"] for pool in ours if pool["size_bytes"] == SMALL} == {0, 1}


@every_kernel
def test_ten_thousand_pages_and_all_of_hvos_are_as_drgn_says(seen: Seen) -> None:
    drgn = seen.witness["drgn"]
    assert drgn["apart"] == []
    assert drgn["hugetlb"] == (32 * 512 + (1 << 18) if seen.config.hvo else 5000)
    assert drgn["compared"] > drgn["hugetlb"] + 5_000


@with_hvo_on
def test_every_struct_page_and_two_processes_come_to_the_same(guest: Guest, seen: Seen) -> None:
    """test_capture.py has this of memory that holds still, where nothing at all may differ."""
    ways = ["--exhaustive", "--jobs", "2"]
    scan = json.loads(guest.run([*SCAN, *ways, "--json"], cwd=PROJECT).stdout)
    for part in ("encoding", "hugetlb", "vmemmap", "findings"):
        assert scan[part] == seen.scan[part]
    assert scan["pages"]["total"] == seen.scan["pages"]["total"]
    assert scan["coverage"]["struct_pages_inferred"] == 0


@every_kernel
def test_fake_heads_are_seven_and_4095_a_page_up_to_7_0_and_none_later(seen: Seen) -> None:
    expected = 32 * 7 + 4095 if seen.config.hvo and seen.config.kernel in BEFORE_7_1 else 0
    assert seen.scan["pages"]["fake_head"] == expected


@every_kernel
def test_what_is_saved_is_all_but_one_frame_a_hugepage(seen: Seen) -> None:
    scan, vmemmap = seen.scan, seen.scan["vmemmap"]
    count = dict.fromkeys((SMALL, LARGE), 0)
    if seen.config.hvo:
        count = {SMALL: 32, LARGE: 1}
    assert {size: optimized(scan, size) for size in count} == count
    assert vmemmap["saved_bytes"] == (7 * count[SMALL] + 4095 * count[LARGE]) * 4096
    assert vmemmap["net_saved_bytes"] == vmemmap["saved_bytes"] - vmemmap["split_cost_bytes"]
    left = (7 * (32 - count[SMALL]) + 4095 * (1 - count[LARGE])) * 4096
    assert vmemmap["potential_bytes"] == left
    assert (vmemmap["split_cost_bytes"] > 0) is seen.config.hvo


@pytest.mark.parametrize(
    "guest", [c for c in ON if c.kernel not in ("6.1",)], indirect=True, ids=str
)
def test_saved_is_the_fall_of_the_kernels_own_count(seen: Seen, look: Look) -> None:
    """nr_memmap_pages and nr_memmap_boot_pages (6.11) count frames of memory maps.

    The same machine without HVO has as many more as are saved; the shared tail frames of 7.1 are
    not counted by the kernel.
    """
    without = look(config(seen.config.kernel, hvo=False))
    fall = sum(without.witness["vmstat"].values()) - sum(seen.witness["vmstat"].values())
    assert seen.scan["vmemmap"]["saved_bytes"] == fall * 4096


@every_kernel
def test_a_clean_kernel_has_no_findings_but_the_measured_one(seen: Seen) -> None:
    found = [(f["rule"], f["severity"]) for f in seen.scan["findings"]]
    defect = seen.config.hvo and seen.config.kernel in PROTECTS_TOO_LITTLE
    assert found == ([("tails-read-only", "warning")] if defect else [])
    if defect:
        assert "4032 writable" in seen.scan["findings"][0]["found"]
        assert seen.scan["vmemmap"]["read_only_pages"] == 63 + 32 * 7
    else:
        assert seen.scan["vmemmap"]["read_only_pages"] * 4096 == seen.scan["vmemmap"]["saved_bytes"]


@with_hvo_off
def test_pages_added_while_hvo_is_switched_on_are_told_from_the_others(
    guest: Guest, seen: Seen, lab_pool: LabPool
) -> None:
    """The switch is for hugepages to come: those that are there stay as they are."""
    pool = "/sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages"
    before = sum(seen.witness["vmstat"].values())
    guest.run(f"echo 1 > /proc/sys/vm/hugetlb_optimize_vmemmap && echo 24 > {pool}")
    try:
        scan = json.loads(guest.run([*SCAN, "--json"], cwd=PROJECT).stdout)
        counters = memmap_counters(guest.read_file("/proc/vmstat").decode())
    finally:
        guest.run(f"echo 16 > {pool} && echo 0 > /proc/sys/vm/hugetlb_optimize_vmemmap")
    assert (scan["encoding"]["hvo_enabled"], optimized(scan, SMALL)) == (True, 8)
    small = [pool for pool in scan["hugetlb"] if pool["size_bytes"] == SMALL]
    assert {pool["node"]: pool["optimized"] for pool in small} == {0: 0, 1: 8}
    assert scan["vmemmap"]["saved_bytes"] == 8 * 7 * 4096
    assert scan["findings"] == []
    if counters:
        assert before - sum(counters.values()) == 8 * 7
    done = guest.run([*SCAN, "--json"], check=False, cwd=PROJECT)
    if guest.config.kernel in RESTORES_WRONGLY:
        lab_pool.discard(guest.config)
        found = {finding["rule"] for finding in json.loads(done.stdout)["findings"]}
        assert (done.returncode, found) == (1, {"tail-decodes-to-head", "mark-is-of-hugepages"})
    else:
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("guest", [OFF[1], OFF[-1]], indirect=True, ids=str)
def test_offline_memory_is_counted_and_not_read(guest: Guest, seen: Seen) -> None:
    done = guest.run(
        "for block in $(ls -dv /sys/devices/system/memory/memory* | tac); do"
        " if echo offline > $block/state; then echo $block; break; fi; done 2>/dev/null"
    )
    block = done.stdout.strip()
    assert block
    try:
        scan = json.loads(guest.run([*SCAN, "--json"], cwd=PROJECT).stdout)
    finally:
        guest.run(f"echo online > {block}/state")
    assert scan["pages"]["offline"] == 1 << 15
    assert scan["pages"]["total"] == seen.scan["pages"]["total"]
    assert scan["findings"] == []


@pytest.mark.parametrize(
    "guest",
    [Config("7.3", hvo=True, la57=True, append="hugepages=16")],
    indirect=True,
    ids=str,
)
def test_five_levels_of_page_tables(guest: Guest) -> None:
    assert "la57" in guest.read_file("/proc/cpuinfo").decode()
    scan = json.loads(guest.run([*SCAN, "--json"], cwd=PROJECT).stdout)
    assert optimized(scan, SMALL) == 16
    assert scan["vmemmap"]["saved_bytes"] == 16 * 7 * 4096
    assert (scan["findings"], scan["pages"]["unreadable"]) == ([], 0)


def two_lines(done: Completed) -> tuple[str, str]:
    """What an error must look like: why, and what to do; never a traceback."""
    assert done.stdout == ""
    why, remedy = done.stderr.splitlines()
    assert why.startswith("hvoinspect: ")
    assert remedy.startswith("hvoinspect: ")
    return why, remedy


def as_nobody(guest: Guest, *arguments: str) -> Completed:
    """Run hvoinspect as a user who is not root, and may not see the folder the project is in."""
    seen = Path("/run/project")
    guest.run(f"mkdir -p {seen} && {{ mountpoint -q {seen} || mount --bind {PROJECT} {seen}; }}")
    python = seen / Path(PYTHON).relative_to(PROJECT)
    command = [str(python), "-m", "hvoinspect", *arguments]
    return guest.run(command, check=False, cwd=seen, user="nobody")


some_kernels = pytest.mark.parametrize("guest", [ON[1], ON[-1]], indirect=True, ids=str)


@some_kernels
def test_without_root_it_says_what_to_do(guest: Guest) -> None:
    done = as_nobody(guest, "scan")
    why, remedy = two_lines(done)
    assert done.returncode == 3
    assert "root" in why
    assert "sudo" in remedy


@some_kernels
def test_hidden_kernel_addresses_do_not_matter_to_root(guest: Guest, seen: Seen) -> None:
    before = guest.read_file("/proc/sys/kernel/kptr_restrict").decode().strip()
    guest.run("echo 2 > /proc/sys/kernel/kptr_restrict")
    try:
        done = guest.run([*SCAN, "--json"], check=False, cwd=PROJECT)
    finally:
        guest.run(f"echo {before} > /proc/sys/kernel/kptr_restrict")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["hugetlb"] == seen.scan["hugetlb"]


def is_own_view(done: Completed, pools: list[dict[str, Any]]) -> dict[str, Any]:
    """The kernel's own view: partial, and it says what it leaves out."""
    assert done.returncode == 4, done
    scan: dict[str, Any] = json.loads(done.stdout)
    assert scan["source"]["kind"] == "kpageflags"
    names = ("size_bytes", "node", "total", "free")
    assert [{name: pool[name] for name in names} for pool in scan["hugetlb"]] == pools
    assert scan["vmemmap"]["saved_bytes"] is None
    assert scan["hugetlb"][0]["optimized"] is None
    assert scan["coverage"]["struct_pages_read"] == 0
    assert any("left out" in note for note in scan["notes"])
    return scan


@some_kernels
def test_a_container_without_kcore_gets_the_kernels_own_view(guest: Guest, seen: Seen) -> None:
    """Container runtimes mask /proc/kcore with /dev/null."""
    masked = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        'mount --bind /dev/null /proc/kcore && exec "$@"',
        "-",
    ]
    done = guest.run([*masked, *SCAN, "--json"], check=False, cwd=PROJECT)
    scan = is_own_view(done, seen.witness["pools"])
    assert scan["encoding"] == seen.scan["encoding"]


LOCKED_DOWN = [
    Config(kernel, hvo=True, append="lockdown=confidentiality hugepages=16")
    for kernel in ("6.12", "7.3")
]


@pytest.mark.parametrize("guest", LOCKED_DOWN, indirect=True, ids=str)
def test_a_locked_down_kernel_gives_its_own_view(guest: Guest) -> None:
    done = guest.run([*SCAN, "--json"], check=False, cwd=PROJECT)
    pools = [{"size_bytes": SMALL, "node": 0, "total": 16, "free": 16}]
    scan = is_own_view(done, pools)
    assert scan["encoding"]["hvo_enabled"] is True
    assert "locked down" in scan["notes"][0]
    two_lines(as_nobody(guest, "scan"))
