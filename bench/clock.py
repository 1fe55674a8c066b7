"""Takes the times of several ways to do a thing, in turns: what disturbs one disturbs all."""

from __future__ import annotations

import gc
import resource
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Times:
    """How many seconds something took each time, and how many of processors' time.

    `processor` is that of all its processes: it tells what a busy machine hides.
    """

    seconds: tuple[float, ...]
    processor: tuple[float, ...]

    @property
    def least(self) -> float:
        """The least of them: what disturbs only adds."""
        return min(self.seconds)

    @property
    def median(self) -> float:
        """The median of them."""
        return statistics.median(self.seconds)

    @property
    def least_processor(self) -> float:
        """The least time of processors."""
        return min(self.processor)

    def times(self, factor: float) -> Times:
        """Return what it would be for `factor` times as much."""
        return Times(
            tuple(factor * one for one in self.seconds),
            tuple(factor * one for one in self.processor),
        )


def clock() -> tuple[float, float]:
    """Return the time, and processors' time of this process and its children that ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter(), time.process_time() + children.ru_utime + children.ru_stime


def in_turns(
    ways: Mapping[str, Callable[[], Any]], repeats: int, *, warm: bool = True
) -> tuple[dict[str, Times], dict[str, Any]]:
    """Run each of `ways` in turn, `repeats` times; return their times and what each returned last.

    With `warm`, once more before that, which does not count.
    """
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    last: dict[str, Any] = {}
    for turn in range(repeats + warm):
        for name, way in ways.items():
            gc.collect()
            begun, begun_processor = clock()
            last[name] = way()
            ended, ended_processor = clock()
            if turn >= warm:
                taken[name].append((ended - begun, ended_processor - begun_processor))
    times = {name: Times(*zip(*pairs, strict=True)) for name, pairs in taken.items()}
    return times, last
