"""Chooses how to count: the best way that this host allows, and why none better."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from hvoinspect.errors import ExitStatus, HvoinspectError
from hvoinspect.hotpath.backend import Counter, Filter
from hvoinspect.hotpath.callers import read_callers
from hvoinspect.hotpath.denied import kprobes_off, no_kprobes, no_sites, not_root
from hvoinspect.hotpath.files import (
    Forbidden,
    Functions,
    read_functions,
)
from hvoinspect.hotpath.host import are_kprobes_off, has_kprobes
from hvoinspect.hotpath.points import (
    Points,
    Ranges,
    points_of_callers,
    points_of_sites,
    ranges_of_callers,
    ranges_of_sites,
)
from hvoinspect.hotpath.probes import BpfCounter
from hvoinspect.hotpath.run import Mode
from hvoinspect.hotpath.sampling import Sampler
from hvoinspect.hotpath.sitesfile import Sites, check_build_id, find_sites, read_sites
from hvoinspect.hotpath.tracefs import TracefsCounter

Backend = Literal["bcc", "tracefs"]
_REMEDY_FILTER = "leave --pid, --cgroup, --command-only and --budget out, or set up bcc"


@dataclass(frozen=True)
class Wish:
    """What a user asks for; None leaves the choice to `choose`. `budget` is percent of a CPU."""

    mode: Mode | None = None
    backend: Backend | None = None
    sites: Path | None = None
    only: Filter = field(default_factory=Filter)
    budget: float | None = None


@dataclass(frozen=True)
class Plan:
    """How it is counted. `points` or `ranges` say what hits count for, `notes` why not better."""

    mode: Mode
    counter: Counter
    functions: Functions
    forbidden: Forbidden
    points: Points | None
    ranges: Ranges | None
    loops: tuple[str, ...]
    notes: tuple[str, ...]


def choose(wish: Wish, build_id: str | None, tail: str | None, root: Path = Path("/")) -> Plan:
    """Choose and set up what counts; nothing is attached yet.

    `build_id` is the running kernel's, `tail` its encoding, "pointer" or "mask", or None if that is
    not known. Raises HvoinspectError if what is asked for cannot be had here.
    """
    check_root()
    notes: list[str] = []
    sites = _sites(wish, build_id, notes)
    functions = read_functions(root)
    mode = _mode(wish, sites, root, notes)
    callers = () if sites is not None and mode != "functions" else read_callers(tail)
    forbidden = Forbidden(root, functions)
    if mode == "sample":
        if wish.backend == "tracefs":
            raise HvoinspectError(
                "tracefs cannot sample", "leave --backend out, or the mode", ExitStatus.USAGE
            )
        ranges = (
            ranges_of_sites(sites, functions)
            if sites is not None
            else ranges_of_callers(callers, functions)
        )
        counter: Counter = Sampler(wish.only)
        return Plan(mode, counter, functions, forbidden, None, ranges, (), tuple(notes))
    if mode == "sites" and sites is not None:
        points = points_of_sites(sites, functions)
    else:
        points = points_of_callers(callers, functions)
    counter = _counter(wish, points.keys, root, notes)
    return Plan(mode, counter, functions, forbidden, points, None, points.loops, tuple(notes))


def check_root() -> None:
    """Raise HvoinspectError if this user may not count at all."""
    if os.geteuid() != 0:
        raise not_root()


def _sites(wish: Wish, build_id: str | None, notes: list[str]) -> Sites | None:
    """Return the sites of the running kernel, None if they are not wanted or not to be had."""
    if wish.mode == "functions":
        return None
    if wish.sites is not None:
        sites = read_sites(wish.sites)
        check_build_id(sites, build_id, wish.sites)
        return sites
    found = find_sites(build_id) if build_id else None
    if found is not None:
        return found
    missing = no_sites(build_id)
    if wish.mode == "sites":
        raise missing
    notes.append(f"the copies are not known: {missing.why}; {missing.remedy}")
    return None


def _mode(wish: Wish, sites: Sites | None, root: Path, notes: list[str]) -> Mode:
    if wish.mode is not None:
        return wish.mode
    if not has_kprobes(root):
        notes.append(f"samples only: {no_kprobes().why}")
        return "sample"
    return "sites" if sites is not None else "functions"


def _counter(wish: Wish, keys: Mapping[int, object], root: Path, notes: list[str]) -> Counter:
    if not has_kprobes(root):
        raise no_kprobes()
    if are_kprobes_off(root):
        raise kprobes_off()
    needs_bcc = bool(wish.only) or wish.budget is not None
    if wish.backend == "tracefs":
        if needs_bcc:
            raise HvoinspectError(
                "tracefs counts everybody's hits and does not tell what they cost",
                _REMEDY_FILTER,
                ExitStatus.USAGE,
            )
        return TracefsCounter(root)
    try:
        return BpfCounter(len(keys), wish.only, timed=wish.budget is not None, root=root)
    except HvoinspectError as error:
        if wish.backend == "bcc" or needs_bcc:
            raise
        notes.append(f"by tracefs: {error.why}; {error.remedy}")
        return TracefsCounter(root)
