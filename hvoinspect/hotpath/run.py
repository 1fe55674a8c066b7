"""One recording of the hot path, and the file that keeps it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SCHEMA = "hvoinspect.hotpath/1"

Mode = Literal["sites", "functions", "sample"]


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
    ("sites") and what was ("attached"). `workload` says what ran, and how many units of work it did
    if that is known.
    """

    kernel: dict[str, object]
    encoding: dict[str, object]
    seconds: float
    mode: Mode
    coverage: dict[str, object]
    counts: tuple[Count, ...]
    workload: dict[str, object]
