"""What to look for: addresses in the running kernel, and what a hit at each of them counts for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hvoinspect.hotpath.callers import Caller
from hvoinspect.hotpath.files import Functions
from hvoinspect.hotpath.run import Count
from hvoinspect.hotpath.sitesfile import Sites

Key = tuple[str, str]
"""A function and a helper, which is "" where the function's calls are counted."""


@dataclass(frozen=True)
class Points:
    """Where to probe. A copy that begins where another one does shares its probe.

    `keys` are those of the copies that begin at an address, `absent` keys whose function is not in
    this kernel, with the reason, and `loops` the functions that may run a copy many times a call.
    """

    keys: Mapping[int, tuple[Key, ...]]
    absent: Mapping[Key, str]
    loops: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        """How many copies, or functions, are to be counted."""
        return sum(len(keys) for keys in self.keys.values()) + len(self.absent)

    def attached(self, addresses: Mapping[int, object]) -> int:
        """Return how many of them are counted, if these addresses are probed."""
        return sum(len(self.keys.get(address, ())) for address in addresses)


@dataclass(frozen=True)
class Ranges:
    """Where samples are looked for: pieces of kernel code, each of a key; they may overlap.

    `starts` and `ends` (uint64) are addresses, the end excluded. `pieces` says how many copies, or
    functions, a key has. `loops` are as in `Points`.
    """

    starts: np.ndarray[tuple[int], np.dtype[np.uint64]]
    ends: np.ndarray[tuple[int], np.dtype[np.uint64]]
    keys: tuple[Key, ...]
    pieces: Mapping[Key, int]


def points_of_sites(sites: Sites, functions: Functions) -> Points:
    """Return the copies of a sites file, where this boot of that kernel has them."""
    shift = functions.stext - sites.stext
    keys: dict[int, list[Key]] = defaultdict(list)
    for copy in sites.copies:
        keys[copy.address + shift].append((copy.function, copy.helper))
    return Points({address: tuple(keys[address]) for address in sorted(keys)}, {})


def points_of_callers(callers: Sequence[Caller], functions: Functions) -> Points:
    """Return the entries of the functions that are known to have copies."""
    keys: dict[int, list[Key]] = defaultdict(list)
    absent: dict[Key, str] = {}
    for caller in callers:
        starts = functions.named(caller.function)
        for start in starts:
            keys[start].append((caller.function, ""))
        if not starts:
            absent[caller.function, ""] = "this kernel has no function of that name"
    return Points(
        {address: tuple(keys[address]) for address in sorted(keys)},
        absent,
        tuple(sorted(caller.function for caller in callers if caller.in_loop)),
    )


def ranges_of_sites(sites: Sites, functions: Functions) -> Ranges:
    """Return the pieces of the copies of a sites file."""
    shift = functions.stext - sites.stext
    return _ranges(
        [
            [(start + shift, size, (copy.function, copy.helper)) for start, size in copy.ranges]
            for copy in sites.copies
        ]
    )


def ranges_of_callers(callers: Sequence[Caller], functions: Functions) -> Ranges:
    """Return the code of the functions that are known to have copies, up to the next symbol."""
    return _ranges(
        [
            [(start, functions.extent(start), (caller.function, ""))]
            for caller in callers
            for start in functions.named(caller.function)
        ]
    )


def _ranges(copies: Sequence[Sequence[tuple[int, int, Key]]]) -> Ranges:
    pieces: dict[Key, int] = defaultdict(int)
    for copy in copies:
        for key in {key for _, _, key in copy}:
            pieces[key] += 1
    flat = [piece for copy in copies for piece in copy]
    return Ranges(
        np.array([start for start, _, _ in flat], np.uint64),
        np.array([start + size for start, size, _ in flat], np.uint64),
        tuple(key for _, _, key in flat),
        pieces,
    )


def counts_of_hits(points: Points, hits: Mapping[int, int]) -> tuple[Count, ...]:
    """Return the hits of each key, most first. `hits` has the addresses that were probed."""
    totals: dict[Key, int] = defaultdict(int)
    probed: dict[Key, int] = defaultdict(int)
    for address, number in hits.items():
        for key in points.keys.get(address, ()):
            totals[key] += number
            probed[key] += 1
    return _sorted(totals, probed)


def counts_of_samples(ranges: Ranges, samples: Mapping[int, int]) -> tuple[Count, ...]:
    """Return the samples that fell into each key's code, most first.

    A sample counts once a key; where one copy is inlined into another, for both.
    """
    totals: dict[Key, int] = dict.fromkeys(ranges.pieces, 0)
    for address, number in samples.items():
        at = np.uint64(address)
        inside = np.nonzero((ranges.starts <= at) & (at < ranges.ends))[0]
        for key in {ranges.keys[place] for place in inside.tolist()}:
            totals[key] += number
    return _sorted(totals, ranges.pieces)


def samples_inside(ranges: Ranges, samples: Mapping[int, int]) -> int:
    """Return how many samples fell into any of the code."""
    return sum(
        number
        for address, number in samples.items()
        if np.any((ranges.starts <= np.uint64(address)) & (np.uint64(address) < ranges.ends))
    )


def _sorted(totals: Mapping[Key, int], sites: Mapping[Key, int]) -> tuple[Count, ...]:
    counts = [Count(*key, sites[key], total) for key, total in totals.items()]
    return tuple(sorted(counts, key=lambda count: (-count.hits, count.function, count.helper)))
