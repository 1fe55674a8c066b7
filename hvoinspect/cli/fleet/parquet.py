"""Tables as Parquet files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hvoinspect.cli.output import destination, write_copy
from hvoinspect.errors import ExitStatus, HvoinspectError

if TYPE_CHECKING:
    from hvoinspect.fleet.database import Database

SUFFIX = ".parquet"


def check_parquet(path: Path, *, force: bool) -> None:
    """Raise HvoinspectError if `path` cannot be written: before the work, not after it.

    A folder is made if it is not there.
    """
    if path.suffix == SUFFIX:
        destination(path, force=force)
        return
    try:
        path.mkdir(exist_ok=True)
    except OSError as error:
        raise HvoinspectError(
            f"{path} is no folder, and none can be made there: {error.strerror}",
            f"give a folder, or a file that ends in {SUFFIX}",
            ExitStatus.USAGE,
        ) from error
    for _, goal in _goals(path):
        destination(goal, force=force)


def export(database: Database, path: Path, sql: str | None, *, force: bool) -> None:
    """Write all tables to the folder `path`, or what `sql` returns, or hosts, to that file.

    Each file is there whole or not at all. Raises HvoinspectError.
    """
    if path.suffix == SUFFIX:
        write_copy(path, database.parquet(sql or "SELECT * FROM hosts"), force=force)
        return
    for table, goal in _goals(path):
        write_copy(goal, database.parquet(f"SELECT * FROM {table}"), force=force)  # noqa: S608


def _goals(folder: Path) -> list[tuple[str, Path]]:
    from hvoinspect.fleet.tables import TABLES  # noqa: PLC0415

    return [(table, folder / f"{table}{SUFFIX}") for table in TABLES]
