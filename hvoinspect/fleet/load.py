"""Reads many scans, several at a time, and writes the rows of their tables down.

Every file is read as any other scan is, so that what reaches the database was checked. DuckDB's own
reader of JSON stops at the first file that is not as it expects, checks no range, and takes longer
for many small files (docs/performance.md). Rows that were checked it reads from files of one object
a line, with the types that they are to have: NumPy's arrays are faster still, but have no whole
number that is unknown, and rows as parameters take ten times as long.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from hvoinspect.errors import HvoinspectError
from hvoinspect.fleet.files import Refused
from hvoinspect.fleet.tables import TABLES, rows
from hvoinspect.report.scanfile import read_scan

CHUNK = 250
"""Files that a process reads at a time."""

ALONE = 2 * CHUNK
"""Files up to which other processes take longer to start than to read them."""

Task = tuple[int, list[Path], Path]
"""Number of the first file, the files, and the folder for what is written."""


def load(
    files: Sequence[Path], folder: Path, progress: Callable[[int, int], None], jobs: int | None
) -> list[Refused]:
    """Read `files`, write their rows to `folder`, and return those files that are no scans.

    The rows of table T are in files T-*.json, an object a line. `jobs` processes read, or as many
    as there are processors. Raises HvoinspectError, OSError.
    """
    tasks: list[Task] = [
        (first, list(files[first : first + CHUNK]), folder) for first in range(0, len(files), CHUNK)
    ]
    jobs = jobs or len(os.sched_getaffinity(0))
    refused: dict[int, list[Refused]] = {}
    alone = jobs == 1 or len(files) <= ALONE
    done = 0
    for first, found in map(read_chunk, tasks) if alone else _shared(tasks, jobs):
        refused[first] = found
        done += CHUNK
        progress(min(done, len(files)), len(files))
    return [one for first in sorted(refused) for one in refused[first]]


def _shared(tasks: Sequence[Task], jobs: int) -> Iterator[tuple[int, list[Refused]]]:
    """Do `tasks` in processes. Raises HvoinspectError if one of them is killed."""
    # Not forked: DuckDB, a progress bar or a cluster's client may have threads here.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(jobs, len(tasks)), context, initializer=_begin)
    try:
        for future in as_completed([pool.submit(read_chunk, task) for task in tasks]):
            yield future.result()
    except BrokenProcessPool as error:
        raise HvoinspectError(
            "a process that read scans was killed",
            "see whether memory ran out (dmesg), and give fewer scans or --jobs 1",
        ) from error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _begin() -> None:
    """Begin a process: only its parent hears of Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def read_chunk(task: Task) -> tuple[int, list[Refused]]:
    """Read some scans and write their rows; return the first one's number, and the refused."""
    first, paths, folder = task
    refused: list[Refused] = []
    with contextlib.ExitStack() as stack:
        files = {
            table: stack.enter_context((folder / f"{table}-{first}.json").open("w"))
            for table in TABLES
        }
        for number, path in enumerate(paths, first):
            try:
                scan = read_scan(path)
            except HvoinspectError as error:
                one = Refused(str(path), error.why.removeprefix(f"{path}").lstrip(": "))
                refused.append(one)
                continue
            for table, lines in rows(number, path, scan).items():
                files[table].writelines(f"{json.dumps(line)}\n" for line in lines)
    return first, refused


def write_refused(refused: Sequence[Refused], folder: Path) -> None:
    """Write down what was refused, as the table of that name. Raises OSError."""
    lines = (json.dumps({"path": path, "why": why}) for path, why in refused)
    (folder / "refused.json").write_text("".join(f"{line}\n" for line in lines))
