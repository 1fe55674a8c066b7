"""What `report` asks: one page of scans and recordings, to hand on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hvoinspect.extras import needed
from hvoinspect.hotpath.run import read_run
from hvoinspect.hotpath.runfiles import run_files
from hvoinspect.report.html import to_html
from hvoinspect.report.html_hotpath import Recordings
from hvoinspect.report.scanfile import read_scan


def report_of(
    scans: Sequence[Path], hot_path: Sequence[Path] = (), title: str | None = None
) -> str:
    """Return the page of `scans`, and of the runs at each path of `hot_path`: a file or a folder.

    Scans are compared each to the one before, and so are runs. Raises HvoinspectError if one cannot
    be read, runs cannot be compared, or what draws charts is not installed.
    """
    needed("report", "bokeh", "jinja2")
    return to_html(
        [(path, read_scan(path)) for path in scans],
        [
            Recordings(path, tuple(read_run(file) for file in run_files(str(path), [path])))
            for path in hot_path
        ],
        title,
    )
