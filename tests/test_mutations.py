"""Seeded damage to the shipped kernels' memory: each is found by its rule, and by no other."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from hvoinspect.target.choice import DEMOS, Target
from hvoinspect.target.layout import Counters, Hstate, Kernel
from hvoinspect.target.memory import ByRanges, Memory
from hvoinspect.target.open import open_target
from hvoinspect.vmemmap.pagetable import walk_directory
from hvoinspect.vmemmap.scan import Scan, scan
from hvoinspect.vmemmap.window import open_window

SEEDS = (1, 2, 3)
WRITABLE = 2
PAGE_TYPE = 48
MAPPING = 24


@dataclass
class Damaged(ByRanges):
    """Memory in which some words are not what they were."""

    memory: Memory
    words: dict[int, int] = field(default_factory=dict)

    def read(self, address: int, size: int) -> bytes:
        data = bytearray(self.memory.read(address, size))
        for at, word in self.words.items():
            if address <= at < address + size:
                struct.pack_into("<Q", data, at - address, word)
        return bytes(data)


@dataclass
class Victim:
    """An optimized 2 MiB page, and one more, of a kernel that can be damaged."""

    kernel: Kernel
    memory: Damaged
    head: int
    other: int
    random: random.Random

    def entry(self, pfn: int) -> int:
        """The physical address of the page-table entry behind a struct page."""
        address = self.kernel.page_address(pfn)
        kernel = self.kernel
        table = walk_directory(kernel.memory, kernel.paging, address, address + 1).target[0]
        return int(table) + (address >> 12 & 511) * 8

    def word(self, pfn: int, offset: int) -> int:
        """The physical address of a word of a struct page."""
        address = self.kernel.page_address(pfn) + offset
        frame = open_window(self.kernel, address, 8).frame(address)
        return frame * 4096 + (address & 4095)

    def frame(self, pfn: int) -> int:
        return self.word(pfn, 0) // 4096

    def change(self, at: int, change: Callable[[int], int]) -> None:
        (word,) = struct.unpack("<Q", self.memory.read(at, 8))
        self.memory.words[at] = change(word)

    def early_tail(self) -> int:
        """A tail on the head's own vmemmap page."""
        return self.head + self.random.randrange(2, 64)

    def late_tail(self) -> int:
        """A tail on another vmemmap page, but no fake head."""
        return self.head + 64 * self.random.randrange(1, 8) + self.random.randrange(1, 64)


def writable_tail(victim: Victim) -> None:
    victim.change(victim.entry(victim.late_tail()), lambda entry: entry | WRITABLE)


def read_only_head(victim: Victim) -> None:
    victim.change(victim.entry(victim.head), lambda entry: entry & ~WRITABLE)


def stale_flag(victim: Victim) -> None:
    page = victim.kernel.page
    victim.change(
        victim.word(victim.head, page.private), lambda word: word & ~(page.hugetlb_optimized or 0)
    )


def flipped_bit_of_a_compound_word(victim: Victim) -> None:
    bit = 1 << victim.random.randrange(16, 24)
    where = victim.word(victim.early_tail(), victim.kernel.page.compound)
    victim.change(where, lambda word: word ^ bit)


def head_flag_in_a_tail(victim: Victim) -> None:
    page = victim.kernel.page
    victim.change(victim.word(victim.early_tail(), page.flags), lambda word: word | page.head_bit)


def freed_frame(victim: Victim) -> None:
    page, frame = victim.kernel.page, victim.frame(victim.head)
    assert page.buddy is not None
    victim.change(victim.word(frame, PAGE_TYPE), lambda _word: 0xF0 << 24)
    victim.change(victim.word(frame, page.private), lambda _word: 0)


def lost_mark(victim: Victim) -> None:
    """The pool has one more than there are; the capture has no counters, so they are given."""
    count_hugepages(victim)
    victim.change(victim.word(victim.head, PAGE_TYPE), lambda word: word | 0xFFFF_FFFF)


