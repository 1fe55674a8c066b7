"""Takes the times of several ways to do a thing, in turns: what disturbs one disturbs all."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Times:
    """How many seconds something took, each time."""

    seconds: tuple[float, ...]

    @property
    def least(self) -> float:
        """The least of them: what disturbs only adds."""
        return min(self.seconds)

    @property
    def median(self) -> float:
        """The median of them."""
        return statistics.median(self.seconds)


def in_turns(
    ways: Mapping[str, Callable[[], Any]], repeats: int, *, warm: bool = True
) -> tuple[dict[str, Times], dict[str, Any]]:
    """Run each of `ways` in turn, `repeats` times; return their times and what each returned last.

    With `warm`, once more before that, which does not count.
    """
    taken: dict[str, list[float]] = {name: [] for name in ways}
    last: dict[str, Any] = {}
    for turn in range(repeats + warm):
        for name, way in ways.items():
            gc.collect()
            begun = time.perf_counter()
            last[name] = way()
            seconds = time.perf_counter() - begun
            if turn >= warm:
                taken[name].append(seconds)
    return {name: Times(tuple(seconds)) for name, seconds in taken.items()}, last
