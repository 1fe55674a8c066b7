"""Which files a user means by the runs of a side."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from hvoinspect.errors import ExitStatus, HvoinspectError


def run_files(side: str, paths: Sequence[Path]) -> list[Path]:
    """Return the files of a side, folders replaced by what is in them (their *.json).

    Raises HvoinspectError, which calls it `side`, if a folder has none, or a file is given twice.
    """
    files = [file for path in paths for file in _inside(path)]
    seen: set[str] = set()
    for file in files:
        real = os.path.realpath(file)
        if real in seen:
            # The same figures twice would pass for two runs that agree.
            raise HvoinspectError(
                f"{file} is given twice for the side {side}",
                "give each run once",
                ExitStatus.USAGE,
            )
        seen.add(real)
    return files


def _inside(path: Path) -> list[Path]:
    """Return the files in the folder `path`, or `path` itself if it is none."""
    try:
        if not path.is_dir():
            return [path]
    except OSError:  # whoever reads it will say why
        return [path]
    files = sorted(path.glob("*.json"))
    if not files:
        raise HvoinspectError(
            f"no run is in the folder {path}",
            "give a folder with files *.json that `hvoinspect hotpath record -o` wrote",
        )
    return files