def shared_head_frame(victim: Victim) -> None:
    (entry,) = struct.unpack("<Q", victim.memory.read(victim.entry(victim.other), 8))
    victim.change(victim.entry(victim.head), lambda _entry: entry)


def head_flag_in_the_zones_frame(victim: Victim) -> None:
    page = victim.kernel.page
    victim.change(victim.word(victim.late_tail(), page.flags), lambda word: word | page.head_bit)


def mapping_in_the_zones_frame(victim: Victim) -> None:
    victim.change(
        victim.word(victim.late_tail(), MAPPING), lambda _word: victim.random.getrandbits(8)
    )


def misdirected_zone(victim: Victim) -> None:
    frames = {key: frame + (key[2] == 18) for key, frame in victim.kernel.tail_frames().items()}
    victim.kernel = replace(victim.kernel, tail_frames=lambda: frames)


def wrong_key(victim: Victim) -> None:
    counters = victim.kernel.counters()
    assert counters.optimized_key == 65
    changed = replace(counters, optimized_key=victim.random.randrange(65))
    victim.kernel = replace(victim.kernel, counters=lambda: changed)


def count_hugepages(victim: Victim) -> None:
    """What the demos' kernels count: 64 hugepages of 2 MiB and one of 1 GiB, all free."""
    known = Counters((Hstate(9, {0: 64}, {0: 64}), Hstate(18, {0: 1}, {0: 1})))
    victim.kernel = replace(victim.kernel, counters=lambda: known)


EITHER = [
    (count_hugepages, set()),
    (writable_tail, {"tails-read-only"}),
    (read_only_head, {"own-frames-writable"}),
    (stale_flag, {"flag-agrees-with-page-tables"}),
    (flipped_bit_of_a_compound_word, {"tail-decodes-to-head"}),
    (head_flag_in_a_tail, {"no-head-flag-in-tails"}),
    (freed_frame, {"vmemmap-frames-in-use"}),
    (lost_mark, {"pool-counters-agree"}),
]
BEFORE = [(wrong_key, {"static-key-counts-optimized"})]
AFTER = [
    (shared_head_frame, {"head-frame-unshared"}),
    (head_flag_in_the_zones_frame, {"zones-tail-frame"}),
    (mapping_in_the_zones_frame, {"zones-tail-frame"}),
    (misdirected_zone, {"tails-on-the-zones-frame"}),
]
CASES = [
    *((demo, damage, rules) for demo in DEMOS for damage, rules in EITHER),
    *(("before", damage, rules) for damage, rules in BEFORE),
    *(("after", damage, rules) for damage, rules in AFTER),
]


@pytest.fixture(scope="module", params=SEEDS)
def seed(request: pytest.FixtureRequest) -> int:
    return int(request.param)


_opened: dict[str, tuple[Kernel, Scan]] = {}


def opened(demo: str) -> tuple[Kernel, Scan]:
    """A shipped kernel and what a scan of it finds, each made once."""
    if demo not in _opened:
        kernel = open_target(Target(demo=demo))
        _opened[demo] = kernel, scan(kernel)
    return _opened[demo]


@pytest.mark.parametrize(
    ("demo", "damage", "rules"), CASES, ids=lambda value: getattr(value, "__name__", None)
)
def test_damage_is_found_by_its_rule_and_by_no_other(
    demo: str, damage: Callable[[Victim], None], rules: set[str], seed: int
) -> None:
    kernel, intact = opened(demo)
    chosen = random.Random(f"{demo} {damage.__name__} {seed}")
    small = intact.hugepages.pfn[intact.hugepages.order == 9].tolist()
    head, other = chosen.sample(small, 2)
    memory = Damaged(kernel.memory)
    victim = Victim(replace(kernel, memory=memory), memory, head, other, chosen)
    damage(victim)
    known = {(finding.rule, finding.severity, finding.pfn) for finding in intact.findings}
    found = {(f.rule, f.severity, f.pfn) for f in scan(victim.kernel, exhaustive=True).findings}
    assert found >= known, "the one warning that intact kernels of 7.0 and 7.1 have"
    assert {rule for rule, _, _ in found - known} == rules
