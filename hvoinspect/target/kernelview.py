"""The running kernel's own view of its pages: what can be told without reading its memory.

/proc/kpageflags (Documentation/admin-guide/mm/pagemap.rst; bits in
include/uapi/linux/kernel-page-flags.h), the hugepage pools in sysfs, the sysctl of HVO, and the
kernel's types. No page table is seen, so neither what HVO really saves nor whether it is intact.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import drgn
import numpy as np
from drgn import Program
from numpy.typing import NDArray

from hvoinspect.target.btf import Btf, read_btf
from hvoinspect.target.btf_types import register_types
from hvoinspect.target.denied import no_kpageflags
from hvoinspect.target.facts import Facts
from hvoinspect.target.host import hvo_setting, read_text
from hvoinspect.target.layout import Identity, StructPage
from hvoinspect.target.notes import running_build_id
from hvoinspect.target.page_layout import learn_page_layout

COMPOUND_HEAD, COMPOUND_TAIL, HUGE, NO_PAGE = 1 << 15, 1 << 16, 1 << 17, 1 << 20
"""Bits of /proc/kpageflags; NO_PAGE is set for holes and for offline memory."""

READ_WORDS = 1 << 17
"""Words of one read: 1 MiB."""


@dataclass(frozen=True)
class Pool:
    """The hugepages of one size on one node, as sysfs counts them."""

    size_bytes: int
    node: int
    total: int
    free: int


@dataclass(frozen=True)
class OwnWord:
    """What a running kernel is, by its own word."""

    identity: Identity
    page: StructPage
    has_shared_tails: bool
    hvo_supported: bool | None
    """None where neither the sysctl nor the types can tell."""
    hvo_enabled: bool | None


@dataclass(frozen=True)
class KernelView:
    """What a running kernel tells of its pages. `head`, `tail`, `single` count struct pages."""

    kernel: OwnWord
    head: int
    tail: int
    single: int
    pools: tuple[Pool, ...]


def look(
    root: Path = Path("/"), progress: Callable[[int, int], None] = lambda _done, _total: None
) -> KernelView:
    """Return the running kernel's own view; `root` is where /proc and /sys are.

    Raises HvoinspectError if /proc/kpageflags or the kernel's BTF cannot be read.
    """
    kernel = identify(root)
    head, tail, single = _count(root / "proc/kpageflags", _spanned_pages(root), progress)
    return KernelView(
        kernel=kernel,
        head=head,
        tail=tail,
        single=single,
        pools=tuple(_pools(root / "sys/devices/system/node", root / "sys/kernel/mm/hugepages")),
    )


def identify(root: Path = Path("/")) -> OwnWord:
    """Return what the running kernel is; nobody's memory is read, and anyone may ask.

    Raises HvoinspectError if the kernel's BTF cannot be read.
    """
    prog = Program(drgn.Platform(drgn.host_platform.arch))
    btf = Btf.parse(read_btf(root / "sys/kernel/btf/vmlinux"))
    register_types(prog, btf)
    facts = Facts(prog, {}, "btf")
    supported, enabled = hvo_setting(root)
    shared = facts.member("zone", "vmemmap_tails") is not None
    uname = os.uname()
    build_id = running_build_id(root / "sys/kernel/notes")
    return OwnWord(
        identity=Identity(uname.release, build_id, uname.machine, os.sysconf("SC_PAGE_SIZE")),
        page=learn_page_layout(facts),
        has_shared_tails=shared,
        hvo_supported=shared or supported,
        hvo_enabled=enabled,
    )


def read_kpageflags(pfn: int, path: Path = Path("/proc/kpageflags")) -> int | None:
    """Return the kernel's flags of one page, or None if they cannot be had."""
    try:
        with path.open("rb", buffering=0) as file:
            word = os.pread(file.fileno(), 8, pfn * 8)
    except OSError:
        return None
    return int.from_bytes(word, "little") if len(word) == 8 else None


def _count(path: Path, expected: int, progress: Callable[[int, int], None]) -> tuple[int, int, int]:
    """Count heads, tails and single pages in a kpageflags file."""
    counts = np.zeros(3, np.int64)
    done = 0
    try:
        with path.open("rb", buffering=0) as file:
            while data := file.read(READ_WORDS * 8):
                counts += _classes(np.frombuffer(data[: len(data) // 8 * 8], "<u8"))
                done += len(data) // 8
                progress(min(done, expected), expected)
    except OSError as error:
        raise no_kpageflags(path, error) from error
    return int(counts[0]), int(counts[1]), int(counts[2])


def _classes(flags: NDArray[np.uint64]) -> NDArray[np.int64]:
    page = (flags & np.uint64(NO_PAGE)) == 0
    head = page & ((flags & np.uint64(COMPOUND_HEAD)) != 0)
    tail = page & ((flags & np.uint64(COMPOUND_TAIL)) != 0) & ~head
    return np.array([head.sum(), tail.sum(), (page & ~head & ~tail).sum()], np.int64)


def _spanned_pages(root: Path) -> int:
    """Return about how many pages kpageflags has, for progress: the end of the last zone."""
    text = read_text(root / "proc/zoneinfo") or ""
    ends = [
        int(start) + int(spanned)
        for spanned, start in re.findall(r"spanned\s+(\d+).*?start_pfn:\s+(\d+)", text, re.DOTALL)
    ]
    return max(ends, default=1)


def _pools(nodes: Path, machine: Path) -> Iterator[Pool]:
    """Return the pools a node, or the machine's where there are no nodes."""
    folders = [(int(path.name[4:]), path / "hugepages") for path in nodes.glob("node[0-9]*")]
    for node, folder in sorted(folders) or [(0, machine)]:
        for pool in sorted(folder.glob("hugepages-*kB")):
            size = re.fullmatch(r"hugepages-(\d+)kB", pool.name)
            total, free = read_text(pool / "nr_hugepages"), read_text(pool / "free_hugepages")
            if size and total and free and total.isdecimal() and free.isdecimal() and int(total):
                yield Pool(int(size[1]) * 1024, node, int(total), int(free))
