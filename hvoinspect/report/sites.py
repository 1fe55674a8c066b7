"""The inlined copies of a kernel, or of two side by side: on a terminal, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from rich.console import Console, RenderableType
from rich.table import Column, Table
from rich.text import Text

from hvoinspect.hotpath.sitesfile import Sites
from hvoinspect.hotpath.totals import (
    Pair,
    SitesComparison,
    Total,
    total_of,
    totals_by_function,
    totals_by_helper,
)
from hvoinspect.report.sentence import Sentence, safe
from hvoinspect.version import __version__

COMPARE_SCHEMA = "hvoinspect.sites-compare/1"

SHOWN_FUNCTIONS = 6
"""With the helpers and the sentences, what fits a terminal of 24 lines."""

TABLE_WIDTH = 76
"""Columns from which on the tables leave their names room."""


def show_sites(sites: Sites, console: Console, *, every: bool) -> None:
    """Print the totals of `sites` by helper, and by function: all, or those with most copies."""
    helpers, functions = totals_by_helper(sites), totals_by_function(sites)
    shown = dict(list(functions.items())[: None if every else SHOWN_FUNCTIONS])
    all_of_it = total_of(sites.copies)
    _print(
        console,
        Sentence(f"Linux {sites.release}, build-id {sites.build_id}", "dim"),
        Sentence(
            f"{_number(all_of_it.copies, 'copy', 'copies')} of "
            f"{_number(len(helpers), 'helper')} in {_number(len(functions), 'function')}.",
            "bold",
        ),
    )
    if not sites.copies:
        return
    _print(console, Text(), *_totals("helper", helpers, console))
    _print(console, Text(), *_totals("function", shown, console))
    more = len(functions) - len(shown)
    if more:
        _print(console, Sentence(f"{_number(more, 'further function')}: see --all.", "dim"))


def show_comparison(comparison: SitesComparison, console: Console) -> None:
    """Print two kernels side by side."""
    names = [sites.release for sites in comparison.sides]
    both, before, after = (len(names) for names in comparison.functions)
    _print(
        console,
        Sentence(f"Linux {names[0]} (before) -> {names[1]} (after)", "dim"),
        Sentence(
            f"Copies are in {_number(both, 'function')} of both kernels, in {before:,} of the "
            f"first only and in {after:,} of the second only.",
            "bold",
        ),
        Text(),
        *_pairs(comparison.pairs, console),
    )
    for sentence in _renamed(comparison.pairs):
        _print(console, Sentence(sentence, "dim"))


def comparison_json(comparison: SitesComparison) -> str:
    """Return `comparison` as JSON; null where a kernel has no copy of a helper."""
    before, after = comparison.sides
    both, first, second = comparison.functions
    return json.dumps(
        {
            "schema": COMPARE_SCHEMA,
            "version": __version__,
            "before": _side_json(before),
            "after": _side_json(after),
            "helpers": [_pair_json(pair) for pair in comparison.pairs],
            "functions": {"both": both, "before_only": first, "after_only": second},
        },
        indent=2,
    ) + "\n"  # fmt: skip


def _side_json(sites: Sites) -> dict[str, object]:
    return {"release": sites.release, "build_id": sites.build_id, "copies": len(sites.copies)}


def _pair_json(pair: Pair) -> dict[str, object]:
    before, after = pair.totals
    return {
        "helper": pair.helper,
        "only": _only(pair),
        "before": before and {"helper": pair.names[0], **_total_json(before)},
        "after": after and {"helper": pair.names[1], **_total_json(after)},
    }


def _total_json(total: Total) -> dict[str, object]:
    return {
        "copies": total.copies,
        "functions": total.functions,
        "in_loops": total.in_loops,
        "bytes": total.bytes,
        "instructions": total.instructions,
        "bytes_each": round(total.bytes_each, 2),
        "instructions_each": round(total.instructions_each, 2),
    }


def _only(pair: Pair) -> str | None:
    return {(True, False): "after", (False, True): "before"}.get(
        (pair.totals[0] is None, pair.totals[1] is None)
    )


def _totals(what: str, totals: dict[str, Total], console: Console) -> Iterator[RenderableType]:
    """Yield `totals` as a table, or as sentences where it does not fit."""
    columns = ["copies", "in loops", "bytes", "instructions"]
    if what == "helper":
        columns.insert(1, "functions")
    if console.width < TABLE_WIDTH:
        for name, total in totals.items():
            facts = (f"{column} {number}" for column, number in _facts(total) if column in columns)
            yield Sentence(f"{name}: {', '.join(facts)}", indent=2)
        return
    table = _table(what, columns)
    for name, total in totals.items():
        facts_of = dict(_facts(total))
        table.add_row(
            safe(name, ascii_only=console.options.ascii_only),
            *(facts_of[column] for column in columns),
        )
    yield table


def _facts(total: Total) -> list[tuple[str, str]]:
    return [
        ("copies", f"{total.copies:,}"),
        ("functions", f"{total.functions:,}"),
        ("in loops", f"{total.in_loops:,}"),
        ("bytes", f"{total.bytes:,}"),
        ("each", f"{total.bytes_each:,.1f}"),
        ("instructions", f"{total.instructions:,}"),
        ("each", f"{total.instructions_each:,.1f}"),
    ]


def _pairs(pairs: Sequence[Pair], console: Console) -> Iterator[RenderableType]:
    """Yield two lines for each helper, or sentences where these do not fit."""
    columns = ["copies", "functions", "bytes", "each", "instr.", "each"]
    table = _table("helper", ["", *columns])
    for pair in pairs:
        for side, total in zip(("before", "after"), pair.totals, strict=True):
            facts = (
                [text for column, text in _facts(total) if column != "in loops"] if total else []
            )
            if console.width < TABLE_WIDTH:
                named = zip(columns, facts, strict=True) if facts else ()
                said = ", ".join(f"{column} {text}" for column, text in named) or "no copy"
                yield Sentence(f"{pair.helper}, {side}: {said}", indent=2)
            else:
                name = (
                    safe(pair.helper, ascii_only=console.options.ascii_only)
                    if side == "before"
                    else ""
                )
                table.add_row(name, side, *(facts or ["-"] * len(columns)))
    if console.width >= TABLE_WIDTH:
        yield table


def _table(what: str, columns: Sequence[str]) -> Table:
    return Table(
        Column(what, overflow="fold"),
        *(Column(name, justify="right" if name else "left") for name in columns),
        box=None,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        header_style="dim",
    )


def _renamed(pairs: Sequence[Pair]) -> Iterator[str]:
    """Yield what the reader should know of names."""
    for pair in pairs:
        before, after = pair.names
        if before is not None and before != pair.helper:
            yield f"{pair.helper} is {before} in the first kernel."
        if after is not None and after != pair.helper:
            yield f"{pair.helper} is {after} in the second kernel."


def _number(count: int, one: str, many: str | None = None) -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def _print(console: Console, *parts: RenderableType) -> None:
    for part in parts:
        console.print(part, highlight=False, markup=False)
