"""Results of the situations that a report must tell apart, each from a machine made for it."""

from __future__ import annotations

import copy
import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache

import numpy as np

from hvoinspect.report.result import ScanResult, Taken, result_of, result_of_view
from hvoinspect.target.kernelview import KernelView, OwnWord, Pool
from hvoinspect.target.layout import Hvo, Identity, Kernel
from hvoinspect.vmemmap.scan import Scan, scan
from tests.madeup import COMPOUND, ORDER_1G, ORDER_2M, SECTION_PAGES, WRITABLE, Machine, Tail

TAKEN = Taken(dt.datetime(2026, 3, 1, 12, 30, tzinfo=dt.UTC), 1.23456)
HUGE = 5 << ORDER_2M


def pool(tail: Tail) -> Machine:
    """Two nodes: four 2 MiB pages with HVO and one without, a 1 GiB page, a slab."""
    machine = Machine(tuple(range(12)), tail=tail)
    machine.hugetlb(0, ORDER_1G, free=True)
    first = 9 * SECTION_PAGES
    for number in range(4):
        machine.hugetlb(first + (number << ORDER_2M), free=number % 2 == 0)
    machine.hugetlb(first + (4 << ORDER_2M), hvo=False)
    machine.slab(8 * SECTION_PAGES, 3)
    return machine


def partial() -> Machine:
    """The frame of 64 struct pages cannot be read."""
    machine = Machine((0, 1))
    machine.hugetlb(HUGE)
    lost = machine.frame_of(machine.address_of(SECTION_PAGES))
    assert lost is not None
    machine.unreadable.add(lost)
    return machine


def offline() -> Machine:
    machine = Machine((0, 1), offline=frozenset({1}))
    machine._set_words(SECTION_PAGES, 5000, COMPOUND, 0xDEAD_BEEF)
    return machine


def writable_tail(machine: Machine) -> None:
    """An error."""
    table, index = machine.entry(HUGE)
    machine.frames[table, index + 3] |= np.uint64(WRITABLE)


def counted_twice(machine: Machine) -> None:
    """A warning."""
    machine.total[ORDER_2M, 0] = 2


def partly_remapped(machine: Machine) -> None:
    """A state: one tail vmemmap page has a writable frame of its own."""
    table, index = machine.entry(HUGE)
    fresh, old = machine.allocate(), machine.frame_of(machine.address_of(HUGE + 3 * 64))
    machine.frames[fresh] = machine.frames[old]
    machine.frames[table, index + 3] = machine._entry(fresh, WRITABLE)


def with_hugepage(corrupt: Callable[[Machine], None]) -> Machine:
    machine = Machine((0,))
    machine.hugetlb(HUGE)
    corrupt(machine)
    return machine


def scanned(machine: Machine, hvo: Hvo | None = None) -> Scan:
    kernel: Kernel = machine.kernel()
    return scan(replace(kernel, hvo=hvo) if hvo else kernel)


def hvo(enabled: bool | None) -> Hvo:
    return Hvo(supported=True, enabled=enabled, has_shared_tails=True)


NOT_BUILT = Hvo(supported=False, enabled=None, has_shared_tails=False)


def view(
    *, supported: bool | None = True, enabled: bool | None = False, shared: bool = True
) -> KernelView:
    """A kernel's own view, as of a host whose /proc/kcore is forbidden."""
    return KernelView(
        kernel=OwnWord(
            identity=Identity("7.1.0-made-up", None, "x86_64", 4096),
            page=Machine((0,)).kernel().page,
            has_shared_tails=shared,
            hvo_supported=supported,
            hvo_enabled=enabled,
        ),
        head=10,
        tail=500,
        single=1000,
        pools=(Pool(1 << 30, 0, 1, 0), Pool(2 << 20, 1, 7, 3), Pool(2 << 20, 0, 5, 5)),
    )


def own(seen: KernelView) -> ScanResult:
    return result_of_view(
        seen, TAKEN, "the kernel does not let even root read /proc/kcore; lift it"
    )


SITUATIONS: Mapping[str, Callable[[], ScanResult]] = {
    "pointer": lambda: result_of(scanned(pool("pointer")), TAKEN),
    "mask": lambda: result_of(scanned(pool("mask")), TAKEN),
    "partial": lambda: result_of(scanned(partial()), TAKEN),
    "offline": lambda: result_of(scanned(offline()), TAKEN),
    "no hugetlb": lambda: result_of(scanned(Machine((0,))), TAKEN),
    "not built": lambda: result_of(scanned(Machine((0,)), NOT_BUILT), TAKEN),
    "off": lambda: result_of(scanned(Machine((0,)), hvo(enabled=False)), TAKEN),
    "was on": lambda: result_of(
        scanned(with_hugepage(lambda _machine: None), hvo(enabled=False)), TAKEN
    ),
    "on, unknown": lambda: result_of(scanned(Machine((0,)), hvo(enabled=None)), TAKEN),
    "error": lambda: result_of(scanned(with_hugepage(writable_tail)), TAKEN),
    "warning": lambda: result_of(scanned(with_hugepage(counted_twice)), TAKEN),
    "partly": lambda: result_of(scanned(with_hugepage(partly_remapped)), TAKEN),
    "own view": lambda: own(view()),
    "own view, unknown": lambda: own(view(supported=None, enabled=None, shared=False)),
}


@cache
def _made(name: str) -> ScanResult:
    return SITUATIONS[name]()


def situation(name: str) -> ScanResult:
    """The result of one situation, to be changed at will."""
    return copy.deepcopy(_made(name))
