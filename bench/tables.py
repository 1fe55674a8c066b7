"""What was measured, as tables: raw values in rows, and how each column is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from bench.clock import Times

Value = str | int | float | bool | None


class Kind(Enum):
    """How the values of a column are shown."""

    TEXT = "text"
    COUNT = "count"
    SECONDS = "seconds"
    MILLISECONDS = "milliseconds, of seconds"
    RATE = "millions a second"
    MEGABYTES = "MB, of bytes"
    RATIO = "ratio"
    PERCENT = "percent, of a fraction"
    AT_LEAST = "a ratio that is the goal"
    MET = "whether the goal was met"


@dataclass(frozen=True)
class Column:
    """A column: the key of its values in JSON, its title, and how they are shown; or not at all."""

    key: str
    title: str
    kind: Kind
    shown: bool = True


@dataclass(frozen=True)
class Table:
    """One table; None is what was not measured. `notes` are sentences to read it by."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Value, ...], ...]
    notes: tuple[str, ...] = field(default=())

    @property
    def shown(self) -> list[Column]:
        """The columns that are not for JSON only."""
        return [column for column in self.columns if column.shown]

    def lines(self) -> list[list[str]]:
        """Return the rows as texts, below the titles of the columns that are shown."""
        head = [column.title for column in self.shown]
        return [head, *(self._texts(row) for row in self.rows)]

    def as_json(self) -> dict[str, Any]:
        """Return the raw values, a row an object."""
        keys = [column.key for column in self.columns]
        return {
            "title": self.title,
            "rows": [dict(zip(keys, row, strict=True)) for row in self.rows],
            "notes": list(self.notes),
        }

    def _texts(self, row: Sequence[Value]) -> list[str]:
        pairs = zip(row, self.columns, strict=True)
        return [text(value, column.kind) for value, column in pairs if column.shown]


def text(value: Value, kind: Kind) -> str:
    """Return a value as a table shows it, empty for None."""
    if value is None:
        return ""
    if kind is Kind.MET:
        return "yes" if value else "no"
    if kind is Kind.TEXT or isinstance(value, str):
        return str(value)
    if kind is Kind.COUNT:
        return f"{value:,}"
    factor, unit = {
        Kind.SECONDS: (1.0, " s"),
        Kind.MILLISECONDS: (1e3, " ms"),
        Kind.RATE: (1e-6, " M/s"),
        Kind.MEGABYTES: (1e-6, " MB"),
        Kind.RATIO: (1.0, " x"),
        Kind.AT_LEAST: (1.0, " x"),
        Kind.PERCENT: (100.0, " %"),
    }[kind]
    return f"{_three_digits(value * factor)}{unit}"


def _three_digits(number: float) -> str:
    if number >= 100:
        return f"{number:,.0f}"
    return f"{number:.1f}" if number >= 10 else f"{number:.2f}"


RACE = (
    Column("what", "hvoinspect", Kind.TEXT),
    Column("rate", "pages", Kind.RATE),
    Column("rival", "beside", Kind.TEXT),
    Column("rival_rate", "pages", Kind.RATE),
    Column("ratio", "ratio", Kind.RATIO),
    Column("ratio_of_medians", "median", Kind.RATIO),
    Column("ratio_of_processor", "CPU", Kind.RATIO),
    Column("goal", "goal", Kind.AT_LEAST),
    Column("met", "met", Kind.MET),
    Column("seconds", "took", Kind.SECONDS, shown=False),
    Column("rival_seconds", "beside", Kind.SECONDS, shown=False),
)
"""Ours beside a rival that comes to the same struct pages: `pages` are those a second. Rates and
ratio are of the least times; `median` is the ratio of the median ones, `CPU` that of processors'
time, of which a busy machine takes less away."""


def race(
    what: str, ours: Times, rival: str, theirs: Times, struct_pages: int, goal: float | None = None
) -> tuple[Value, ...]:
    """Return a row of RACE; without a goal, there is none to meet."""
    ratio = theirs.least / ours.least
    return (
        what,
        struct_pages / ours.least,
        rival,
        struct_pages / theirs.least,
        ratio,
        theirs.median / ours.median,
        theirs.least_processor / ours.least_processor,
        goal,
        None if goal is None else ratio >= goal,
        ours.least,
        theirs.least,
    )
