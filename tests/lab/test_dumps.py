"""Crash dumps of real kernels, in every form, beside the scan that was taken before the panic.

Each kernel panics once; its crash kernel saves all of its memory, and a filtered dump, and scans
/proc/vmcore itself. The other forms are made of the first of these: they hold the same memory.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hvoinspect.errors import HvoinspectError
from hvoinspect.target.dumpfile import PROGRAM_HEADER, PT_LOAD
from hvoinspect.target.open import open_core
from hvoinspect.vmemmap.pages import PageClass
from hvoinspect.vmemmap.scan import scan
from lab.crash import CRASH_KERNEL, SAVE_FILTERED, SAVE_WHOLE, crash
from lab.errors import LabError
from lab.guest import Guest
from lab.machine import Config
from tests.lab.census import Census
from tests.lab.conftest import LabPool, debug_vmlinux
from tests.lab.kdump import frames_in, recompressed
from tests.lab.test_scan import LARGE, PROJECT, PYTHON, SCAN, SMALL, optimized

SAME = ("kernel", "encoding", "hugetlb", "vmemmap", "findings")
"""What does not change while nobody touches the pools; single pages and slabs come and go."""
ANEW = ("source", "taken_at", "elapsed_seconds")
"""What differs between two scans of the same memory."""
KERNELS = ("6.12", "7.3")
FRAME = 4096
SECOND_NODE = 4 << 30
"""Where the second of two nodes of 2 GiB begins: below is room for devices."""
IMAGE = 64 << 20
"""Bytes that hold the rest of a kernel's image, behind its page tables' root."""
SCAN_VMCORE = f"cd {PROJECT} && exec {PYTHON} -m hvoinspect scan --json -c /proc/vmcore"


# The crash kernel itself does with 256M; a scan in it does not.
POOLS = "hugepagesz=1G hugepages=1 hugepagesz=2M hugepages=32 crashkernel=512M"
ON = [Config(kernel, hvo=True, memory="4G", nodes=2, append=POOLS) for kernel in KERNELS]
OFF = [Config(kernel, hvo=False, append=f"hugepages=32 {CRASH_KERNEL}") for kernel in KERNELS]


@dataclass(frozen=True)
class Crashed:
    """A kernel that panicked: what was seen before, and the dumps that are left of it.

    `kind` and `head` uint8[pfns] and uint64[pfns]: each page right before the panic.
    """

    config: Config
    live: dict[str, Any]
    kind: NDArray[np.uint8]
    head: NDArray[np.uint64]
    in_crash_kernel: dict[str, Any]
    whole: Path
    filtered: Path


Crash = Callable[[Config], Crashed]


@pytest.fixture(scope="session")
def crash_once(lab_pool: LabPool, tmp_path_factory: pytest.TempPathFactory) -> Crash:
    """Panic a guest of a configuration, once a session."""
    known: dict[Config, Crashed | LabError] = {}

    def crash_once(wanted: Config) -> Crashed:
        if wanted not in known:
            for seen in known.values():  # dumps are big
                if isinstance(seen, Crashed):
                    shutil.rmtree(seen.whole.parent)
            known.clear()
            folder = tmp_path_factory.mktemp("dumps")
            try:
                known[wanted] = panic(lab_pool.guest(wanted), folder)
            except LabError as error:
                known[wanted] = error
        found = known[wanted]
        if isinstance(found, LabError):
            raise found
        return found

    return crash_once


def panic(guest: Guest, folder: Path) -> Crashed:
    done = guest.run([*SCAN, "--json"], check=False, cwd=PROJECT)
    assert done.returncode == 0, done
    guest.run([PYTHON, "tests/lab/census.py", guest.work / "census.npz"], cwd=PROJECT)
    scan_there = f"({SCAN_VMCORE}) >in-crash-kernel.json"
    whole, filtered = crash(guest, (SAVE_WHOLE, SAVE_FILTERED, scan_there))
    with np.load(guest.work / "census.npz") as census:
        kind, head = census["kind"], census["head"]
    return Crashed(
        config=guest.config,
        live=json.loads(done.stdout),
        kind=kind,
        head=head,
        in_crash_kernel=json.loads((guest.work / "in-crash-kernel.json").read_text()),
        whole=Path(shutil.move(whole, folder / "vmcore")),
        filtered=Path(shutil.move(filtered, folder / "vmcore.lzo")),
    )


@pytest.fixture
def crashed(guest_config: Config, crash_once: Crash) -> Crashed:
    return crash_once(guest_config)


@pytest.fixture
def guest_config(request: pytest.FixtureRequest) -> Config:
    config: Config = request.param
    return config


with_hvo_on = pytest.mark.parametrize("guest_config", ON, indirect=True, ids=str)


def scan_of(dump: Path, *options: str, status: int = 0) -> dict[str, Any]:
    """The scan's JSON, and that it ends as it should: never with a traceback."""
    command = [sys.executable, "-m", "hvoinspect", "scan", "--json", "-c", str(dump), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=PROJECT)
    assert (done.returncode, done.stderr) == (status, "")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def of_memory(result: dict[str, Any]) -> dict[str, Any]:
    """All of a scan that only depends on the memory it read."""
    return {name: value for name, value in result.items() if name not in ANEW}


