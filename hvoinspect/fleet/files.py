"""Which files a fleet's scans are in."""

from __future__ import annotations

import glob
import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple


class Refused(NamedTuple):
    """What was given, or found, and is no scan; `why` is one line."""

    path: str
    why: str


def find(given: Sequence[str], suffix: str = ".json") -> tuple[list[Path], list[Refused]]:
    """Return the files that are meant, each once and in the order of their paths, and the rest.

    `given` are files, patterns as a shell's with ** for any folders, and folders, which stand for
    all files in and below them whose names end in `suffix`, but not for hidden ones.
    """
    found: dict[str, Path] = {}
    refused: list[Refused] = []
    for name in given:
        try:
            paths = list(_meant(name, suffix))
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            refused.append(Refused(name, getattr(error, "strerror", None) or str(error)))
            continue
        if not paths:
            refused.append(Refused(name, f"there is no file *{suffix} in it, or that it matches"))
        for path in paths:
            found.setdefault(os.path.realpath(path), Path(path))
    return sorted(found.values()), refused


def _meant(name: str, suffix: str) -> Iterator[str]:
    """Yield the files that one name is for. Raises OSError, ValueError."""
    if not os.path.lexists(name) and glob.has_magic(name):
        for path in glob.iglob(name, recursive=True):  # noqa: PTH207 - as the user wrote it
            if not Path(path).is_dir():
                yield path
    elif stat.S_ISDIR(os.stat(name).st_mode):  # noqa: PTH116 - whatever is wrong with it is raised
        yield from _below(name, suffix)
    else:
        yield name


def _below(folder: str, suffix: str) -> Iterator[str]:
    """Yield the regular files in and below a folder. Raises OSError if it cannot be listed."""

    def refuse(error: OSError) -> None:
        raise error

    for place, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = os.path.join(place, name)  # noqa: PTH118 - there are tens of thousands
            if name.endswith(suffix) and not name.startswith(".") and os.path.isfile(path):  # noqa: PTH113
                yield path


def named(files: Sequence[Path]) -> dict[Path, str]:
    """Return a name for each file that no other has, without a slash.

    It is the file's without its suffix, unless several have that: then it is their path below the
    folder that they have in common, as "host-vmcore".
    """
    count = Counter(path.stem for path in files)
    alike = [path for path in files if count[path.stem] > 1]
    common = os.path.commonpath([path.absolute().parent for path in alike]) if alike else ""
    names: dict[Path, str] = {}
    taken = {stem for stem, times in count.items() if times == 1}
    for path in files:
        name = path.stem
        if count[name] > 1:
            base = "-".join(path.absolute().relative_to(common).parts)
            numbers = (f"-{number}" for number in range(2, len(files) + 2))
            name = next(base + more for more in ("", *numbers) if base + more not in taken)
            taken.add(name)
        names[path] = name
    return names
