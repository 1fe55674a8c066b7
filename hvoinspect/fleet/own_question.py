"""What a user's own query returned, as JSON and on a terminal."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.segment import Segment
from rich.table import Column, Table
from rich.text import Text

from hvoinspect.errors import printable
from hvoinspect.fleet.database import Answer
from hvoinspect.report.sentence import Sentence, safe
from hvoinspect.report.terminal import fitting, trimmed
from hvoinspect.version import __version__

SCHEMA = "hvoinspect.fleet-sql/1"


def to_json(answer: Answer, refused: Sequence[dict[str, str]]) -> str:
    """Return the rows as one JSON object, ending in a newline.

    What JSON does not have is a text (times, binary data) or null (infinity, what is no number).
    """
    whole = {
        "schema": SCHEMA,
        "version": __version__,
        "columns": list(answer.columns),
        "rows": [[_plain(value) for value in row] for row in answer.rows],
        "refused": list(refused),
    }
    return json.dumps(whole, indent=2, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    return str(value)


def show(answer: Answer, console: Console) -> None:
    """Print the rows on `console`: as a table if it fits, otherwise a column a line."""
    console.print(_Page(answer), highlight=False)


class _Page:
    def __init__(self, answer: Answer) -> None:
        self.answer = answer

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render for the width at hand. No line ends in spaces."""
        texts = [[_text(value) for value in row] for row in self.answer.rows]
        forms: list[RenderableType] = [
            _table(self.answer, texts, ascii_only=options.ascii_only),
            Group(*_records(self.answer.columns, texts)),
        ]
        for line in console.render_lines(fitting(forms, console, options), options, pad=False):
            yield from trimmed(line)
            yield Segment.line()
        count = len(texts)
        yield from console.render(Sentence(f"{count:,} row{'s' * (count != 1)}", "dim"), options)


def _text(value: Any) -> str:
    return "-" if value is None else printable(str(value))


def _table(answer: Answer, texts: list[list[str]], *, ascii_only: bool) -> Table:
    numbers = [
        all(isinstance(row[at], int | float | None) for row in answer.rows)
        for at in range(len(answer.columns))
    ]
    table = Table(
        *(
            Column(Text(safe(name, ascii_only=ascii_only)), justify="right" if right else "left")
            for name, right in zip(answer.columns, numbers, strict=True)
        ),
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
        header_style="dim",
    )
    for row in texts:
        table.add_row(*(Text(safe(text, ascii_only=ascii_only)) for text in row))
    return table


def _records(columns: Sequence[str], texts: list[list[str]]) -> list[Sentence | Text]:
    lines: list[Sentence | Text] = []
    for row in texts:
        lines += [
            Sentence(f"{name}: {text}", indent=2) for name, text in zip(columns, row, strict=True)
        ]
        lines.append(Text())
    return lines
