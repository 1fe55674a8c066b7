"""Scans, and what changed between them, as the page's templates show them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

from hvoinspect.errors import printable
from hvoinspect.report.charts import Chart
from hvoinspect.report.charts_picture import Cell, cells, picture_chart
from hvoinspect.report.diff import Diff, diff
from hvoinspect.report.diff_findings import is_checked
from hvoinspect.report.diff_page import BYTES, PAGES
from hvoinspect.report.diff_page import verdict as diff_verdict
from hvoinspect.report.result import FindingJson, PictureJson, ScanResult
from hvoinspect.report.terminal import title_of
from hvoinspect.report.words import bytes_text, count_text, verdict
from hvoinspect.target.layout import VMEMMAP_PAGE
from hvoinspect.vmemmap.rules import Severity

GivenScan = tuple[Path, ScanResult]
Draw = Callable[[Chart | None], str | None]
"""Takes a chart, and returns the id of the element that it is drawn in."""

Mood = Literal["error", "warning", "good"]


@dataclass(frozen=True)
class Findings:
    """All listed findings of one rule that mean the same."""

    rule: str
    severity: Severity
    meaning: str
    listed: tuple[FindingJson, ...]


@dataclass(frozen=True)
class ScanView:
    """A scan, and what is said of it. `chart` is the element of its picture, None without one."""

    number: int
    name: str
    path: Path
    scan: ScanResult
    verdict: str
    mood: Mood
    source: str
    checked: bool
    findings: tuple[Findings, ...]
    picture: tuple[Cell, ...]
    chart: str | None

    @property
    def anchor(self) -> str:
        """The id of its section."""
        return f"scan-{self.number}"


@dataclass(frozen=True)
class Row:
    """One number in all scans: its texts, and how much more it is than in the scan before."""

    name: str
    values: tuple[str, ...]
    steps: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """Rows with something in common."""

    title: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Step:
    """What changed from one scan to the next."""

    before: ScanView
    after: ScanView
    verdict: str
    mood: Mood
    diff: Diff


@dataclass(frozen=True)
class Changes:
    """All scans side by side."""

    scans: tuple[ScanView, ...]
    tables: tuple[Table, ...]
    steps: tuple[Step, ...]
    chart: str | None


def view(number: int, given: GivenScan, draw: Draw) -> ScanView:
    """Return the view of one scan."""
    path, scan = given
    picture = _picture(scan)
    page_size = scan["kernel"]["page_size"]
    return ScanView(
        number=number,
        name=_name(path, scan),
        path=path,
        scan=scan,
        verdict=verdict(scan),
        mood=_mood(scan),
        source=title_of(scan["source"], scan["kernel"]),
        checked=is_checked(scan),
        findings=tuple(_findings(scan)),
        picture=tuple(cells(picture, page_size, joined=True)) if picture else (),
        chart=draw(picture_chart([("", picture, page_size)]) if picture else None),
    )


def title(shown: Sequence[ScanView]) -> str:
    """Return what a page is called that the user gives no title."""
    names = list(dict.fromkeys(one.name for one in shown))
    if not names:
        return "The hot path of compound_head()"
    return f"HVO on {', '.join(names[:3])}{' and others' * (len(names) > 3)}"


def changes(shown: Sequence[ScanView], draw: Draw) -> Changes:
    """Return what changed among two scans or more, each beside the one before."""
    pictures = [
        (f"{one.number}: {one.name}", picture, one.scan["kernel"]["page_size"])
        for one in shown
        if (picture := _picture(one.scan))
    ]
    return Changes(
        scans=tuple(shown),
        tables=tuple(table for table in _tables(shown) if table.rows),
        steps=tuple(_step(before, after) for before, after in pairwise(shown)),
        chart=draw(picture_chart(pictures) if len(pictures) > 1 else None),
    )


def _name(path: Path, scan: ScanResult) -> str:
    return scan["host"]["name"] or printable(path.stem)


def _mood(scan: ScanResult) -> Mood:
    count = scan["findings_count"]
    return "error" if count["error"] else "warning" if count["warning"] else "good"


def _picture(scan: ScanResult) -> PictureJson | None:
    picture = scan.get("picture")
    return picture if picture and picture["cells"].strip() else None


def _findings(scan: ScanResult) -> Iterator[Findings]:
    groups: dict[tuple[Severity, str, str], list[FindingJson]] = {}
    for finding in scan["findings"]:
        key = (finding["severity"], finding["rule"], finding["meaning"])
        groups.setdefault(key, []).append(finding)
    for (severity, rule, meaning), listed in groups.items():
        yield Findings(rule, severity, meaning, tuple(listed))


def _step(before: ScanView, after: ScanView) -> Step:
    found = diff(before.scan, after.scan, (before.path, after.path))
    mood: Mood = "good"
    if found["worse"]:
        mood = "error"
    elif found["worse_strictly"] or found["less_seen"]:
        mood = "warning"
    return Step(before, after, diff_verdict(found), mood, found)


def _tables(shown: Sequence[ScanView]) -> Iterator[Table]:
    scans = [one.scan for one in shown]
    vmemmap = (
        _numbers(text, [_times(scan["vmemmap"][name], factor) for scan in scans], size=True)  # type: ignore[literal-required]
        for name, text in BYTES.items()
        for factor in [VMEMMAP_PAGE if name == "frames" else 1]
    )
    yield Table("vmemmap", tuple(row for row in vmemmap if row))
    pages = (
        _numbers(text, [scan["pages"][name] for scan in scans], size=False)  # type: ignore[literal-required]
        for name, text in PAGES.items()
    )
    yield Table("struct pages", tuple(row for row in pages if row))
    yield Table("hugepages: optimized of all", tuple(_pools(shown)))
    counts = (
        _numbers(
            f"{severity}s",
            [scan["findings_count"][severity] if is_checked(scan) else None for scan in scans],
            size=False,
        )
        for severity in ("error", "warning")
    )
    yield Table("findings", tuple(row for row in counts if row))


def _times(number: int | None, factor: int) -> int | None:
    return None if number is None else number * factor


def _numbers(name: str, numbers: Sequence[int | None], *, size: bool) -> Row | None:
    """Return a row, None if there is nothing in it."""
    if not any(numbers):
        return None

    def text(number: int | None) -> str:
        return bytes_text(number) if size and number is not None else count_text(number)

    steps = [""]
    for before, after in pairwise(numbers):
        more = None if before is None or after is None else after - before
        sign = "\N{MINUS SIGN}" if (more or 0) < 0 else "+"
        steps.append(f"{sign}{text(abs(more))}" if more else "")
    return Row(name, tuple(map(text, numbers)), tuple(steps))


def _pools(shown: Sequence[ScanView]) -> Iterator[Row]:
    sides = [
        {(pool["size_bytes"], pool["node"]): pool for pool in one.scan["hugetlb"]} for one in shown
    ]
    for size, node in sorted({key for side in sides for key in side}):
        pools = [side.get((size, node)) for side in sides]
        yield Row(
            f"{bytes_text(size)} on node {node}",
            tuple(
                f"{count_text(pool['optimized'])} of {pool['total']:,}" if pool else "none"
                for pool in pools
            ),
            ("",) * len(pools),
        )