def makedumpfile(*arguments: str | Path, output: Path | None = None) -> None:
    """Run it; with `output`, it writes there what it prints."""
    command = ["makedumpfile", *map(str, arguments)]
    if output is None:
        subprocess.run(command, check=True, capture_output=True)
    else:
        with output.open("wb") as file:
            subprocess.run(command, check=True, stdout=file, stderr=subprocess.PIPE)


@with_hvo_on
def test_what_a_crash_kernel_saves_is_what_the_live_scan_saw(crashed: Crashed) -> None:
    """Whole, filtered, and /proc/vmcore itself."""
    live = crashed.live
    assert optimized(live, SMALL) == 32
    assert optimized(live, LARGE) == 1
    whole, filtered = scan_of(crashed.whole), scan_of(crashed.filtered)
    for found in (whole, filtered, crashed.in_crash_kernel):
        assert found["source"]["kind"] == "core"
        assert found["source"]["debug_info"] == ["vmcoreinfo", "btf"]
        assert {part: found[part] for part in SAME} == {part: live[part] for part in SAME}
        assert found["pages"]["fake_head"] == live["pages"]["fake_head"]
        assert found["pages"]["total"] == live["pages"]["total"]
        assert (found["pages"]["unreadable"], found["coverage"]["fraction"]) == (0, 1.0)
    # One memory: not a page may differ between them.
    assert of_memory(whole) == of_memory(filtered) == of_memory(crashed.in_crash_kernel)


@with_hvo_on
def test_the_pages_that_changed_before_the_panic_are_of_no_hugepage(crashed: Crashed) -> None:
    """Between the scan and the panic programs ended and began: their pages came and went.

    What changed is slabs, page tables' and files' pages, none of which the pools hold.
    """
    kernel = open_core(crashed.whole)
    census = Census(kernel)
    huge = scan(kernel).hugepages
    assert len(huge) == 33
    changed = (census.kind != crashed.kind) | (census.head != crashed.head)
    for pfn, order in zip(huge.pfn.tolist(), huge.order.tolist(), strict=True):
        assert not changed[pfn : pfn + (1 << order)].any()
    assert changed.mean() < 0.02
    # Memory that is there stays there.
    holes = PageClass.HOLE
    assert np.array_equal(census.kind == holes, crashed.kind == holes)


FORMS: dict[str, Callable[[Path, Path], None]] = {
    "zlib": lambda whole, out: makedumpfile("-c", "-d", "31", whole, out),
    "snappy": lambda whole, out: recompress(whole, out, "snappy"),
    "zstd": lambda whole, out: recompress(whole, out, "zstd"),
    "uncompressed": lambda whole, out: makedumpfile("-d", "31", whole, out),
    "elf": lambda whole, out: makedumpfile("-E", "-d", "31", whole, out),
    "flattened": lambda whole, out: makedumpfile("-F", "-l", "-d", "31", whole, output=out),
    "flattened elf": lambda whole, out: makedumpfile("-F", "-E", "-d", "31", whole, output=out),
}


def recompress(whole: Path, out: Path, how: str) -> None:
    """Debian 12's makedumpfile is built without snappy and zstd."""
    plain = out.with_suffix(".plain")
    makedumpfile("-d", "31", whole, plain)
    recompressed(plain, out, how)
    plain.unlink()


