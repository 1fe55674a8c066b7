"""Puts tables into docs/performance.md, each part between its own markers; the rest is written."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from bench.tables import Kind, Table
from lab.errors import LabError


def markdown(tables: Sequence[Table]) -> str:
    """Return tables as Markdown, what they are read by below each."""
    parts = []
    for table in tables:
        head, *rows = table.lines()
        rule = ["---" if c.kind in (Kind.TEXT, Kind.MET) else "---:" for c in table.shown]
        parts.append(f"**{table.title}**")
        parts.append("\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows)))
        parts += table.notes
    return "\n\n".join(parts) + "\n"


def insert(document: str, part: str, text: str) -> str:
    """Return `document` with `text` between the markers of `part`. Raises LabError without them."""
    begin, end = f"<!-- {part}: begin -->\n", f"<!-- {part}: end -->\n"
    pattern = re.escape(begin) + ".*?" + re.escape(end)
    if not re.search(pattern, document, re.DOTALL):
        raise LabError(
            f"the document has no place for the part {part}",
            f"put these lines into it: {begin.strip()} and {end.strip()}",
        )
    return re.sub(pattern, lambda _: f"{begin}{text}{end}", document, count=1, flags=re.DOTALL)


def rewrite(path: Path, part: str, text: str) -> None:
    """Put `text` between the markers of `part` in a file. Raises LabError, OSError."""
    path.write_text(insert(path.read_text(encoding="utf-8"), part, text), encoding="utf-8")
