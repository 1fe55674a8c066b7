"""The functions that run a copy of a helper: for hosts where the copies themselves are not known.

The table, callers.csv, is made by scripts/make-callers from the sites of two kernels: one that
names heads by pointers (up to 7.0) and one that does by masks (7.1 and later). Other builds of
either kind differ a little; what such a kernel does not have is reported when it is recorded.
"""

from __future__ import annotations

import csv
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from hvoinspect.hotpath.sitesfile import Sites

TABLE = Path(__file__).parent / "callers.csv"
KINDS = ("pointer", "mask")
"""How tails name their head; the columns of the table."""


@dataclass(frozen=True)
class Caller:
    """A function and how many copies it has. With `in_loop`, a call may run one many times."""

    function: str
    copies: int
    in_loop: bool


def read_callers(kind: str | None) -> tuple[Caller, ...]:
    """Return the callers in kernels of a kind of KINDS, or in either if it is not known."""
    found: dict[str, Caller] = {}
    with TABLE.open(encoding="ascii", newline="") as file:
        for row in csv.DictReader(file):
            for column in KINDS if kind is None else (kind,):
                copies, in_loop = int(row[f"{column}_copies"]), row[f"{column}_in_loop"] == "yes"
                before = found.get(row["function"], Caller(row["function"], 0, False))
                found[before.function] = Caller(
                    before.function, max(before.copies, copies), before.in_loop or in_loop
                )
    return tuple(caller for caller in found.values() if caller.copies)


def callers_of(sites: Sites) -> dict[str, Caller]:
    """Return the functions with copies; copies that begin at one address count as one."""
    addresses: dict[str, set[int]] = defaultdict(set)
    loops: set[str] = set()
    for copy in sites.copies:
        addresses[copy.function].add(copy.address)
        if copy.in_loop:
            loops.add(copy.function)
    return {
        function: Caller(function, len(places), function in loops)
        for function, places in addresses.items()
    }


def write_table(kinds: Sequence[Sites], file: TextIO) -> None:
    """Write the table from the sites of one kernel of each of KINDS."""
    tables = [callers_of(sites) for sites in kinds]
    writer = csv.writer(file, lineterminator="\n")
    columns = (f"{kind}_{what}" for kind in KINDS for what in ("copies", "in_loop"))
    writer.writerow(["function", *columns])
    for function in sorted(set().union(*tables)):
        row: list[object] = [function]
        for table in tables:
            caller = table.get(function, Caller(function, 0, False))
            row += [caller.copies, "yes" if caller.in_loop else "no"]
        writer.writerow(row)


def main() -> None:
    """Write the table to standard output, from the two sites files that are named."""
    from hvoinspect.hotpath.sitesfile import read_sites  # noqa: PLC0415

    write_table([read_sites(Path(path)) for path in sys.argv[1:3]], sys.stdout)


if __name__ == "__main__":
    main()
