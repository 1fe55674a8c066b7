"""What an operation costs on each kernel, what differs between them, and the tables that say so."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, TypeVar

from lab.cost.workload import Operation

T = TypeVar("T")
_Number = Callable[[str], float]
"""A column: gives an operation's number, by its name."""

SCHEMA = "hvoinspect.lab.cost/1"

_COPIES = "_compound_head"
_WORDS = {"sites": "runs", "functions": "calls", "sample": "samples"}


@dataclass(frozen=True)
class Hits:
    """What a recorder counted of one operation on one kernel, a page.

    In mode "sites" `counts` says how often a helper's copies in a function ran, in mode "functions"
    how often a function with copies was called, with "" for the helper.
    """

    operation: str
    mode: str
    counts: dict[tuple[str, str], float]

    @property
    def per_page(self) -> float:
        """Runs of compound_head() a page; in mode "functions", calls."""
        wanted = _COPIES if self.mode == "sites" else ""
        return sum(hits for (_, helper), hits in self.counts.items() if helper == wanted)


@dataclass(frozen=True)
class Cost:
    """What one operation costs on one kernel, in instructions a page.

    `kernel` is the name that was asked for, `boots` what each boot of the guest gave, `spread` how
    far apart the repetitions of a boot were, at most. `pages` is the larger number that was
    measured, `compound` how many of them were in folios of more than one page. `hits` is what a
    recorder counted in a guest of its own, if one did.
    """

    operation: str
    kernel: str
    release: str
    hvo: bool
    boots: tuple[float, ...]
    spread: float
    pages: int
    compound: int | None
    hits: Hits | None = None

    @property
    def per_page(self) -> float:
        """Instructions a page."""
        return statistics.median(self.boots)

    @property
    def apart(self) -> float:
        """How far apart the boots are."""
        return max(self.boots) - min(self.boots)


@dataclass(frozen=True)
class Table:
    """Numbers under `columns`, shown with one decimal, `signed` with a plus."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[float, ...]], ...]
    signed: bool = False

    def lines(self) -> list[list[str]]:
        """Return the rows as text, below that of the columns."""
        head = ["", *self.columns]
        return [head, *([name, *map(self._number, numbers)] for name, numbers in self.rows)]

    def _number(self, number: float) -> str:
        # What rounds to nothing is neither less nor more.
        rounded = round(number, 1) or 0.0
        return f"{rounded:+.1f}" if self.signed and rounded else f"{rounded:.1f}"


def with_hits(costs: Iterable[Cost], hits: Iterable[Hits]) -> list[Cost]:
    """Return one kernel's costs with the hits of their operations."""
    of = {one.operation: one for one in hits}
    return [replace(cost, hits=of[cost.operation]) for cost in costs]


def tables(costs: Sequence[Cost]) -> list[Table]:
    """Return all tables that these costs have something for."""
    at = {(cost.operation, cost.kernel, cost.hvo): cost for cost in costs}
    names = _unique(cost.operation for cost in costs)
    kernels = _unique(cost.kernel for cost in costs)
    sides = _unique(cost.hvo for cost in costs)
    steps = list(itertools.pairwise(kernels))

    def of(kernel: str, hvo: bool) -> _Number:
        return lambda name: at[name, kernel, hvo].per_page

    def table(title: str, columns: Mapping[str, _Number], *, signed: bool = False) -> Table:
        rows = ((name, tuple(number(name) for number in columns.values())) for name in names)
        return Table(title, tuple(columns), tuple(rows), signed)

    made = [
        table(
            "Instructions a page, HVO off and on",
            {f"{kernel} {_side(hvo)}": of(kernel, hvo) for kernel in kernels for hvo in sides},
        )
    ]
    if len(sides) == 2:
        added = {kernel: _less(of(kernel, True), of(kernel, False)) for kernel in kernels}
        made.append(table("What HVO adds: on less off", added, signed=True))
    for hvo in sides if steps else ():
        changes = {f"{old}>{new}": _less(of(new, hvo), of(old, hvo)) for old, new in steps}
        made.append(table(f"From kernel to kernel, HVO {_side(hvo)}", changes, signed=True))
    last = sides[-1]
    counted = {(cost.operation, cost.kernel): cost.hits for cost in costs if cost.hits is not None}
    hits = {
        f"{kernel} {_WORDS[run.mode]}": _per_page(counted, kernel)
        for (_, kernel), run in counted.items()
    }
    if hits:
        saved = {f"{old}>{new} saves": _less(of(old, last), of(new, last)) for old, new in steps}
        made.append(table(f"compound_head() a page, HVO {_side(last)}", {**hits, **saved}))
    return made


