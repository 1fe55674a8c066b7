"""Two kernels' hot paths side by side: what each function runs, before and after."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from hvoinspect.errors import ExitStatus, HvoinspectError
from hvoinspect.hotpath import ratio
from hvoinspect.hotpath.names import function_key, helper_key, source_name
from hvoinspect.hotpath.notes import notes
from hvoinspect.hotpath.run import Mode, Run

FALSE_FINDS = 0.05
"""Of the changes called significant, how many may be so by chance."""

Per = Literal["second", "unit"]

Key = tuple[str | None, str | None]
"""Helper and function; no function for a helper's total, neither for that of all."""


@dataclass(frozen=True)
class Side:
    """The runs of one side together. `units` is None if any run does not know its own."""

    release: str
    tail: str | None
    runs: int
    seconds: float
    units: float | None
    sites: int | None
    attached: int | None


@dataclass(frozen=True)
class Change:
    """Hits by second or unit of work on both sides, and the ratio of after to before.

    None says unknown: a side that does not have the function, a ratio to nothing, an interval that
    is open, anything about chance where a side has a single run. See `ratio.Ratios`.
    """

    before: float | None
    after: float | None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    adjusted: float | None = None

    @property
    def significant(self) -> bool | None:
        """Whether chance is not to be blamed, None if that is not known."""
        return None if self.adjusted is None else self.adjusted < FALSE_FINDS

    @property
    def difference(self) -> float:
        """How many hits more or less."""
        return abs((self.after or 0.0) - (self.before or 0.0))


@dataclass(frozen=True)
class Row:
    """One helper in one function; in all of them if `function` is None, all helpers' if both are.

    The names are those after, if it is there, and `renamed_from` is the name before if that was
    another: the function's, or in a total the helper's. `sites` are the copies counted on each
    side. `only` is the side that has it if the other has not. `per_unit` is None if not all runs
    know their units of work.
    """

    helper: str | None
    function: str | None
    renamed_from: str | None
    only: Literal["before", "after"] | None
    sites: tuple[int, int]
    per_second: Change
    per_unit: Change | None

    def change(self, per: Per) -> Change:
        """Return the change by second or by unit of work, by second if units are not known."""
        return self.per_unit if per == "unit" and self.per_unit else self.per_second

    @property
    def is_hit(self) -> bool:
        """Whether it was run at all on either side."""
        return bool(self.per_second.before or self.per_second.after)


@dataclass(frozen=True)
class Comparison:
    """Both sides, and what limits the whole.

    `unit` is the word for a unit of work, None if not all runs know theirs. `rows` are sorted by
    the size of change, per unit of work if that is known: all helpers, each helper, each function.
    """

    mode: Mode
    before: Side
    after: Side
    unit: str | None
    rows: tuple[Row, ...]
    notes: tuple[str, ...]


def compare(before: Sequence[Run], after: Sequence[Run]) -> Comparison:
    """Compare the runs of two sides, one or more each.

    Raises HvoinspectError if the runs count different things, a side's are of two kernels, or one
    took no time.
    """
    check(before, after)
    unit = _common_unit([*before, *after])
    sides = (_Counts(before), _Counts(after))
    keys = [key for key in sides[0].hits if key in sides[1].hits]
    rows = [_row(key, sides, unit) for key in keys]
    rows = _with_ratios(rows, keys, sides, unit)
    rows += [
        replace(_row(key, sides, unit), only="before" if key in sides[0].hits else "after")
        for key in sides[0].hits.keys() ^ sides[1].hits.keys()
    ]
    return Comparison(
        mode=before[0].mode,
        before=_side(before),
        after=_side(after),
        unit=unit,
        rows=by_change(rows, "unit" if unit else "second"),
        notes=tuple(notes(before, after)),
    )


def check(before: Sequence[Run], after: Sequence[Run]) -> None:
    """Raise HvoinspectError if runs count different things, or as `compare` does."""
    modes = sorted({run.mode for run in (*before, *after)})
    if len(modes) > 1:
        raise HvoinspectError(
            f"the runs count different things: their modes are {' and '.join(modes)}",
            "compare runs of one mode; hotpath record takes it with --mode",
            ExitStatus.USAGE,
        )
    for name, runs in (("before", before), ("after", after)):
        kernels = {str(run.kernel.get("build_id") or run.release): run.release for run in runs}
        if len(kernels) > 1:
            raise HvoinspectError(
                f"the runs {name} are of several kernels: {', '.join(sorted(kernels.values()))}",
                "give each side runs of one kernel",
                ExitStatus.USAGE,
            )
        if any(run.seconds <= 0 for run in runs):
            raise HvoinspectError(
                f"a run {name} took no time, so it has no rate",
                "record it again, with a duration or a command that runs for a while",
            )


def _common_unit(runs: Sequence[Run]) -> str | None:
    """Return the word for the units of work, if all runs know theirs and use the same."""
    words = {run.unit if run.units is not None else None for run in runs}
    return words.pop() if len(words) == 1 else None


