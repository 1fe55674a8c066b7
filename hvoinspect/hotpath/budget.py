"""Keeps counting from taking more of a CPU than is allowed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hvoinspect.hotpath.backend import Cost


@dataclass(frozen=True)
class Load:
    """What counting takes: nanoseconds a hit, and of one CPU, in percent."""

    nanoseconds: float
    percent: float


def load_of(before: Cost, now: Cost, seconds: float) -> Load:
    """Return the load between two moments that are `seconds` apart.

    It is the counting program's own time; what the trap into it takes is not measured by anyone.
    """
    runs, nanoseconds = now.runs - before.runs, now.nanoseconds - before.nanoseconds
    return Load(
        nanoseconds / runs if runs > 0 else 0.0,
        nanoseconds / (seconds * 1e9) * 100 if seconds > 0 else 0.0,
    )


def too_dear(hits: Mapping[int, int], load: Load, allowed: float) -> dict[int, float]:
    """Return which addresses to give up so that counting takes at most `allowed` percent.

    `hits` are those of the time `load` is of. The hottest go first, as few as do it; with each the
    percent of a CPU it took.
    """
    total = sum(hits.values())
    if load.percent <= allowed or not total:
        return {}
    excess, given_up = load.percent - allowed, {}
    for address, number in sorted(hits.items(), key=lambda item: -item[1]):
        if excess <= 0 or not number:
            break
        given_up[address] = load.percent * number / total
        excess -= given_up[address]
    return given_up
