"""Finds the inlined copies of a kernel's helpers in a vmlinux with DWARF."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass
from pathlib import Path

from hvoinspect.errors import HvoinspectError
from hvoinspect.hotpath.flow import Flows, own_name
from hvoinspect.hotpath.helpers import HELPERS
from hvoinspect.hotpath.libdw import Dwarf
from hvoinspect.hotpath.sitesfile import Copy, Sites
from hvoinspect.hotpath.vmlinux import REMEDY, Vmlinux

MAX_COPIES = 50_000
"""Kernels have some 2,000; what claims more is damaged, and would not fit a sites file."""

DEBUG = Path("/usr/lib/debug")

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class _Found:
    helper: str
    entry: int
    ranges: tuple[tuple[int, int], ...]


def sites_of(
    path: Path, progress: Progress = lambda _done, _total: None, helpers: Set[str] = HELPERS.keys()
) -> Sites:
    """Return all copies in the kernel `path`, by address.

    `function` of a copy is the function's symbol whose code it is entered in, without the suffix of
    a cold piece. Copies of which the compiler left no code are not there. Modules are other files.
    Link-time optimization across files is not followed: libdw looks for copies of a function in
    its own compilation unit. Raises HvoinspectError if `path` is no such file, or damaged.
    """
    with Vmlinux(path) as kernel:
        build_id, release, stext = kernel.build_id, kernel.release, kernel.stext
        found = set(_found(kernel, helpers))
        flows = Flows(kernel.function_at, kernel.code)
        copies = []
        for done, one in enumerate(sorted(found, key=lambda one: (one.entry, one.helper))):
            progress(done, len(found))
            copies.append(_copy(kernel, flows, one))
    return Sites(build_id, release, stext, tuple(copies))


def find_vmlinux(
    build_id: str | None,
    release: str,
    debug: Path = DEBUG,
    *,
    open_: Callable[[Path], Vmlinux] = Vmlinux,
) -> Path:
    """Return the vmlinux of a kernel from where distributions' debug packages put it.

    Only one with that build-id is returned. Raises HvoinspectError if there is none.
    """
    if build_id is None:
        raise HvoinspectError(
            "the running kernel does not tell its build-id in /sys/kernel/notes",
            "name its vmlinux with --vmlinux PATH",
        )
    other = ""
    for path in (
        debug / ".build-id" / build_id[:2] / f"{build_id[2:]}.debug",
        debug / "boot" / f"vmlinux-{release}",
        debug / "lib/modules" / release / "vmlinux",
    ):
        if not os.path.exists(path):  # noqa: PTH110 - Path.exists() raises where a folder is closed
            continue
        with open_(path) as kernel:
            if kernel.build_id == build_id:
                return path
        other = f"; {path} is of another build"
    raise HvoinspectError(
        f"no vmlinux with DWARF of {release}, build-id {build_id}, is in {debug}{other}",
        f"install its debug package (Debian: linux-image-{release}-dbg), or give --vmlinux PATH, "
        "or --sites FILE made where it is",
    )


def _found(kernel: Vmlinux, helpers: Set[str]) -> Iterator[_Found]:
    names = frozenset(helper.encode() for helper in helpers)
    count = 0
    with Dwarf(kernel.descriptor, str(kernel.path), REMEDY) as dwarf:
        for unit in dwarf.units():
            for name, function in dwarf.functions(unit, names):
                # A body of its own is a copy, too; the abstract entry has no code.
                for die in (
                    function,
                    *(dwarf.copies(function) if dwarf.is_inlined(function) else ()),
                ):
                    ranges = tuple((start, end - start) for start, end in dwarf.ranges(die))
                    if not ranges:
                        continue
                    entry = dwarf.entry(die)
                    # Compilers leave it out at times; such copies begin where they are lowest.
                    yield _Found(name.decode(), ranges[0][0] if entry is None else entry, ranges)
                    count += 1
                    if count > MAX_COPIES:
                        kernel.refuse("has damaged debug data: too many copies")


def _copy(kernel: Vmlinux, flows: Flows, found: _Found) -> Copy:
    function = kernel.function_at(found.entry)
    if function is None:
        kernel.refuse(f"has damaged debug data: code at {found.entry:#x} is in no function")
    flow = flows.of(function)
    return Copy(
        helper=found.helper,
        function=own_name(function.name),
        address=found.entry,
        bytes=sum(size for _, size in found.ranges),
        instructions=sum(flow.instructions(start, start + size) for start, size in found.ranges),
        ranges=found.ranges,
        in_loop=flow.returns_to(found.entry),
    )
