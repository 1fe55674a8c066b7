"""What is asked of every fleet, on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from hvoinspect.fleet.answers import Fleet
from hvoinspect.report.fitted import print_fitted
from hvoinspect.report.sentence import Sentence, safe
from hvoinspect.report.words import bytes_text, count_text, percent_text

SHOWN = 5
"""Rows of each table that a page shows."""

Row = dict[str, Any]
Show = Callable[[Any], str]


def _size(value: int | None) -> str:
    return "-" if value is None else bytes_text(value)


def _share(value: float | None) -> str:
    return "-" if value is None else percent_text(value)


def _word(value: object) -> str:
    return "-" if value is None else str(value).replace("_", " ")


def _name(value: object) -> str:
    return "-" if value is None else str(value)


def show(fleet: Fleet, console: Console) -> None:
    """Print `fleet` on `console`."""
    print_fitted(console, lambda options: _parts(fleet, ascii_only=options.ascii_only))


Parts = Iterator[Sequence[RenderableType]]


def _parts(fleet: Fleet, *, ascii_only: bool) -> Parts:
    """Yield the parts of the page, each in one or more forms, the widest first."""
    yield [Sentence(verdict(fleet), "bold red" if fleet["errors"] else "bold")]

    def table(title: str, rows: Sequence[Row], columns: dict[str, Show]) -> Parts:
        if rows:
            yield [Text()]
            yield [Sentence(f"{title} ({len(rows):,}):", "bold")]
            yield [
                _table(rows[:SHOWN], columns, ascii_only=ascii_only),
                Group(*(_sentence(row, columns) for row in rows[:SHOWN])),
            ]
            if len(rows) > SHOWN:
                more = f"... and {len(rows) - SHOWN:,} more: --json lists all."
                yield [Sentence(more, "dim")]

    yield from table(
        "Kernels",
        fleet["kernels"],
        {
            "release": _name,
            "tail": _name,
            "hvo": _word,
            "hosts": count_text,
            "hvo_on": count_text,
            "net_saved_bytes": _size,
        },
    )
    yield from table(
        "HVO is off, or not built in",
        fleet["hvo_off"],
        {"host": _name, "state": _name, "hugepage_bytes": _size, "potential_bytes": _size},
    )
    yield from table(
        "Findings by rule",
        fleet["findings"],
        {"rule": _name, "severity": _name, "hosts": count_text, "findings": count_text},
    )
    yield from table(
        "Hosts with errors", fleet["errors"], {"host": _name, "errors": count_text, "path": _name}
    )
    yield from table(
        "Outliers, of what can be saved",
        fleet["outliers"],
        {"host": _name, "share": _share, "median_share": _share, "peers": count_text},
    )
    yield from table(
        "Seen only in part",
        fleet["partial"],
        {"host": _name, "source": _name, "fraction": _share},
    )
    yield from table("Could not be read", fleet["refused"], {"path": _name, "why": _name})


def verdict(fleet: Fleet) -> str:
    """Return in a sentence or two what a fleet comes to."""
    hosts, saved = fleet["hosts"], fleet["saved"]
    parts = [f"{_many(hosts, 'host')}, {_many(fleet['scans'], 'scan')}"]
    states = (f"{row['hosts']:,} {row['state']}" for row in fleet["hvo"])
    parts += [f"HVO: {', '.join(states)}"] if fleet["hvo"] else []
    if saved["hosts_known"]:
        parts.append(f"{bytes_text(saved['net_saved_bytes'])} saved net")
        parts.append(f"{bytes_text(saved['potential_bytes'])} more could be")
    if saved["hosts_unknown"]:
        parts.append(f"of {_many(saved['hosts_unknown'], 'host')} that is not known")
    if fleet["errors"]:
        parts.append(f"{_many(len(fleet['errors']), 'host')} with errors")
    if fleet["refused"]:
        parts.append(f"{_many(len(fleet['refused']), 'file')} could not be read")
    return "; ".join(parts) + "."


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


def _title(name: str) -> str:
    return name.removesuffix("_bytes").replace("_", " ")


def _table(rows: Sequence[Row], columns: dict[str, Show], *, ascii_only: bool) -> Table:
    table = Table(
        *(
            Column(_title(name), justify="left" if show in (_name, _word) else "right")
            for name, show in columns.items()
        ),
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
        header_style="dim",
    )
    for row in rows:
        table.add_row(
            *(Text(safe(show(row[name]), ascii_only=ascii_only)) for name, show in columns.items())
        )
    return table


def _sentence(row: Row, columns: dict[str, Show]) -> Sentence:
    first, *others = columns.items()
    parts = (f"{_title(name)} {show(row[name])}" for name, show in others)
    return Sentence(f"{first[1](row[first[0]])}: {', '.join(parts)}", indent=2)