@with_hvo_on
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_dump_gives_the_same_scan(
    crashed: Crashed, form: str, tmp_path: Path
) -> None:
    dump = tmp_path / "vmcore"
    FORMS[form](crashed.whole, dump)
    assert of_memory(scan_of(dump)) == of_memory(scan_of(crashed.filtered))
    dump.unlink()


@with_hvo_on
def test_the_capture_of_a_dump_is_the_dumps_scan(crashed: Crashed, tmp_path: Path) -> None:
    capture = tmp_path / "crashed.hvo"
    command = [sys.executable, "-m", "hvoinspect", "capture", "-o", str(capture), "-c"]
    subprocess.run([*command, str(crashed.filtered)], check=True, cwd=PROJECT)
    captured, whole = of_memory(scan_of(capture)), of_memory(scan_of(crashed.whole))
    # Whose it was is nobody's business who gets a capture.
    assert captured.pop("host") == {"name": None, "boot_id": None}
    assert whole.pop("host")["name"]
    assert captured == whole


IN_DRGN = f"""
import json
from drgn.commands import run_command
from drgn.helpers.linux.mm import *
from hvoinspect.plugin.helpers import *
pages = list(for_each_hugetlb_page())
first_node = {SECOND_NODE >> 12}
apart = [hex(p.page) for p in pages
         if (PageHead(p.page), compound_order(p.page), page_to_pfn(p.page) >= first_node)
         != (True, p.order, p.node == 1)]
for page in [page + tail for page, *_ in pages for tail in (1, 63, 64, 511)]:
    if hvo_page(page)["head_pfn"] != page_to_pfn(compound_head(page)):
        apart.append(hex(page))
orders = [sum(p.order == order and p.optimized for p in pages) for order in (9, 18)]
print(json.dumps({{"orders": orders, "apart": apart}}))
run_command(prog, "hvo scan --json")
"""


@with_hvo_on
def test_drgn_with_debug_information_agrees(crashed: Crashed) -> None:
    """The plugin in a session of drgn with DWARF: its helpers beside drgn's own."""
    vmlinux = debug_vmlinux(crashed.config.kernel)
    drgn = [str(Path(PYTHON).with_name("drgn")), "--log-level", "error", "--no-default-symbols"]
    done = subprocess.run(
        [*drgn, "-c", str(crashed.filtered), "-s", str(vmlinux), "-e", IN_DRGN],
        env=os.environ | {"DRGN_PLUGINS": "hvo=hvoinspect.plugin", "DRGN_DISABLE_PLUGINS": "*"},
        capture_output=True,
        text=True,
        check=True,
        cwd=PROJECT,
    )
    assert done.stderr == ""
    helpers, scan = done.stdout.split("\n", 1)
    assert json.loads(helpers) == {"orders": [32, 1], "apart": []}
    in_drgn, alone = of_memory(json.loads(scan)), of_memory(scan_of(crashed.filtered))
    assert in_drgn == alone


def is_part_of(dump: Path, whole: Path) -> NDArray[np.bool_] | None:
    """What is missing is told as missing; each page that is seen is what it is in the whole dump.

    Above all, it is not taken for zeros, which would be a single page. Returns which are missing,
    bool[pfns]; None if the dump is refused for that.
    """
    try:
        part = Census(open_core(dump))
    except HvoinspectError as error:
        # Seen once of several runs, on 7.3: a page table of the kernel's own data is left out too.
        if "Excluded page" not in error.why:
            raise
        return None
    all_ = Census(open_core(whole))
    unseen: NDArray[np.bool_] = part.kind == PageClass.UNREADABLE
    assert unseen.any()
    assert not unseen.all()
    assert np.array_equal(part.kind[~unseen], all_.kind[~unseen])
    assert np.array_equal(part.head[~unseen], all_.head[~unseen])
    found = scan_of(dump, "--exhaustive", status=4)
    assert found["pages"]["unreadable"] == unseen.sum()
    # What a head or a free block covers is inferred from it, and only that is seen more of.
    quick = scan_of(dump, status=4)
    more = int(unseen.sum()) - quick["pages"]["unreadable"]
    assert 0 <= more <= quick["coverage"]["struct_pages_inferred"]
    assert found["pages"]["total"] == (all_.kind != PageClass.HOLE).sum()
    assert 0 < found["coverage"]["fraction"] < 1
    assert "does not hold" in found["notes"][0]
    return unseen