def _less(one: _Number, other: _Number) -> _Number:
    return lambda name: one(name) - other(name)


def _per_page(counted: Mapping[tuple[str, str], Hits], kernel: str) -> _Number:
    return lambda name: counted[name, kernel].per_page


def notes(costs: Sequence[Cost]) -> list[str]:
    """Return what one must know of these costs beside the numbers, a line each."""
    releases = _unique(f"{cost.kernel} is {cost.release}" for cost in costs)
    large = _unique(cost.operation for cost in costs if cost.compound)
    unknown = _unique(cost.operation for cost in costs if cost.compound is None)
    said = ["; ".join(releases)]
    said.append(
        f"Folios of more than one page: {', '.join(large) or 'none'}"
        + (f"; not known of: {', '.join(unknown)}" if unknown else "")
    )
    by_calls = _unique(
        cost.kernel for cost in costs if cost.hits is not None and cost.hits.mode == "functions"
    )
    if by_calls:
        said.append(
            f"Calls, on {', '.join(by_calls)}, are of functions that have copies: where these are "
            "in loops a call runs them many times"
        )
    boots = max(len(cost.boots) for cost in costs)
    if boots > 1:
        worst = max(costs, key=lambda cost: cost.apart)
        said.append(
            f"{boots} boots of each guest differ by {worst.apart:.2f} at most ({_place(worst)})"
        )
    worst = max(costs, key=lambda cost: cost.spread)
    said.append(
        f"The middle half of a guest's repetitions differs by {worst.spread:.2f} at most"
        f" ({_place(worst)})"
    )
    return said


def text(costs: Sequence[Cost]) -> str:
    """Return the tables as a terminal shows them, the words of a column above each other."""
    parts = []
    for table in tables(costs):
        head, *rows = table.lines()
        heads = itertools.zip_longest(*(column.split() for column in head[1:]), fillvalue="")
        lines = [*(["", *words] for words in heads), *rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        shown = (
            " ".join([name.ljust(widths[0]), *map(str.rjust, numbers, widths[1:])])
            for name, *numbers in lines
        )
        parts.append("\n".join([table.title, *shown]))
    return "\n\n".join([*parts, "\n".join(notes(costs))]) + "\n"


def markdown(costs: Sequence[Cost], operations: Sequence[Operation]) -> str:
    """Return the tables, and what the operations do, as Markdown."""
    parts = []
    for table in tables(costs):
        head, *rows = table.lines()
        rule = ["---", *("---:" for _ in table.columns)]
        parts.append(f"### {table.title}")
        parts.append("\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows)))
    measured = _unique(cost.operation for cost in costs)
    parts.append("\n".join(f"- `{op.name}`: {op.what}" for op in operations if op.name in measured))
    parts.append("\n".join(f"- {note}" for note in notes(costs)))
    return "\n\n".join(parts) + "\n"


def to_json(
    costs: Sequence[Cost], operations: Sequence[Operation], arguments: str
) -> dict[str, Any]:
    """Return all that was measured, with the kernels' `arguments`, as an object for JSON."""
    return {
        "schema": SCHEMA,
        "arguments": arguments,
        "operations": [asdict(operation) for operation in operations],
        "costs": [_cost_json(cost) for cost in costs],
    }


def _cost_json(cost: Cost) -> dict[str, Any]:
    members = {field.name: getattr(cost, field.name) for field in fields(cost)}
    hits = None
    if cost.hits is not None:
        counts = sorted(cost.hits.counts.items(), key=lambda item: -item[1])
        hits = {
            "mode": cost.hits.mode,
            "per_page": cost.hits.per_page,
            "counts": [
                {"function": function, "helper": helper, "per_page": number}
                for (function, helper), number in counts
                if number
            ],
        }
    return {**members, "instructions_per_page": cost.per_page, "hits": hits}


def _unique(values: Iterable[T]) -> tuple[T, ...]:
    return tuple(dict.fromkeys(values))


def _side(hvo: bool) -> str:
    return "on" if hvo else "off"


def _place(cost: Cost) -> str:
    return f"{cost.operation} on {cost.kernel}, HVO {_side(cost.hvo)}"
