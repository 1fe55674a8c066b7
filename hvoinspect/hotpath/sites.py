"""Finds the inlined copies of a kernel's helpers in a vmlinux with DWARF."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass
from pathlib import Path

from hvoinspect.hotpath.flow import Flows, own_name
from hvoinspect.hotpath.helpers import HELPERS
from hvoinspect.hotpath.libdw import Dwarf
from hvoinspect.hotpath.sitesfile import MAX_IMAGE, Copy, Sites
from hvoinspect.hotpath.vmlinux import REMEDY, Function, Vmlinux

MAX_COPIES = 50_000
"""Kernels have some 2,000; what claims more is damaged, and would not fit a sites file."""

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
        flows = Flows(kernel.function_at, kernel.code, kernel.static_branches)
        copies = []
        for done, one in enumerate(sorted(found, key=lambda one: (one.entry, one.helper))):
            progress(done, len(found))
            copies.append(_copy(kernel, flows, one))
    return Sites(build_id, release, stext, tuple(copies))


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
    function = _function_at(kernel, found.entry)
    return Copy(
        helper=found.helper,
        function=own_name(function.name),
        address=found.entry,
        bytes=sum(size for _, size in found.ranges),
        instructions=sum(_instructions(kernel, flows, *piece) for piece in found.ranges),
        ranges=found.ranges,
        in_loop=flows.of(function).returns_to(found.entry),
    )


def _instructions(kernel: Vmlinux, flows: Flows, start: int, size: int) -> int:
    function = _function_at(kernel, start)
    count = flows.of(function).instructions(start, start + size)
    if start + size > function.end or count == 0:
        kernel.refuse(f"has damaged debug data: the code at {start:#x} is not as it says")
    return count


def _function_at(kernel: Vmlinux, address: int) -> Function:
    function = kernel.function_at(address)
    if function is None or not function.name or abs(address - kernel.stext) >= MAX_IMAGE:
        kernel.refuse(f"has damaged debug data: code at {address:#x} is in no function")
    return function
