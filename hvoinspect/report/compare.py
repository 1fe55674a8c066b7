"""A comparison of two kernels' hot paths: its JSON, and its rows in words."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass

from hvoinspect.hotpath.compare import (
    FALSE_FINDS,
    Change,
    Comparison,
    Per,
    Row,
    Side,
    by_change,
)
from hvoinspect.hotpath.ratio import LEVEL
from hvoinspect.version import __version__

SCHEMA = "hvoinspect.hotpath-compare/1"

SHOWN_FUNCTIONS = 10
"""With the totals and the sentences, what fits a terminal of 24 lines."""


def to_json(comparison: Comparison) -> str:
    """Return the whole comparison as JSON; null says unknown, or not there."""
    return json.dumps(
        {
            "schema": SCHEMA,
            "version": __version__,
            "mode": comparison.mode,
            "confidence": LEVEL,
            "false_discovery_rate": FALSE_FINDS,
            "before": _side(comparison.before),
            "after": _side(comparison.after),
            "unit": comparison.unit,
            "totals": [_row(row) for row in comparison.rows if row.function is None],
            "functions": [_row(row) for row in comparison.rows if row.function is not None],
            "notes": list(comparison.notes),
        },
        indent=2,
    ) + "\n"  # fmt: skip


def _side(side: Side) -> dict[str, object]:
    return {
        "release": side.release,
        "tail": side.tail,
        "runs": side.runs,
        "seconds": side.seconds,
        "units": side.units,
        "coverage": {"sites": side.sites, "attached": side.attached},
    }


def _row(row: Row) -> dict[str, object]:
    return {
        "helper": row.helper,
        "function": row.function,
        "renamed_from": row.renamed_from,
        "only": row.only,
        "sites": {"before": row.sites[0], "after": row.sites[1]},
        "per_second": _change(row.per_second),
        "per_unit": row.per_unit and _change(row.per_unit),
    }


def _change(change: Change) -> dict[str, object]:
    return {
        "before": change.before,
        "after": change.after,
        "ratio": change.ratio,
        "low": change.low,
        "high": change.high,
        "p_value": change.p_value,
        "adjusted_p_value": change.adjusted,
        "significant": change.significant,
    }


@dataclass(frozen=True)
class Line:
    """One row as it is read. A total has no `function`; `mark` is "*" if it is significant."""

    helper: str
    function: str | None
    before: str
    after: str
    ratio: str
    interval: str
    mark: str

    @property
    def name(self) -> str:
        """What the line is about, below its helper's line."""
        return self.helper if self.function is None else self.function


@dataclass(frozen=True)
class Lines:
    """Totals, each with those of its functions that are shown; `more` are not."""

    per: str
    lines: tuple[Line, ...]
    more: int


def lines(comparison: Comparison, per: Per, *, every: bool) -> Lines:
    """Return what is shown: the functions that changed most, or all if `every`."""
    rows = by_change(comparison.rows, per)
    totals = [row for row in rows if row.function is None]
    functions = [row for row in rows if row.function is not None]
    shown = functions if every else [row for row in functions if row.is_hit][:SHOWN_FUNCTIONS]
    if len(totals) == 2:  # all helpers, and the only one
        totals = totals[1:]
    return Lines(
        per=(per == "unit" and comparison.unit) or "second",
        lines=tuple(_grouped(totals, shown, per)),
        more=len(functions) - len(shown),
    )


def _grouped(totals: list[Row], functions: list[Row], per: Per) -> Iterator[Line]:
    for total in totals:
        yield _line(total, per)
        for row in functions:
            if row.helper == total.helper:
                yield _line(row, per)


def _line(row: Row, per: Per) -> Line:
    change = row.change(per)
    was = f"{row.renamed_from} -> " if row.renamed_from else ""
    helper = "all helpers" if row.helper is None else row.helper or "all functions"
    return Line(
        helper=helper if row.function is not None else was + helper,
        function=None if row.function is None else was + row.function,
        before=rate_text(change.before),
        after=rate_text(change.after),
        ratio=_ratio_text(change.ratio),
        interval=f"{row.only} only" if row.only else interval_text(change),
        mark="*" if change.significant else "",
    )


def rate_text(rate: float | None) -> str:
    """Return a rate with four digits, or all of its whole ones; a dash where there is none."""
    if rate is None:
        return "-"
    return f"{rate:,.0f}" if rate >= 1000 else f"{rate:.4g}"


def _ratio_text(ratio: float | None) -> str:
    if ratio is None:
        return "-"
    return f"{ratio:.3f}" if 0.1 <= ratio < 10 or ratio == 0 else f"{ratio:.3g}"


def interval_text(change: Change) -> str:
    """Return the interval of a ratio, as "over 1.2" where it is open; empty if it is not known."""
    if change.low is None:
        return ""
    if change.high is None:
        return f"over {_ratio_text(change.low)}"
    return f"{_ratio_text(change.low)} to {_ratio_text(change.high)}"


def heading(comparison: Comparison) -> str:
    """Return which kernels are compared, and what of them."""
    sides = (_side_text(comparison.before), _side_text(comparison.after))
    return f"Linux {sides[0]} -> {sides[1]}, mode {comparison.mode}"


def _side_text(side: Side) -> str:
    tails = f"{side.tail} tails, " if side.tail else ""
    return f"{side.release} ({tails}{side.runs} run{'s' * (side.runs != 1)})"


def verdict(comparison: Comparison, per: Per) -> str:
    """Return one sentence on whether anything changed."""
    hit = [row for row in comparison.rows if row.function is not None and row.is_hit]
    changes = [row.change(per) for row in hit if row.only is None]
    alone = len(hit) - len(changes)
    what = "functions" if comparison.mode == "functions" else "helpers in functions"
    if any(change.significant is not None for change in changes):
        found = sum(change.significant is True for change in changes)
        often = f"{found:,} {'are' if found > 1 else 'is'}" if found else "none is"
        text = f"Of {len(changes):,} {what} that both sides have, {often} hit significantly "
        text += "more or less often"
    else:
        text = f"Both sides have {len(changes):,} {what} that were hit"
    if alone:
        text += f"; {alone:,} more {'are' if alone > 1 else 'is'} on one side only"
    return text + "."


def legend(comparison: Comparison) -> str | None:
    """Return what the mark means, None if nothing could have it."""
    if min(comparison.before.runs, comparison.after.runs) < 2:
        return None
    return (
        f"Interval: {LEVEL:.0%}. * significant: of all rows with a *, "
        f"1 in {math.ceil(1 / FALSE_FINDS)} may be chance."
    )


def more_text(more: int) -> str | None:
    """Return how many rows are not shown, None if all are."""
    return f"... and {more:,} more: --all." if more else None
