"""What `fleet` asks: what many scans come to, and the scans of many dumps."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from hvoinspect.api.progress import Progress, no_progress
from hvoinspect.errors import HvoinspectError
from hvoinspect.fleet.database import Database, opened
from hvoinspect.fleet.dumps import cluster, scan_dumps
from hvoinspect.fleet.files import Refused, find
from hvoinspect.fleet.one_dump import Scanned
from hvoinspect.fleet.summary import DumpJson, Summary, dump_json, summary
from hvoinspect.report.result import ScanResult
from hvoinspect.report.scanfile import parse_scan


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


def scan_fleet(
    dumps: Mapping[Path, Path | None],
    scheduler: str | None,
    write: Callable[[Path, str], None],
    progress: Progress = no_progress,
    *,
    seconds: int,
    jobs: int | None = None,
    refused: Sequence[Refused] = (),
    skipped: int = 0,
) -> Summary:
    """Scan many dumps on the Dask cluster of `scheduler`, or in local processes without one.

    `dumps` -> where `write` is to put each scan's JSON, None if nowhere. A dump gets `seconds`; one
    that cannot be scanned stops no other. Raises HvoinspectError as `fleet.dumps.cluster` does, and
    what `write` raises.
    """
    begun = time.monotonic()
    results: list[DumpJson] = [
        dump_json(Path(path), Scanned(None, None, why, 0.0, ""), None, None)
        for path, why in refused
    ]
    if dumps:
        with cluster(scheduler, jobs) as client:
            for done, (dump, came) in enumerate(scan_dumps(client, list(dumps), seconds), 1):
                scan, checked = _checked(dump, came)
                output = dumps[dump]
                if output is not None and scan is not None and came.text is not None:
                    write(output, came.text)
                results.append(dump_json(dump, checked, scan, output))
                progress(done, len(dumps))
    return summary(results, scheduler, skipped, time.monotonic() - begun)


def _checked(dump: Path, came: Scanned) -> tuple[ScanResult | None, Scanned]:
    """Return the scan that a worker returned, if it is one, and what came of the dump."""
    if came.text is None:
        return None, came
    try:
        return parse_scan(dump, came.text.encode()), came
    except HvoinspectError as error:
        return None, came._replace(why=f"the worker returned no scan: {error.why}")
