"""A comparison of two kernels' hot paths on a terminal, and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Column, Table
from rich.text import Text

from hvoinspect.errors import printable
from hvoinspect.hotpath.compare import Comparison, Per
from hvoinspect.hotpath.ratio import LEVEL
from hvoinspect.report.compare import Lines, heading, legend, lines, more_text, verdict
from hvoinspect.report.fitted import print_fitted
from hvoinspect.report.sentence import Sentence, safe

TABLE_WIDTH = 72
"""Columns from which on the table leaves its names room."""


def show(comparison: Comparison, console: Console, per: Per, *, every: bool) -> None:
    """Print `comparison`, its rates by `per`; all functions if `every`."""
    shown = lines(comparison, per, every=every)
    print_fitted(console, lambda options: ([p] for p in _parts(comparison, shown, options, per)))


def _parts(
    comparison: Comparison, shown: Lines, options: ConsoleOptions, per: Per
) -> Iterator[RenderableType]:
    yield Sentence(heading(comparison), "dim")
    yield Sentence(verdict(comparison, per), "bold")
    yield Text()
    if options.max_width >= TABLE_WIDTH:
        yield _table(shown, min(options.max_width, 100), ascii_only=options.ascii_only)
    else:
        yield from _sentences(shown)
    for sentence in (more_text(shown.more), legend(comparison)):
        if sentence:
            yield Sentence(sentence, "dim")
    for note in comparison.notes:
        yield Sentence(f"Note: {note}.")


def _table(shown: Lines, width: int, *, ascii_only: bool) -> Table:
    table = Table(
        # Texts, not strings: rich would take what is in those for its own markup.
        Column(
            Text(safe(f"hits per {shown.per}", ascii_only=ascii_only)), overflow="fold", ratio=1
        ),
        *(Column(name, justify="right") for name in ("before", "after", "ratio", "interval")),
        Column("", width=1),
        box=None,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        header_style="dim",
        width=width,
    )
    for line in shown.lines:
        total = line.function is None
        name = safe(line.name, ascii_only=ascii_only)
        table.add_row(
            Text(name if total else f"  {name}"),
            line.before,
            line.after,
            line.ratio,
            line.interval,
            line.mark,
            style="bold" if total else "",
        )
    return table


def _sentences(shown: Lines) -> Iterator[Sentence]:
    """Yield what the table says, for where it does not fit."""
    for line in shown.lines:
        total = line.function is None
        rates = [rate for rate in (line.before, line.after) if rate != "-"]
        facts = [
            f"{' -> '.join(rates)} per {shown.per}",
            f"ratio {line.ratio}" if line.ratio != "-" else "",
            line.interval,
        ]
        text = f"{line.name}: {', '.join(filter(None, facts))} {line.mark}".rstrip()
        yield Sentence(text if total else f"- {text}", "bold" if total else "", indent=2)


def to_markdown(comparison: Comparison, per: Per, *, every: bool) -> str:
    """Return `comparison` as a Markdown table between its sentences."""
    shown = lines(comparison, per, every=every)
    return "\n".join(_markdown(comparison, shown, per)) + "\n"


def _markdown(comparison: Comparison, shown: Lines, per: Per) -> Iterator[str]:
    yield _escaped(heading(comparison))
    yield ""
    yield _escaped(verdict(comparison, per))
    yield ""
    yield (
        f"| helper | function | before, per {_escaped(shown.per)} | after | ratio "
        f"| {LEVEL:.0%} interval | |"
    )
    yield "|---|---|--:|--:|--:|--:|---|"
    for line in shown.lines:
        name = "" if line.function is None else _code(line.function)
        yield (
            f"| {_code(line.helper)} | {name} | {line.before} | {line.after} | {line.ratio} "
            f"| {line.interval} | {_escaped(line.mark)} |"
        )
    for sentence in (
        more_text(shown.more),
        legend(comparison),
        *(f"Note: {note}." for note in comparison.notes),
    ):
        if sentence:
            yield ""
            yield _escaped(sentence)


def _code(text: str) -> str:
    """Return a name from a kernel as code: nothing in it is Markdown or HTML."""
    return f"`{printable(text).replace('`', chr(39)).replace('|', chr(92) + '|')}`"


def _escaped(text: str) -> str:
    """Return a sentence with what Markdown or HTML would take for its own escaped."""
    return "".join(f"\\{c}" if c in "\\`*_[]<|#~" else c for c in printable(text))
