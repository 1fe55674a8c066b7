"""The tables and views, described: for people, as JSON, and for the documentation."""

from __future__ import annotations

import json
from collections.abc import Iterator

from rich.console import Console

from hvoinspect.fleet.tables import TABLES
from hvoinspect.fleet.views import VIEWS
from hvoinspect.report.sentence import Sentence
from hvoinspect.version import __version__

SCHEMA = "hvoinspect.fleet-schema/1"


def show_schema(console: Console) -> None:
    """Print all tables with their columns, and all views."""
    for name, table in TABLES.items():
        console.print(Sentence(f"{name}: {table.about}", "bold", indent=2), highlight=False)
        for column in table.columns:
            text = f"  {column.name:18} {column.type:10} {column.about}"
            console.print(Sentence(text, indent=32), highlight=False)
    for view in VIEWS:
        console.print(Sentence(f"{view.name} (view): {view.about}", "bold", indent=2))


def schema_to_json() -> str:
    """Return all tables and views as one JSON object, ending in a newline."""
    tables = [
        {
            "name": name,
            "about": table.about,
            "columns": [column._asdict() for column in table.columns],
        }
        for name, table in TABLES.items()
    ]
    views = [{"name": view.name, "about": view.about, "sql": _one_line(view.sql)} for view in VIEWS]
    whole = {"schema": SCHEMA, "version": __version__, "tables": tables, "views": views}
    return json.dumps(whole, indent=2) + "\n"


def _one_line(sql: str) -> str:
    return " ".join(sql.split())


def markdown() -> str:
    """Return the same as docs/fleet.md has it."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    for name, table in TABLES.items():
        yield f"**{name}**: {table.about}.\n\n| column | type | what it holds |\n|---|---|---|"
        for column in table.columns:
            yield f"| {column.name} | {column.type} | {column.about} |"
        yield ""
    yield "| view | a row of it |\n|---|---|"
    for view in VIEWS:
        yield f"| {view.name} | {view.about} |"
    yield ""
