"""What a scan is measured beside does what it says: a rival that does less would win unfairly."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from bench.needed import core_reader, default_frames, kdump_reader, needed_frames
from bench.process import peak_memory, run
from bench.rivals import count_kpageflags, drgn_loop, sample
from hvoinspect.target.choice import Target
from hvoinspect.target.kernelview import COMPOUND_HEAD, COMPOUND_TAIL, HUGE, NO_PAGE
from hvoinspect.target.open import learn_opened, open_core, open_program
from lab.errors import LabError
from tests.bigmachine.dump import write_dump
from tests.bigmachine.makeup import Makeup
from tests.madeup import TAILS, Tail

MAKEUP = Makeup(gigantic=1, huge=1, ordinary=2, slab=1, free=1)


@pytest.fixture(scope="module")
def dump(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("machine") / "dump"
    write_dump(MAKEUP, path)
    return path


@pytest.mark.parametrize("jobs", [1, 2])
def test_the_bound_reads_every_frame_and_page_table_once(dump: Path, jobs: int) -> None:
    frames = needed_frames(open_core(dump))
    vmemmap = MAKEUP.expected()["vmemmap"]
    assert len(frames) == vmemmap["frames"] + vmemmap["pte_tables"]
    assert core_reader(dump, frames, jobs)() == len(frames) * 4096


def test_gathering_is_reading_and_copying_three_bytes_of_each_struct_page(dump: Path) -> None:
    kernel = open_core(dump)
    frames = needed_frames(kernel)
    assert core_reader(dump, frames, 1, kernel.page)() == len(frames) * (4096 + 3 * 64)


def test_a_default_scan_reads_some_of_these_frames(dump: Path) -> None:
    kernel = open_core(dump)
    needed, read = needed_frames(kernel), default_frames(kernel)
    upper = read[~np.isin(read, needed)]  # page tables that lead to page tables
    assert 0 < len(upper) < 8
    assert 0.1 < (len(read) - len(upper)) / len(needed) < 0.9


@pytest.mark.parametrize("jobs", [1, 2])
def test_the_bound_unpacks_the_pages_that_are_asked_for(tmp_path: Path, jobs: int) -> None:
    """One is packed, one is not, one is left out of the dump, one is not asked for."""
    path = tmp_path / "kdump"
    rng = np.random.default_rng(0)
    plain = {3: bytes(4096), 9: rng.bytes(4096), 20: b"not asked for".ljust(4096)}
    block, half = 4096, 4096
    bitmap = np.zeros(half * 8, np.uint8)
    bitmap[list(plain)] = 1
    bits = np.packbits(bitmap, bitorder="little").tobytes()
    start = 2 * block + 2 * half
    descriptors, content = b"", b""
    for page in plain.values():
        packed = zlib.compress(page)
        kept, flag = (packed, 1) if len(packed) < 4096 else (page, 0)
        at = start + len(plain) * 24 + len(content)
        descriptors += struct.pack("<QIIQ", at, len(kept), flag, 0)
        content += kept
    header = struct.pack("<428xIII", block, 1, 2).ljust(2 * block, b"\0")
    path.write_bytes(header + bits + bits + descriptors + content)
    asked = np.array([3, 9, 10], np.uint64)
    assert kdump_reader(path, asked, jobs)() == 2 * 4096


@pytest.mark.parametrize("tail", TAILS)
def test_drgn_is_asked_of_pages_from_all_of_memory(tail: Tail, tmp_path: Path) -> None:
    write_dump(Makeup(tail, gigantic=1, huge=0, ordinary=1, slab=0, free=0), tmp_path / "dump")
    opened = open_program(Target(core=tmp_path / "dump"))
    kernel = learn_opened(opened, None)
    pfns = sample(kernel, 200)
    assert pfns == sorted(sample(kernel, 200))
    assert 0.3 < sum(pfn >= 1 << 18 for pfn in pfns) / 200 < 0.7
    assert max(pfns) < 2 << 18
    assert drgn_loop(opened.prog, [0, 1 << 18, (1 << 18) + 1, (1 << 18) + 64]) == 1


def test_kpageflags_is_counted_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "kpageflags"
    words = np.zeros((1 << 17) + 5, "<u8")  # a read, and a bit of the next
    words[[7, 1 << 17]] = COMPOUND_HEAD | HUGE
    words[9] = COMPOUND_HEAD
    words[[8, 10, -1]] = COMPOUND_TAIL | HUGE
    words[:5] = NO_PAGE
    path.write_bytes(words.tobytes())
    assert count_kpageflags(path=path) == {
        "struct_pages": 1 << 17,
        "heads": 3,
        "tails": 3,
        "huge_heads": 2,
    }
    assert count_kpageflags(2, path)["struct_pages"] == (1 << 17) - 5


def test_memory_is_that_of_a_process_and_its_children() -> None:
    hold = "x = bytearray(b'x') * (64 << 20); import time; time.sleep(0.5)"
    child = f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {hold!r}]); "
    memory = peak_memory(["/usr/bin/python3", "-c", f"{child}{hold}; p.wait()"])
    assert 128 << 20 < memory < 256 << 20


def test_a_command_that_fails_is_an_error() -> None:
    with pytest.raises(LabError, match="ended with status 3"):
        run(["/usr/bin/python3", "-c", "raise SystemExit(3)"])
