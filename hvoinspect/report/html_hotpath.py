"""Recordings of the hot path, and their comparisons, as the page's templates show them.

What a recording says beside its counts is read as it is needed: a later release may write anything
into it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from textwrap import shorten

from hvoinspect.errors import printable
from hvoinspect.hotpath.compare import Comparison, Per, check, compare
from hvoinspect.hotpath.run import Run
from hvoinspect.report.charts import Chart
from hvoinspect.report.charts_hotpath import Bar, Ratio, counts_chart, helpers_of, ratios_chart
from hvoinspect.report.compare import (
    Lines,
    heading,
    interval_text,
    legend,
    lines,
    rate_text,
    verdict,
)
from hvoinspect.report.hotpath import HOW, WHAT

SHOWN_FUNCTIONS = 20
"""In a chart; tables have all."""

MAX_COMMAND = 200
"""Characters of a command that are shown."""

Draw = Callable[[Chart | None], str | None]


@dataclass(frozen=True)
class Recordings:
    """One side: the runs in a file, or in the files of a folder."""

    path: Path
    runs: tuple[Run, ...]


@dataclass(frozen=True)
class Counted:
    """How often one function ran one helper in all runs of a side; `rate` is by second."""

    function: str
    helper: str
    copies: int
    hits: int
    rate: str


@dataclass(frozen=True)
class SideView:
    """The runs of one side, and what is said of them."""

    number: int
    path: Path
    release: str
    facts: tuple[tuple[str, str], ...]
    what: str
    counted: tuple[Counted, ...]
    chart: str | None
    legend: tuple[str, ...]
    shown: int
    functions: int


@dataclass(frozen=True)
class ComparisonView:
    """A side and the one after it. `chart` shows `shown` rows out of those that have a ratio."""

    heading: str
    verdict: str
    lines: Lines
    legend: str | None
    notes: tuple[str, ...]
    chart: str | None
    shown: int
    with_ratio: int
    has_intervals: bool


@dataclass(frozen=True)
class HotPath:
    """All sides, and each but the first compared to the one before."""

    sides: tuple[SideView, ...]
    comparisons: tuple[ComparisonView, ...]


def view(recordings: Sequence[Recordings], draw: Draw) -> HotPath:
    """Return the view of all sides. Raises HvoinspectError as `hotpath.compare.compare` does."""
    for side in recordings:
        check(side.runs, side.runs)
    compared = [compare(before.runs, after.runs) for before, after in pairwise(recordings)]
    return HotPath(
        sides=tuple(_side(number, side, draw) for number, side in enumerate(recordings, 1)),
        comparisons=tuple(_comparison(comparison, draw) for comparison in compared),
    )


def _side(number: int, side: Recordings, draw: Draw) -> SideView:
    run = side.runs[0]
    seconds = sum(run.seconds for run in side.runs)
    what = WHAT[run.mode]
    hits: Counter[tuple[str, str]] = Counter()
    copies: dict[tuple[str, str], int] = {}
    for one in side.runs:
        own: Counter[tuple[str, str]] = Counter()
        for count in one.counts:
            key = (printable(count.function), printable(count.helper))
            hits[key] += count.hits
            own[key] += count.sites
        copies.update({key: max(sites, copies.get(key, 0)) for key, sites in own.items()})
    order = sorted(hits, key=lambda key: (-hits[key], key))
    counted = tuple(
        Counted(*key, copies[key], hits[key], rate_text(_known(hits[key] / seconds)))
        for key in order
    )
    bars = tuple(_hottest(order, hits, copies, seconds))
    return SideView(
        number=number,
        path=side.path,
        release=run.release,
        facts=tuple(_facts(side.runs, seconds, sum(hits.values()))),
        what=what,
        counted=counted,
        chart=draw(counts_chart(bars, what) if bars else None),
        legend=tuple(helpers_of(bars)),
        shown=len({bar.function for bar in bars}),
        functions=len({key[0] for key in hits if hits[key]}),
    )


def _known(number: float) -> float | None:
    return number if math.isfinite(number) else None


def _hottest(
    order: Sequence[tuple[str, str]],
    hits: Counter[tuple[str, str]],
    copies: dict[tuple[str, str], int],
    seconds: float,
) -> Iterator[Bar]:
    """Yield the bars of the functions that were hit most, by all of their helpers together."""
    totals: Counter[str] = Counter()
    for key in order:
        if hits[key] and math.isfinite(hits[key] / seconds):
            totals[key[0]] += hits[key]
    functions = sorted(totals, key=lambda function: (-totals[function], function))
    for function in functions[:SHOWN_FUNCTIONS]:
        for key in order:
            if key[0] == function and hits[key]:
                yield Bar(*key, hits[key] / seconds, hits[key], copies[key])


def _facts(runs: Sequence[Run], seconds: float, total: int) -> Iterator[tuple[str, str]]:
    run = runs[0]
    what = WHAT[run.mode]
    tail = run.encoding.get("tail")
    yield "counted", HOW[run.mode]
    if isinstance(tail, str):
        yield "tails", tail
    if len(runs) > 1:
        yield "runs", f"{len(runs):,}"
    yield "time", f"{seconds:,.1f} s"
    if run.mode != "sample":  # a sample in a copy that is inlined into another stands in two rows
        yield what, f"{total:,}, {rate_text(_known(total / seconds))} a second"
    units = [one.units for one in runs if one.units is not None]
    if len(units) == len(runs) and len({one.unit for one in runs}) == 1:
        work = sum(units)
        yield "work", f"{work:,.0f} {run.unit}s, {rate_text(_known(total / work))} {what} each"
    sites, attached = run.coverage.get("sites"), run.coverage.get("attached")
    if isinstance(sites, int) and isinstance(attached, int):
        yield "probed", f"{attached:,} of {sites:,}"
    command = run.workload.get("command")
    if isinstance(command, list):
        yield (
            "workload",
            shorten(printable(" ".join(map(str, command))), MAX_COMMAND, placeholder=" ..."),
        )


def _comparison(comparison: Comparison, draw: Draw) -> ComparisonView:
    per: Per = "unit" if comparison.unit else "second"
    found = list(_ratios(comparison, per))
    shown = found[:SHOWN_FUNCTIONS]
    return ComparisonView(
        heading=heading(comparison),
        verdict=verdict(comparison, per),
        lines=lines(comparison, per, every=True),
        legend=legend(comparison),
        notes=comparison.notes,
        chart=draw(ratios_chart(shown) if shown else None),
        shown=len(shown),
        with_ratio=len(found),
        has_intervals=any(ratio.low is not None for ratio in found),
    )


def _ratios(comparison: Comparison, per: Per) -> Iterator[Ratio]:
    """Yield what can stand on a logarithmic scale, totals first, then by the size of change."""
    rows = [row for row in comparison.rows if row.is_hit and row.change(per).ratio]
    functions = Counter(row.function for row in rows)
    names: Counter[str] = Counter()
    for row in rows:
        change = row.change(per)
        if row.function is None:
            name = "all helpers" if row.helper is None else f"{row.helper or 'all'}, all functions"
        elif functions[row.function] == 1:
            name = row.function
        else:
            name = f"{row.function}, {row.helper}"
        name = printable(name)
        names[name] += 1
        yield Ratio(
            name=name if names[name] == 1 else f"{name} ({names[name]})",
            ratio=change.ratio or 1.0,
            low=change.low,
            high=change.high,
            before=rate_text(change.before),
            after=rate_text(change.after),
            interval=interval_text(change),
            significant=bool(change.significant),
        )
