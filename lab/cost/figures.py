"""What an operation costs on each kernel, what differs between them, and the tables that say so."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from lab.cost.workload import Operation

T = TypeVar("T")

SCHEMA = "hvoinspect.lab.cost/1"


@dataclass(frozen=True)
class Cost:
    """What one operation costs on one kernel, in instructions a page.

    `kernel` is the name that was asked for, `boots` what each boot of the guest gave, `spread` how
    far apart the repetitions of a boot were, at most. `pages` is the larger number that was
    measured, `compound` how many of them were in folios of more than one page. `hits` are those
    a page that a recorder counted in a guest of its own, if one did.
    """

    operation: str
    kernel: str
    release: str
    hvo: bool
    boots: tuple[float, ...]
    spread: float
    pages: int
    compound: int | None
    hits: float | None = None

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
    """Numbers under `columns`, shown with one decimal, `signed` with a plus; None is none."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[float | None, ...]], ...]
    signed: bool = False

    def lines(self) -> list[list[str]]:
        """Return the rows as text, below that of the columns."""
        head = ["", *self.columns]
        return [head, *([name, *map(self._number, numbers)] for name, numbers in self.rows)]

    def _number(self, number: float | None) -> str:
        if number is None:
            return "-"
        # What rounds to nothing is neither less nor more.
        rounded = round(number, 1) or 0.0
        return f"{rounded:+.1f}" if self.signed and rounded else f"{rounded:.1f}"


def tables(costs: Sequence[Cost]) -> list[Table]:
    """Return all tables that these costs have something for."""
    kernels = _unique(cost.kernel for cost in costs)
    sides = _unique(cost.hvo for cost in costs)
    columns = [(kernel, hvo) for kernel in kernels for hvo in sides]
    steps = list(itertools.pairwise(kernels))
    found = {(cost.operation, cost.kernel, cost.hvo): cost for cost in costs}
    names = _unique(cost.operation for cost in costs)

    def of(
        number: Callable[[Cost], float | None],
    ) -> tuple[tuple[str, tuple[float | None, ...]], ...]:
        return tuple(
            (name, tuple(number(found[name, *column]) for column in columns)) for name in names
        )

    def less(name: str, one: tuple[str, bool], other: tuple[str, bool]) -> float:
        return found[name, *one].per_page - found[name, *other].per_page

    places = tuple(f"{kernel} {_side(hvo)}" for kernel, hvo in columns)
    made = [Table("Instructions a page, HVO off and on", places, of(lambda cost: cost.per_page))]
    if len(sides) == 2:
        rows = [(name, tuple(less(name, (k, True), (k, False)) for k in kernels)) for name in names]
        made.append(Table("What HVO adds: on less off", kernels, tuple(rows), signed=True))
    for hvo in sides if steps else ():
        stepped = tuple(f"{old}>{new}" for old, new in steps)
        rows = [
            (name, tuple(less(name, (new, hvo), (old, hvo)) for old, new in steps))
            for name in names
        ]
        title = f"From kernel to kernel, HVO {_side(hvo)}"
        made.append(Table(title, stepped, tuple(rows), signed=True))
    if any(cost.hits is not None for cost in costs):
        made.append(Table("Hits a page", places, of(lambda cost: cost.hits)))
    return made


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
        "costs": [{**asdict(cost), "instructions_per_page": cost.per_page} for cost in costs],
    }


def _unique(values: Iterable[T]) -> tuple[T, ...]:
    return tuple(dict.fromkeys(values))


def _side(hvo: bool) -> str:
    return "on" if hvo else "off"


def _place(cost: Cost) -> str:
    return f"{cost.operation} on {cost.kernel}, HVO {_side(cost.hvo)}"
