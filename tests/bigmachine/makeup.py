"""What a made-up machine's memory is used for, and what a scan of it must come to.

The unit is the GiB: 262,144 struct pages, or 16 MiB of vmemmap in 8 blocks of 2 MiB.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Any

from tests.madeup import ORDER_1G, ORDER_2M, Tail

GIB = 1 << 30
UNIT_PAGES = 1 << 18
UNIT_FRAMES = 4096
"""Vmemmap pages of a unit."""
UNIT_BLOCKS = 8
"""Blocks of 2 MiB that its vmemmap has."""
HUGE_PER_UNIT = 512
HOLE = 3
"""The number of the GiB below 4 GiB, which is the devices'."""
FIRST_NORMAL = 4
"""The GiB from which on memory is in zone 1; what is below is in zone 0."""
IMAGE_FRAMES = (8 << 20) >> 12
"""Frames from 0 on that are the kernel's image."""

REST_FRAMES = IMAGE_FRAMES + 8192
"""What a node's own memory needs for all but its vmemmap and page tables, generously."""


class Use(Enum):
    """What the memory of one unit is used for."""

    RESERVED = "reserved"
    """The kernel's own: its image, page tables, and the frames behind the vmemmap."""
    ORDINARY = "ordinary"
    """Single pages, and a quarter of it folios of 64 KiB."""
    SLAB = "slab"
    """Half of order 3, a quarter of order 1, a quarter of order 0."""
    FREE = "free"
    """Fifteen sixteenths in blocks of order 10, the rest in blocks of orders 0 to 9 and pages."""
    HUGE = "huge"
    """2 MiB hugepages, optimized, every fourth of them free."""
    GIGANTIC = "gigantic"
    """A 1 GiB hugepage, optimized, and in use."""


SPLIT = (Use.HUGE, Use.GIGANTIC)
"""What has its vmemmap mapped 4 KiB at a time."""
CLASSES = {
    # Of one unit: heads, tails (the fake heads of pointers among them), single struct pages.
    Use.RESERVED: (0, 0, UNIT_PAGES),
    Use.ORDINARY: (256 * 16, 256 * 240, 256 * 768),
    Use.SLAB: (256 * 192, 256 * 576, 256 * 256),
    Use.FREE: (0, 0, UNIT_PAGES),
    Use.HUGE: (512, 512 * 511, 0),
    Use.GIGANTIC: (1, UNIT_PAGES - 1, 0),
}
HUGEPAGES = {Use.HUGE: (ORDER_2M, 512, 128), Use.GIGANTIC: (ORDER_1G, 1, 0)}
"""Of one unit: their order, how many there are, and how many of them are free."""
FREED_FRAMES = {Use.HUGE: 512 * 7, Use.GIGANTIC: 4095}
"""Frames that a unit does without: as many fake heads, or read-only mappings, it has."""


@dataclass(frozen=True)
class Unit:
    """One GiB: its number (physical address / 1 GiB), its node and zone, and its use."""

    gib: int
    node: int
    zone: int
    use: Use


