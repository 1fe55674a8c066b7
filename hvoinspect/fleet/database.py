"""The database that questions are asked of: in memory, and closed to everything else."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hvoinspect.errors import ExitStatus, HvoinspectError, printable
from hvoinspect.extras import needed
from hvoinspect.fleet.files import Refused
from hvoinspect.fleet.load import load, write_refused
from hvoinspect.fleet.tables import TABLES
from hvoinspect.fleet.views import VIEWS

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection, DuckDBPyRelation

MAX_LINE = 64 << 20
"""Bytes of a row: a scan is at most 32 MiB, and what is escaped in a row may take twice as much."""


class Answer(NamedTuple):
    """What a query returns: the columns' names, and rows of what Python has for each type."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]

    def records(self) -> list[dict[str, Any]]:
        """Return the rows by column."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


class Database:
    """Scans in tables. `files` is how many were given, `refused` those that are none."""

    def __init__(
        self, connection: DuckDBPyConnection, folder: Path, files: int, refused: list[Refused]
    ) -> None:
        self._connection = connection
        self._folder = folder
        self.files = files
        self.refused = refused

    @property
    def scans(self) -> int:
        """How many scans there are."""
        return int(self.ask("SELECT count(*) FROM scans").rows[0][0])

    def ask(self, sql: str) -> Answer:
        """Return what a query of the project's own returns."""
        result = self._connection.execute(sql)
        return Answer(tuple(column[0] for column in result.description or ()), result.fetchall())

    def ask_freely(self, sql: str) -> Answer:
        """Return what a user's query returns. Raises HvoinspectError if it is none."""
        with _told():
            relation = self._query(sql)
            columns = tuple(printable(name) for name in relation.columns)
            return Answer(columns, relation.fetchall())

    def parquet(self, sql: str) -> Path:
        """Write what a query returns to a Parquet file in the database's own folder.

        Raises HvoinspectError if the query is none, or if there is no room.
        """
        path = self._folder / "out.parquet"
        with _told():
            self._query(sql).write_parquet(str(path))
        return path

    def _query(self, sql: str) -> DuckDBPyRelation:
        """Return a query, not yet run. Raises HvoinspectError, duckdb.Error."""
        statements = self._connection.extract_statements(sql)
        relation = self._connection.sql(statements[0].query) if len(statements) == 1 else None
        if relation is None:
            raise HvoinspectError("--sql takes one query", _SQL, ExitStatus.USAGE)
        return relation


_SQL = "see the tables and their columns with: hvoinspect fleet --schema"


@contextmanager
def _told() -> Iterator[None]:
    """Tell what DuckDB says of a query in one line."""
    import duckdb  # noqa: PLC0415

    try:
        yield
    except duckdb.Error as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise HvoinspectError(
            f"DuckDB refuses the query: {' '.join(lines[:2])}", _SQL, ExitStatus.USAGE
        ) from error


@contextmanager
def opened(
    files: Sequence[Path],
    refused: Sequence[Refused],
    progress: Callable[[int, int], None],
    jobs: int | None = None,
) -> Iterator[Database]:
    """Give the database of the scans in `files`; `refused` are those that were not found.

    Once it is loaded, no query can read or write a file, load an extension, or reach Python's
    variables; only its own folder, which goes with it, is open for what is exported.
    Raises HvoinspectError if DuckDB is not installed, or if there is no room.
    """
    needed("fleet", "duckdb")
    import duckdb  # noqa: PLC0415

    with contextlib.ExitStack() as stack:
        try:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hvoinspect-")))
            found = [*refused, *load(files, folder, progress, jobs)]
            write_refused(found, folder)
            connection = duckdb.connect(":memory:", config=_config(folder))
            stack.enter_context(connection)
            _fill(connection, folder)
            _close(connection, folder)
        except (OSError, duckdb.IOException) as error:
            raise HvoinspectError(
                f"the scans cannot be put into tables: {str(error).splitlines()[0]}",
                "make room in the folder for temporary files, or set TMPDIR to another",
            ) from error
        yield Database(connection, folder, len(files) + len(refused), found)


def _config(folder: Path) -> dict[str, str | bool | int | float | list[str]]:
    return {
        "temp_directory": str(folder / "spill"),
        "threads": len(os.sched_getaffinity(0)),
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "python_enable_replacements": False,
    }


def _fill(connection: DuckDBPyConnection, folder: Path) -> None:
    for name, table in TABLES.items():
        columns = ", ".join(f"{column.name} {column.type}" for column in table.columns)
        connection.execute(f"CREATE TABLE {name} ({columns})")
        paths = sorted(str(path) for path in folder.glob(f"{name}*.json") if path.stat().st_size)
        if paths:
            types = {column.name: column.type for column in table.columns}
            connection.execute(
                f"INSERT INTO {name} SELECT * FROM read_json(?, columns = {types}, "  # noqa: S608
                f"format = 'newline_delimited', maximum_object_size = {MAX_LINE})",
                [paths],
            )
            for path in paths:
                Path(path).unlink()
    for view in VIEWS:
        connection.execute(f"CREATE VIEW {view.name} AS {view.sql}")


def _close(connection: DuckDBPyConnection, folder: Path) -> None:
    connection.execute(f"SET allowed_directories = ['{folder}']")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
