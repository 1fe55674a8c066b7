"""One recording of the hot path, and the file that keeps it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

from hvoinspect.jsonfile import Members, read_members

SCHEMA = "hvoinspect.hotpath/1"

MAX_BYTES = 16 << 20
"""A kernel's some 750 copies take about 100 KB, 100,000 functions about 8 MB."""

Mode = Literal["sites", "functions", "sample"]

MODES: dict[str, Mode] = {mode: mode for mode in get_args(Mode)}


@dataclass(frozen=True)
class Count:
    """How often one function ran one helper.

    `sites` is how many copies were counted, `hits` how often they ran in all; in mode "functions"
    `helper` is "" and `hits` are the calls of `function`; in mode "sample", samples.
    """

    function: str
    helper: str
    sites: int
    hits: int


@dataclass(frozen=True)
class Run:
    """What was counted in `seconds` on one kernel.

    `kernel` and `encoding` are as in a scan's JSON. `coverage` counts what should be probed
    ("sites") and what was ("attached"). `workload` says what ran ("command", a list of words), how
    it ended ("status"), and how many units of work it did ("units") of what ("unit", a word), each
    None or left out where it is not known. All four hold what JSON can.
    """

    kernel: dict[str, object]
    encoding: dict[str, object]
    seconds: float
    mode: Mode
    coverage: dict[str, object]
    counts: tuple[Count, ...]
    workload: dict[str, object]

    @property
    def release(self) -> str:
        """The kernel's release, or "?"."""
        return str(self.kernel.get("release") or "?")

    @property
    def units(self) -> float | None:
        """How many units of work were done, None if that is not known, or none were."""
        units = self.workload.get("units")
        return float(units) if isinstance(units, int | float) and units > 0 else None

    @property
    def unit(self) -> str:
        """What a unit of work is."""
        return str(self.workload.get("unit") or "unit")


def run_json(run: Run) -> str:
    """Return `run` as one JSON object and a newline; `read_run` reads it back."""
    return json.dumps({"schema": SCHEMA, **asdict(run)}, indent=1, allow_nan=False) + "\n"


def read_run(path: Path) -> Run:
    """Read what `run_json` wrote. Raises HvoinspectError if `path` holds anything else.

    Members that are not known are left out at the top and kept in the objects, since later versions
    may add some.
    """
    remedy = "give a file that `hvoinspect hotpath record -o FILE` wrote"
    members = read_members(path, SCHEMA, remedy, MAX_BYTES)
    return Run(
        kernel=_kernel(members.object("kernel")),
        encoding=_encoding(members.object("encoding")),
        seconds=members.number("seconds"),
        mode=_mode(members),
        coverage=_coverage(members.object("coverage")),
        counts=tuple(
            Count(
                function=count.text("function"),
                helper=count.text("helper", empty=True),
                sites=count.count("sites"),
                hits=count.count("hits"),
            )
            for count in members.objects("counts")
        ),
        workload=_workload(members.object("workload")),
    )


def _kernel(members: Members) -> dict[str, object]:
    for name in ("release", "build_id", "arch"):
        if members.known(name):
            members.text(name)
    return members.values


def _encoding(members: Members) -> dict[str, object]:
    if members.known("tail"):
        members.text("tail")
    return members.values


def _mode(members: Members) -> Mode:
    text = members.text("mode")
    if text not in MODES:
        members.refuse("mode", f"is none of {', '.join(MODES)}")
    return MODES[text]


def _coverage(members: Members) -> dict[str, object]:
    known = {name: members.count(name) for name in ("sites", "attached") if members.known(name)}
    if len(known) == 2 and known["attached"] > known["sites"]:
        members.refuse("attached", "is more than there are sites")
    return members.values


def _workload(members: Members) -> dict[str, object]:
    if members.known("command"):
        members.texts("command")
    if members.known("units"):
        members.number("units")
    if members.known("unit"):
        members.text("unit")
    return members.values
