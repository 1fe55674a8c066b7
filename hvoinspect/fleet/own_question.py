"""What a user's own query returned, as JSON and on a terminal."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console, Group
from rich.table import Column, Table
from rich.text import Text

from hvoinspect.errors import printable
from hvoinspect.fleet.database import Answer
from hvoinspect.report.fitted import Part, print_fitted
from hvoinspect.report.sentence import Sentence, safe
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
    print_fitted(console, lambda options: _parts(answer, ascii_only=options.ascii_only))


def _parts(answer: Answer, *, ascii_only: bool) -> Iterator[Part]:
    texts = [[_text(value) for value in row] for row in answer.rows]
    yield [
        _table(answer, texts, ascii_only=ascii_only),
        Group(*_records(answer.columns, texts)),
    ]
    yield [Sentence(f"{len(texts):,} row{'s' * (len(texts) != 1)}", "dim")]


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