@dataclass(frozen=True)
class Makeup:
    """A machine, by how many GiB each use of its memory has, spread evenly over its nodes.

    What its vmemmap itself takes is RESERVED, and taken from `ordinary`, which must have as much.
    """

    tail: Tail = "mask"
    gigantic: int = 1
    huge: int = 1
    ordinary: int = 2
    slab: int = 1
    free: int = 1
    nodes: int = 1

    @classmethod
    def usual(cls, gib: int, tail: Tail) -> Makeup:
        """Return a machine of two nodes and `gib` GiB for virtual machines, a multiple of 16.

        Half of it are 1 GiB pages, a quarter 2 MiB pages; of the rest half is free, an eighth slab.
        """
        rest = gib // 4
        free, slab = rest // 2, rest // 8
        return cls(tail, gib // 2, gib // 4, rest - free - slab, slab, free, nodes=2)

    @property
    def gib(self) -> int:
        """How much memory it has."""
        return self.gigantic + self.huge + self.ordinary + self.slab + self.free

    @cached_property
    def units(self) -> tuple[Unit, ...]:
        """Its memory, ascending; on each node first what is reserved. Raises ValueError."""
        numbers = (gib for gib in range(self.gib + 2) if gib != HOLE)
        return tuple(
            Unit(gib, node, int(gib >= FIRST_NORMAL), use)
            for node in range(self.nodes)
            for use, gib in zip(self._uses(node), numbers, strict=False)
        )

    @cached_property
    def shared_tails(self) -> tuple[tuple[int, int, int], ...]:
        """Where a frame stands for all tails of an order (7.1): (node, zone, order), ascending."""
        if self.tail == "pointer":
            return ()
        keys = {(u.node, u.zone, HUGEPAGES[u.use][0]) for u in self.units if u.use in HUGEPAGES}
        return tuple(sorted(keys))

    def expected(self) -> dict[str, Any]:
        """Return what the JSON of a scan must say, by these keys and no others.

        Counted out, and not read off what is written.
        """
        pointers = self.tail == "pointer"
        units = [unit.use for unit in self.units]
        head, tail, single = (sum(CLASSES[use][kind] for use in units) for kind in range(3))
        freed = sum(FREED_FRAMES.get(use, 0) for use in units)
        split = sum(use in SPLIT for use in units)
        hugepages = sum(HUGEPAGES[use][1] for use in units if use in HUGEPAGES)
        own = (len(units) - split) * UNIT_FRAMES + hugepages
        fake = freed if pointers else 0
        return {
            "pages": {
                "total": len(units) * UNIT_PAGES,
                "head": head,
                "fake_head": fake,
                "tail": tail - fake,
                "single": single,
                "unreadable": 0,
                "offline": 0,
            },
            "tails": {"pointer": 0, "mask": 0} | {self.tail: tail - fake},
            "hugetlb": [self._pool(use, node) for use, node in self._pools()],
            "vmemmap": {
                "virtual_bytes": len(units) * UNIT_FRAMES << 12,
                "frames": own + len(self.shared_tails),
                "shared_frames": hugepages if pointers else len(self.shared_tails),
                "read_only_pages": freed,
                "pmd_mapped_bytes": (len(units) - split) * UNIT_FRAMES << 12,
                "pte_tables": split * UNIT_BLOCKS,
                "saved_bytes": freed << 12,
                "split_cost_bytes": split * UNIT_BLOCKS << 12,
                "net_saved_bytes": freed - split * UNIT_BLOCKS << 12,
                "potential_bytes": 0,
            },
            "findings": [],
            "notes": [],
        }

    def pool(self, use: Use, node: int) -> tuple[int, int]:
        """Return how many hugepages of a use there are on a node, and how many of them free."""
        units = sum(unit.use is use and unit.node == node for unit in self.units)
        _, total, free = HUGEPAGES[use]
        return units * total, units * free

    def _pools(self) -> list[tuple[Use, int]]:
        return [
            (use, node)
            for use in (Use.HUGE, Use.GIGANTIC)
            for node in range(self.nodes)
            if self.pool(use, node)[0]
        ]

    def _pool(self, use: Use, node: int) -> dict[str, int]:
        total, free = self.pool(use, node)
        order, each, _ = HUGEPAGES[use]
        return {
            "size_bytes": 4096 << order,
            "node": node,
            "total": total,
            "free": free,
            "optimized": total,
            "partly_optimized": 0,
            "vmemmap_pages_kept": total,
            "vmemmap_pages_freed": total // each * FREED_FRAMES[use],
        }

    def _uses(self, node: int) -> list[Use]:
        """Return what a node's units are used for, in the order of their addresses."""
        share = {
            use: count // self.nodes + (node < count % self.nodes)
            for use, count in (
                (Use.ORDINARY, self.ordinary),
                (Use.GIGANTIC, self.gigantic),
                (Use.HUGE, self.huge),
                (Use.SLAB, self.slab),
                (Use.FREE, self.free),
            )
        }
        large = sum(count for use, count in share.items() if use not in SPLIT)
        small = UNIT_BLOCKS * (share[Use.HUGE] + share[Use.GIGANTIC]) + share[Use.GIGANTIC]
        # Of a frame each for page tables and own vmemmap pages, and some for the rest.
        frames = large * UNIT_FRAMES + share[Use.HUGE] * HUGE_PER_UNIT + small
        reserved = -(-(frames + REST_FRAMES) // UNIT_PAGES)
        share[Use.ORDINARY] -= reserved
        if share[Use.ORDINARY] < 0:
            raise ValueError(f"node {node} of {self} has no room for its own vmemmap")
        return [Use.RESERVED] * reserved + [u for u, count in share.items() for _ in range(count)]
