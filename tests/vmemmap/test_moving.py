"""A live machine that goes to and fro between two sound states: no mixture of them is a finding.

Time is what is read, a tick a page, and a pause lasts until the machine is where it was before: so
each look at it may show the very same mixture, and only looks at a place that are not far apart
tell what is there. `pace` is how many ticks the machine stays as it is.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from hvoinspect.target.layout import VMEMMAP_PAGE, Counters, Kernel, TailFrames
from hvoinspect.target.memory import ByRanges
from hvoinspect.vmemmap.scan import scan
from tests.madeup import ARENA, ORDER_2M, PAGE_TYPE, PGTY_BUDDY, PRIVATE, TAILS, Machine, Tail

HUGE = 5 << ORDER_2M
SECTIONS = (0, 1, 8)
"""The last has the frames of the machine itself, its vmemmap's among them."""
PACES = range(40, 1800, 110)
"""A look at the machine takes some 1,600 ticks; one at a hugepage should do with 40."""


@dataclass
class Alternating(ByRanges):
    """The memory of a machine that is in one of two states, and changes every `pace` ticks."""

    states: tuple[Machine, Machine]
    pace: int
    clock: int = 0

    def __post_init__(self) -> None:
        # What only one of them has allocated is there in both.
        for machine in self.states:
            machine.allocate(max(state.used for state in self.states) - machine.used)

    @property
    def now(self) -> Machine:
        return self.states[self.clock // self.pace % 2]

    def read(self, address: int, size: int) -> bytes:
        machine = self.now
        self.clock += -(-size // VMEMMAP_PAGE)
        return machine.read(address, size)

    def counters(self) -> Counters:
        machine = self.now
        self.clock += 1
        return machine.counters()

    def tail_frames(self) -> TailFrames:
        return self.now.kernel().tail_frames()

    def sleep(self, _seconds: float) -> None:
        self.clock = -(-self.clock // (2 * self.pace)) * 2 * self.pace

    def kernel(self) -> Kernel:
        return replace(
            self.states[0].kernel(),
            memory=self,
            live=True,
            counters=self.counters,
            tail_frames=self.tail_frames,
        )


def machine(tail: Tail) -> Machine:
    """A machine with two hugepages, whose vmemmap is split around them."""
    made = Machine(SECTIONS, tail=tail)
    for place in (1, 2):
        made.hugetlb(HUGE + (place << ORDER_2M), free=place == 1)
    return made


def nothing(_machine: Machine) -> None:
    """The machine as it is."""


def another_hugepage(machine: Machine) -> None:
    """The pool has grown by one."""
    machine.hugetlb(HUGE, free=True)


def hugepage_here(machine: Machine) -> None:
    machine.hugetlb(HUGE, free=True)


def hugepage_there(machine: Machine) -> None:
    """As many, elsewhere: freed and allocated anew, or migrated."""
    machine.hugetlb((1 << 15) + HUGE, free=True)


def not_optimized(machine: Machine) -> None:
    machine.hugetlb(HUGE, hvo=False, free=True)


def optimized(machine: Machine) -> None:
    """The same hugepage, and the page allocator has the frames."""
    before = len(machine.freed)
    machine.hugetlb(HUGE, free=True)
    for frame in machine.freed[before:]:
        pfn = (ARENA >> 12) + frame
        machine.set_word(pfn, PAGE_TYPE, PGTY_BUDDY << 24)
        machine.set_word(pfn, PRIVATE, 0)


def slab(machine: Machine) -> None:
    machine.slab(HUGE + 32, 6)


STATES: list[tuple[Callable[[Machine], None], Callable[[Machine], None]]] = [
    (nothing, another_hugepage),
    (another_hugepage, nothing),
    (hugepage_here, hugepage_there),
    (hugepage_there, hugepage_here),
    (not_optimized, optimized),
    (optimized, not_optimized),
    (nothing, slab),
    (slab, nothing),
]


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("states", STATES, ids=lambda pair: "-".join(s.__name__ for s in pair))
def test_a_mixture_of_two_sound_states_is_no_finding(
    tail: Tail,
    states: tuple[Callable[[Machine], None], Callable[[Machine], None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = {}
    for pace in PACES:
        both = machine(tail), machine(tail)
        for change, one in zip(states, both, strict=True):
            change(one)
        moving = Alternating(both, pace)
        monkeypatch.setattr(time, "sleep", moving.sleep)
        if findings := scan(moving.kernel()).findings:
            found[pace] = [(finding.rule, finding.pfn, finding.found) for finding in findings]
    assert found == {}
