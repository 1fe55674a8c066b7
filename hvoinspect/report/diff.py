"""What changed between two scans: the value, and its JSON."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal, NotRequired, TypedDict, cast

from hvoinspect.errors import ExitStatus, printable
from hvoinspect.report.diff_findings import FindingsDiff, compare_findings, is_checked
from hvoinspect.report.result import (
    CoverageJson,
    EncodingJson,
    HostJson,
    KernelJson,
    PictureJson,
    PoolJson,
    ScanResult,
    SourceJson,
)
from hvoinspect.report.words import percent_text
from hvoinspect.version import __version__

SCHEMA = "hvoinspect.diff/1"

PAGES = ("total", "head", "fake_head", "tail", "single", "unreadable", "offline")
VMEMMAP = (
    *("virtual_bytes", "frames", "shared_frames", "read_only_pages", "pmd_mapped_bytes"),
    *("pte_tables", "saved_bytes", "split_cost_bytes", "net_saved_bytes", "potential_bytes"),
)
POOL = (
    *("total", "free", "optimized", "partly_optimized"),
    *("vmemmap_pages_kept", "vmemmap_pages_freed"),
)


class Change(TypedDict):
    """A number on both sides; `change` is what was added, None where a side is not known."""

    before: int | None
    after: int | None
    change: int | None


class Side(TypedDict):
    """What a side is of; all but `path` as in the scan."""

    path: str
    version: str
    taken_at: str
    source: SourceJson
    host: HostJson
    kernel: KernelJson
    encoding: EncodingJson
    coverage: CoverageJson
    ignored_rules: list[str]
    picture: NotRequired[PictureJson]


class PoolDiff(TypedDict):
    """A pool on both sides, or on the one where it has hugepages."""

    size_bytes: int
    node: int
    state: Literal["both", "appeared", "vanished"]
    counts: dict[str, Change]


class Diff(TypedDict):
    """What `hvoinspect diff --json` prints.

    `changed`: whether the host (None: not known), the kernel and the encoding are others, and
    whether HVO was switched "on" or "off" for new hugepages. `same_boot` is None where the scans do
    not tell. `worse`: the later scan has findings that the earlier one has not, of severity error
    or, `worse_strictly`, of any. `less_seen`: the later scan saw less, so that there may be more.
    """

    schema: str
    version: str
    before: Side
    after: Side
    same_boot: bool | None
    changed: dict[str, bool | str | None]
    hugetlb: list[PoolDiff]
    vmemmap: dict[str, Change]
    pages: dict[str, Change]
    findings: FindingsDiff
    worse: bool
    worse_strictly: bool
    less_seen: bool
    notes: list[str]


def diff(before: ScanResult, after: ScanResult, paths: tuple[Path, Path]) -> Diff:
    """Compare two scans that were read from `paths`."""
    boot = same_boot(before, after)
    findings = compare_findings(before, after, by="rule" if boot is False else "pfn")
    return {
        "schema": SCHEMA,
        "version": __version__,
        "before": _side(before, paths[0]),
        "after": _side(after, paths[1]),
        "same_boot": boot,
        "changed": {
            "host": _other(before["host"]["name"], after["host"]["name"]),
            "kernel": not _same_kernel(before["kernel"], after["kernel"]),
            "encoding": _how(before) != _how(after),
            "hvo": _switched(before["encoding"], after["encoding"]),
        },
        "hugetlb": list(_pools(before, after)),
        "vmemmap": _changes(before["vmemmap"], after["vmemmap"], VMEMMAP),
        "pages": _changes(before["pages"], after["pages"], PAGES),
        "findings": findings,
        "worse": any(rule["severity"] == "error" and rule["worse"] for rule in findings["rules"]),
        "worse_strictly": any(rule["worse"] for rule in findings["rules"]),
        "less_seen": _less_seen(before, after),
        "notes": list(_notes(before, after, boot, findings)),
    }


def to_json(found: Diff) -> str:
    """Return the comparison as one JSON object, ending in a newline."""
    return json.dumps(found, indent=2) + "\n"


def exit_status(found: Diff, *, strict: bool = False) -> ExitStatus:
    """Return what a comparison exits with; `strict` makes warnings count."""
    if found["worse"] or (strict and found["worse_strictly"]):
        return ExitStatus.FINDINGS
    return ExitStatus.PARTIAL if found["less_seen"] else ExitStatus.OK


def same_boot(before: ScanResult, after: ScanResult) -> bool | None:
    """Whether both scans are of one boot of one kernel; None if they do not tell.

    Where each has a finding, its address tells where the vmemmap begins, which is random at each
    boot (CONFIG_RANDOMIZE_MEMORY).
    """
    boots = before["host"]["boot_id"], after["host"]["boot_id"]
    if None not in boots:
        return boots[0] == boots[1]
    if not _same_kernel(before["kernel"], after["kernel"]):
        return False
    if _other(before["host"]["name"], after["host"]["name"]):
        return False
    starts = _vmemmap_start(before), _vmemmap_start(after)
    return False if None not in starts and starts[0] != starts[1] else None


def _vmemmap_start(scan: ScanResult) -> int | None:
    size = scan["encoding"]["struct_page_bytes"]
    if not scan["findings"] or size is None:
        return None
    return int(scan["findings"][0]["address"], 16) - size * scan["findings"][0]["pfn"]


def _side(scan: ScanResult, path: Path) -> Side:
    side: Side = {
        "path": printable(str(path)),
        "version": scan["version"],
        "taken_at": scan["taken_at"],
        "source": scan["source"],
        "host": scan["host"],
        "kernel": scan["kernel"],
        "encoding": scan["encoding"],
        "coverage": scan["coverage"],
        "ignored_rules": scan["ignored_rules"],
    }
    if "picture" in scan:
        side["picture"] = scan["picture"]
    return side


def _other(before: str | None, after: str | None) -> bool | None:
    return None if before is None or after is None else before != after


def _same_kernel(before: KernelJson, after: KernelJson) -> bool:
    """Whether both are one build; by the release where a build ID is not known."""
    if _other(before["build_id"], after["build_id"]) is not None:
        return before["build_id"] == after["build_id"]
    return (before["release"], before["arch"]) == (after["release"], after["arch"])


def _how(scan: ScanResult) -> list[object]:
    encoding = scan["encoding"]
    return [encoding[key] for key in ("tail", "field", "struct_page_bytes", "hvo")]


def _switched(before: EncodingJson, after: EncodingJson) -> str | None:
    states = before["hvo_enabled"], after["hvo_enabled"]
    return {(False, True): "on", (True, False): "off"}.get(states)  # type: ignore[arg-type]


def change(before: int | None, after: int | None) -> Change:
    """Return a number on both sides."""
    known = before is not None and after is not None
    return {"before": before, "after": after, "change": after - before if known else None}  # type: ignore[operator]


def _changes(
    before: Mapping[str, object], after: Mapping[str, object], names: Iterable[str]
) -> dict[str, Change]:
    return {
        name: change(cast("int | None", before[name]), cast("int | None", after[name]))
        for name in names
    }


def _pools(before: ScanResult, after: ScanResult) -> Iterator[PoolDiff]:
    """Yield all pools by size and node. A scan lists none without hugepages."""
    sides = [{(p["size_bytes"], p["node"]): p for p in scan["hugetlb"]} for scan in (before, after)]
    for size, node in sorted(sides[0].keys() | sides[1].keys()):
        old, new = (side.get((size, node)) for side in sides)
        yield {
            "size_bytes": size,
            "node": node,
            "state": "vanished" if new is None else "appeared" if old is None else "both",
            "counts": _changes(old or _none(before), new or _none(after), POOL),
        }


def _none(scan: ScanResult) -> Mapping[str, int | None]:
    """Return the counts of a pool that a scan does not list."""
    unseen = not is_checked(scan)
    return {
        name: None if unseen and name not in ("total", "free") else 0
        for name in PoolJson.__annotations__
    }


def _less_seen(before: ScanResult, after: ScanResult) -> bool:
    """Whether the later scan saw less of the vmemmap, or checked fewer rules."""
    if after["coverage"]["fraction"] < before["coverage"]["fraction"]:
        return True
    return bool(set(after["ignored_rules"]) - set(before["ignored_rules"]))


def _notes(
    before: ScanResult, after: ScanResult, boot: bool | None, findings: FindingsDiff
) -> Iterator[str]:
    if _other(before["host"]["name"], after["host"]["name"]):
        yield "the scans are of different hosts."
    if dt.datetime.fromisoformat(after["taken_at"]) < dt.datetime.fromisoformat(before["taken_at"]):
        yield "the second scan was taken before the first: are they the right way round?"
    for side, scan in (("first", before), ("second", after)):
        yield from _limits(side, scan)
    if before["version"] != after["version"]:
        yield (
            f"the scans were made by hvoinspect {before['version']} and {after['version']}, "
            "which may not check the same rules."
        )
    if not findings["rules"]:
        return
    if boot is False:
        yield "the scans are not of one boot, so findings are compared by rule: pfns mean nothing."
    elif boot is None and before["findings"] and after["findings"]:
        yield "whether both scans are of one boot is not known; findings are compared as if so."
    partly = {
        rule["rule"]
        for rule in findings["rules"]
        if rule["new"] is None and None not in (rule["before"], rule["after"])
    }
    if partly:
        yield (
            f"not all findings of {', '.join(sorted(partly))} are listed: which are new is not "
            "known, only how many there are."
        )


def _limits(side: str, scan: ScanResult) -> Iterator[str]:
    if not is_checked(scan):
        yield (
            f"the {side} scan is the kernel's own view only: it does not tell what is optimized "
            "or saved, and checks nothing."
        )
    elif scan["coverage"]["fraction"] < 1.0:
        seen = percent_text(scan["coverage"]["fraction"])
        yield f"the {side} scan saw {seen} of its struct pages: there may be more of all."
    if scan["ignored_rules"]:
        yield f"the {side} scan did not check {', '.join(scan['ignored_rules'])}."
    if scan["unstable"]:
        yield f"the {side} scan is of a kernel that moved meanwhile."