def _side(runs: Sequence[Run]) -> Side:
    units = [run.units for run in runs if run.units is not None]
    tail = runs[0].encoding.get("tail")
    return Side(
        release=runs[0].release,
        tail=tail if isinstance(tail, str) else None,
        runs=len(runs),
        seconds=sum(run.seconds for run in runs),
        units=sum(units) if len(units) == len(runs) else None,
        sites=_least(runs, "sites"),
        attached=_least(runs, "attached"),
    )


def _least(runs: Sequence[Run], name: str) -> int | None:
    counts = [count for run in runs if isinstance(count := run.coverage.get(name), int)]
    return min(counts, default=None)


class _Counts:
    """What one side counted, by key: hits of shape (runs,), names as the side has them, sites.

    A function that only some runs list was not hit in the others.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        self.seconds = np.array([run.seconds for run in runs], np.float64)
        self.units = np.array([run.units or np.nan for run in runs], np.float64)
        self.hits: dict[Key, ratio.Floats] = defaultdict(lambda: np.zeros(len(runs)))
        self.names: dict[Key, set[str]] = defaultdict(set)
        self.sites: dict[Key, int] = defaultdict(int)
        for index, run in enumerate(runs):
            sites: dict[Key, int] = defaultdict(int)
            for count in run.counts:
                helper = helper_key(count.helper)
                function = function_key(count.function)
                keys: tuple[Key, ...] = ((helper, function), (helper, None), (None, None))
                for key in keys:
                    self.hits[key][index] += count.hits
                    sites[key] += count.sites
                self.names[helper, function].add(source_name(count.function))
                self.names[helper, None].add(count.helper)
            for key, number in sites.items():
                self.sites[key] = max(self.sites[key], number)
        self.hits.default_factory = None  # from here on, what is not there was not counted

    def name(self, key: Key) -> str | None:
        """Return what this side calls `key`'s function, or helper if it is a total."""
        return " + ".join(sorted(self.names[key])) if key in self.names else None

    def rate(self, key: Key, exposure: ratio.Floats) -> float | None:
        """Return the hits of `key` in all runs by their `exposure`, None if it was not counted."""
        hits = self.hits.get(key)
        if hits is None:
            return None
        with np.errstate(over="ignore"):
            return _known(hits.sum() / exposure.sum())


def _row(key: Key, sides: tuple[_Counts, _Counts], unit: str | None) -> Row:
    """Return the row of `key` without anything that takes both sides."""
    before, after = sides
    names = before.name(key), after.name(key)
    name = names[1] or names[0]
    helper, function = key
    if function is None:
        helper = name
    else:
        function = name
        total: Key = (helper, None)
        helper = after.name(total) or before.name(total)
    return Row(
        helper=helper,
        function=function,
        renamed_from=names[0] if names[1] is not None and names[0] != names[1] else None,
        only=None,
        sites=(before.sites.get(key, 0), after.sites.get(key, 0)),
        per_second=Change(before.rate(key, before.seconds), after.rate(key, after.seconds)),
        per_unit=Change(before.rate(key, before.units), after.rate(key, after.units))
        if unit
        else None,
    )


def _with_ratios(
    rows: list[Row], keys: list[Key], sides: tuple[_Counts, _Counts], unit: str | None
) -> list[Row]:
    """Return `rows` with their ratios; those that were never hit on either side have none."""
    done = [row for row in rows if not row.is_hit]
    hit = [(row, key) for row, key in zip(rows, keys, strict=True) if row.is_hit]
    if not hit:
        return done
    before, after = (np.stack([side.hits[key] for _, key in hit], axis=1) for side in sides)

    def changes(exposures: Sequence[ratio.Floats], bare: Sequence[Change]) -> Iterator[Change]:
        found = ratio.ratios(ratio.Side(before, exposures[0]), ratio.Side(after, exposures[1]))
        for index, change in enumerate(bare):
            yield replace(
                change,
                ratio=_known(found.ratio[index]),
                low=_known(found.low[index]),
                high=_known(found.high[index]),
                p_value=_known(found.p_value[index]),
                adjusted=_known(found.adjusted[index]),
            )

    bare = [row for row, _ in hit]
    per_second = changes([side.seconds for side in sides], [row.per_second for row in bare])
    bare = [replace(row, per_second=new) for row, new in zip(bare, per_second, strict=True)]
    if unit:
        units = [row.per_unit for row in bare if row.per_unit is not None]
        per_unit = changes([side.units for side in sides], units)
        bare = [replace(row, per_unit=new) for row, new in zip(bare, per_unit, strict=True)]
    return bare + done


def _known(number: np.float64) -> float | None:
    return float(number) if np.isfinite(number) else None


def by_change(rows: Iterable[Row], per: Per) -> tuple[Row, ...]:
    """Return `rows` by the size of change, totals first; what may be chance comes last."""

    def order(row: Row) -> tuple[bool, bool, bool, bool, float, str, str]:
        change = row.change(per)
        return (
            row.function is not None,
            row.function is None and row.helper is not None,
            not row.is_hit,
            change.significant is False,
            -change.difference,
            row.function or "",
            row.helper or "",
        )

    return tuple(sorted(rows, key=order))