@pytest.mark.parametrize("guest", OFF, indirect=True, ids=str)
def test_what_makedumpfile_e_leaves_out_is_missing_and_not_zero(
    guest: Guest, tmp_path: Path
) -> None:
    """`-e` leaves out struct pages of what `-d` leaves out, where HVO has not split the vmemmap.

    In a kdump file their pages are missing, in an ELF file they are a range without content. How
    many, down to none in an ELF file, differs from one boot to the next: the file tells.
    """
    crash(guest, [SAVE_WHOLE])
    whole = Path(shutil.move(guest.work / "vmcore", tmp_path / "whole"))
    census, any_lost = Census(open_core(whole)), False
    for form, frames in (("-l", frames_in), ("-E", frames_in_elf)):
        dump = tmp_path / f"vmcore{form}"
        makedumpfile("-e", "--work-dir", tmp_path, form, "-d", "31", whole, dump)
        lost = census.outside(frames(dump))
        if not lost.any():
            assert of_memory(scan_of(dump)) == of_memory(scan_of(whole))
            continue
        any_lost = True
        unseen = is_part_of(dump, whole)
        assert unseen is None or np.array_equal(unseen, lost)
    whole.unlink()
    if not any_lost:
        pytest.skip("makedumpfile -e left out no struct page")


@with_hvo_on
def test_what_a_cut_dump_lacks_is_missing_and_not_zero(crashed: Crashed, tmp_path: Path) -> None:
    """A copy that broke off behind the first node's memory still shows that node.

    The kernel's table of sections is at the end of memory, so page tables stand in for it. Their
    root is in the kernel's image, which KASLR may put behind the first node.
    """
    dump = tmp_path / "vmcore"
    subprocess.run(["cp", "--sparse=always", crashed.whole, dump], check=True)
    dump.chmod(0o600)
    root = open_core(crashed.whole).paging.root_physical
    cut = max(offset_in(dump, SECOND_NODE), offset_in(dump, root) + IMAGE)
    os.truncate(dump, cut)
    is_part_of(dump, crashed.whole)
    assert "table of memory sections is missing" in scan_of(dump, status=4)["notes"][1]


def loads_of(dump: Path) -> NDArray[np.void]:
    """The PT_LOAD program headers of an ELF dump."""
    with dump.open("rb") as file:
        header = file.read(64)
        (table,), (count,) = (
            struct.unpack_from("<Q", header, 32),
            struct.unpack_from("<H", header, 56),
        )
        file.seek(table)
        segments = np.frombuffer(file.read(count * PROGRAM_HEADER.itemsize), PROGRAM_HEADER)
    loads: NDArray[np.void] = segments[segments["type"] == PT_LOAD]
    return loads


def frames_in_elf(dump: Path) -> NDArray[np.bool_]:
    """Which frames of memory are in an ELF dump, bool[frames]."""
    loads = loads_of(dump)
    start, size = loads["physical"] // FRAME, loads["file_size"] // FRAME
    held = np.zeros(int((loads["physical"] + loads["size"]).max()) // FRAME, np.bool_)
    for first, count in zip(start.tolist(), size.tolist(), strict=True):
        held[first : first + count] = True
    return held


def offset_in(dump: Path, physical: int) -> int:
    """Where an ELF dump has a physical address.

    The kernel's image is in it twice, and first of all; drgn takes the last.
    """
    loads = loads_of(dump)
    inside = loads[(loads["physical"] <= physical) & (physical < loads["physical"] + loads["size"])]
    return int(inside[-1]["offset"]) + physical - int(inside[-1]["physical"])


@with_hvo_on
@pytest.mark.parametrize("form", ["zlib", "elf"])
def test_a_filtered_dump_cut_anywhere_is_refused_or_seen_in_part(
    crashed: Crashed, form: str, tmp_path: Path
) -> None:
    dump, part = tmp_path / "vmcore", tmp_path / "cut"
    FORMS[form](crashed.whole, dump)
    for sixteenth in range(1, 16, 2):
        shutil.copyfile(dump, part)
        os.truncate(part, dump.stat().st_size * sixteenth // 16)
        command = [sys.executable, "-m", "hvoinspect", "scan", "--json", "-c", str(part)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=PROJECT)
        if done.returncode == 4:
            is_part_of(part, crashed.whole)
        else:
            assert (done.returncode, done.stdout) == (3, "")
            assert [line[:12] for line in done.stderr.splitlines()] == ["hvoinspect: "] * 2
