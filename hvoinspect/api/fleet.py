"""What `fleet` asks: what many scans come to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from hvoinspect.api.progress import Progress, no_progress
from hvoinspect.errors import HvoinspectError
from hvoinspect.fleet.database import Database, opened
from hvoinspect.fleet.files import find


@contextmanager
def fleet_of(
    scans: Sequence[str], progress: Progress = no_progress, *, jobs: int | None = None
) -> Iterator[Database]:
    """Give the database of many scans: files, patterns, or folders, as `fleet.files.find` says.

    What is no scan is in its `refused`. Raises HvoinspectError if all are, or as
    `fleet.database.opened` does.
    """
    files, missing = find(scans)
    with opened(files, missing, progress, jobs) as database:
        if not database.scans and database.refused:
            path, why = database.refused[0]
            more = len(database.refused) - 1
            raise HvoinspectError(
                f"none of the files is a scan: {path} {why}" + (f" ({more:,} more)" * bool(more)),
                "give files that `hvoinspect scan --json` wrote, or folders of them",
            )
        yield database
