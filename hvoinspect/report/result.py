"""The result of a scan: the one value that every reporter shows, and its JSON.

The shape is a contract: fields are added, never renamed or removed. Numbers are counts of struct
pages or of 4 KiB vmemmap pages unless their name says bytes; addresses are hexadecimal strings;
None (null) means unknown. A number is never made up.
"""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NotRequired, TypedDict

import numpy as np

from hvoinspect.errors import ExitStatus
from hvoinspect.target.kernelview import KernelView, OwnWord
from hvoinspect.target.layout import VMEMMAP_PAGE, Identity, Kernel, StructPage
from hvoinspect.target.ranges import each_once
from hvoinspect.version import __version__
from hvoinspect.vmemmap.pages import Encoding, PageClass
from hvoinspect.vmemmap.pagetable import BLOCK
from hvoinspect.vmemmap.rules import Finding, Severity
from hvoinspect.vmemmap.scan import Scan

SCHEMA = "hvoinspect.scan/1"
PICTURE_CELLS = 256
MAX_FINDINGS = 1000
"""Findings listed of one rule; the rest are counted in `findings_omitted`."""

TailEncoding = Literal["pointer", "mask"]
HvoKind = Literal["none", "fake_heads", "shared_tail"]


class SourceJson(TypedDict):
    """Which memory was read."""

    kind: str
    path: str | None
    debug_info: list[str]


class HostJson(TypedDict):
    """Which host it was, and which boot: the running kernel's /proc/sys/kernel/random/boot_id.

    A capture does not tell its host's name.
    """

    name: str | None
    boot_id: str | None


UNKNOWN_HOST: HostJson = {"name": None, "boot_id": None}


class KernelJson(TypedDict):
    """Which kernel it was."""

    release: str
    build_id: str | None
    arch: str
    page_size: int


class EncodingJson(TypedDict):
    """How tails name their head, and how HVO shares frames."""

    tail: TailEncoding | None
    field: str | None
    struct_page_bytes: int | None
    hvo: HvoKind | None
    hvo_enabled: bool | None


class PagesJson(TypedDict):
    """Struct pages by class; the five add up to `total`. `offline` of them are among `single`."""

    total: int | None
    head: int | None
    fake_head: int | None
    tail: int | None
    single: int | None
    unreadable: int | None
    offline: int | None


class TailsJson(TypedDict):
    """Encodings seen among the tails that are no fake heads."""

    pointer: int | None
    mask: int | None


class PoolJson(TypedDict):
    """The hugetlb pages of one size on one node; `partly_optimized` are among `optimized`.

    Those have some tail vmemmap pages on frames of their own: a state, not damage.
    """

    size_bytes: int
    node: int
    total: int
    free: int
    optimized: int | None
    partly_optimized: int | None
    vmemmap_pages_kept: int | None
    vmemmap_pages_freed: int | None


class VmemmapJson(TypedDict):
    """What the vmemmap takes, and what HVO saves of it."""

    virtual_bytes: int | None
    frames: int | None
    shared_frames: int | None
    read_only_pages: int | None
    pmd_mapped_bytes: int | None
    pte_tables: int | None
    saved_bytes: int | None
    split_cost_bytes: int | None
    net_saved_bytes: int | None
    potential_bytes: int | None


class FindingJson(TypedDict):
    """A breach of a rule; `meaning` says in a sentence what follows from it."""

    rule: str
    severity: Severity
    pfn: int
    address: str
    expected: str
    found: str
    confirmed: bool
    meaning: str


class CountsJson(TypedDict):
    """All findings by severity, those of `findings_omitted` among them."""

    error: int
    warning: int


class CoverageJson(TypedDict):
    """How much of `pages.total` was looked at."""

    struct_pages_read: int
    struct_pages_inferred: int
    fraction: float


class PictureJson(TypedDict):
    """The vmemmap in equal cells from pfn 0 on, one character each.

    "o": some of it is mapped to frames that are mapped more than once (optimized); "L": mapped
    2 MiB or more at a time; "s": split, 4 KiB at a time; " ": a hole.
    """

    struct_pages_per_cell: int
    cells: str


class ScanResult(TypedDict):
    """What `hvoinspect scan --json` prints.

    `unstable`: rule -> how often something looked wrong on a live kernel, but not the same way when
    it was read again; no findings.
    """

    schema: str
    version: str
    taken_at: str
    source: SourceJson
    host: HostJson
    kernel: KernelJson
    encoding: EncodingJson
    pages: PagesJson
    tails: TailsJson
    hugetlb: list[PoolJson]
    vmemmap: VmemmapJson
    findings: list[FindingJson]
    findings_omitted: dict[str, int]
    ignored_rules: list[str]
    findings_count: CountsJson
    unstable: dict[str, int]
    notes: list[str]
    coverage: CoverageJson
    picture: NotRequired[PictureJson]
    elapsed_seconds: float


@dataclass(frozen=True)
class Taken:
    """When a result was taken, and how long that took."""

    at: dt.datetime
    seconds: float


def result_of(
    scan: Scan, taken: Taken, notes: Sequence[str] = (), host: HostJson = UNKNOWN_HOST
) -> ScanResult:
    """Return the result of a scan of the vmemmap itself."""
    kernel = scan.kernel
    classes = scan.classes
    total = scan.total
    findings = list(_listed(scan.findings))
    return {
        "schema": SCHEMA,
        "version": __version__,
        "taken_at": taken.at.isoformat(timespec="seconds"),
        "source": {
            "kind": kernel.source.kind,
            "path": kernel.source.path,
            "debug_info": list(kernel.source.debug_info),
        },
        "host": {**host},
        "kernel": kernel_json(kernel.identity),
        "encoding": encoding_json(
            kernel, scan.encodings[Encoding.POINTER], scan.encodings[Encoding.MASK]
        ),
        "pages": {
            "total": total,
            "head": classes[PageClass.HEAD],
            "fake_head": classes[PageClass.FAKE_HEAD],
            "tail": classes[PageClass.TAIL],
            "single": classes[PageClass.SINGLE],
            "unreadable": classes[PageClass.UNREADABLE],
            "offline": scan.offline,
        },
        "tails": {
            "pointer": scan.encodings[Encoding.POINTER],
            "mask": scan.encodings[Encoding.MASK],
        },
        "hugetlb": list(_pools(scan)),
        "vmemmap": _vmemmap(scan),
        "findings": [_finding(kernel, finding) for finding in findings],
        "findings_omitted": _omitted(scan.findings, findings),
        "ignored_rules": list(scan.ignored),
        "findings_count": _counts(scan.findings),
        "unstable": dict(scan.unstable),
        "notes": [*notes, *_partly_note(scan)],
        "coverage": {
            "struct_pages_read": scan.read,
            "struct_pages_inferred": scan.inferred,
            "fraction": (scan.read + scan.inferred) / total if total else 0.0,
        },
        "picture": _picture(scan),
        "elapsed_seconds": round(taken.seconds, 3),
    }


def result_of_view(
    view: KernelView, taken: Taken, why: str, host: HostJson = UNKNOWN_HOST
) -> ScanResult:
    """Return the result where only the kernel's own view can be had, because of `why`.

    Nothing was read of the vmemmap, so all that page tables or struct pages would show is None.
    """
    return {
        "schema": SCHEMA,
        "version": __version__,
        "taken_at": taken.at.isoformat(timespec="seconds"),
        "source": {"kind": "kpageflags", "path": None, "debug_info": ["btf"]},
        "host": {**host},
        "kernel": kernel_json(view.kernel.identity),
        "encoding": own_encoding(view.kernel),
        "pages": {
            "total": view.head + view.tail + view.single,
            "head": view.head,
            "fake_head": None,
            "tail": view.tail,
            "single": view.single,
            "unreadable": None,
            "offline": None,
        },
        "tails": {"pointer": None, "mask": None},
        "hugetlb": [
            {
                "size_bytes": pool.size_bytes,
                "node": pool.node,
                "total": pool.total,
                "free": pool.free,
                "optimized": None,
                "partly_optimized": None,
                "vmemmap_pages_kept": None,
                "vmemmap_pages_freed": None,
            }
            for pool in sorted(view.pools, key=lambda pool: (pool.size_bytes, pool.node))
        ],
        "vmemmap": {
            "virtual_bytes": None,
            "frames": None,
            "shared_frames": None,
            "read_only_pages": None,
            "pmd_mapped_bytes": None,
            "pte_tables": None,
            "saved_bytes": None,
            "split_cost_bytes": None,
            "net_saved_bytes": None,
            "potential_bytes": None,
        },
        "findings": [],
        "findings_omitted": {},
        "ignored_rules": [],
        "findings_count": {"error": 0, "warning": 0},
        "unstable": {},
        "notes": [
            f"the kernel's own view only: {why}.",
            "left out: which hugepages are really optimized, what is saved, fake heads (some "
            "kernels count them as heads), mappings, and every check.",
        ],
        "coverage": {"struct_pages_read": 0, "struct_pages_inferred": 0, "fraction": 0.0},
        "elapsed_seconds": round(taken.seconds, 3),
    }


def to_json(result: ScanResult) -> str:
    """Return the result as one JSON object, ending in a newline."""
    return json.dumps(result, indent=2) + "\n"


def exit_status(result: ScanResult, *, strict: bool = False) -> ExitStatus:
    """Return what a scan with this result exits with; `strict` makes warnings count."""
    count = result["findings_count"]
    if count["error"] or (strict and count["warning"]):
        return ExitStatus.FINDINGS
    if result["coverage"]["fraction"] < 1.0:
        return ExitStatus.PARTIAL
    return ExitStatus.OK


def kernel_json(identity: Identity) -> KernelJson:
    """Return which kernel it is, as every result says it."""
    return {
        "release": identity.release,
        "build_id": identity.build_id,
        "arch": identity.arch,
        "page_size": identity.page_size,
    }


def own_encoding(kernel: OwnWord) -> EncodingJson:
    """Return the encoding of a running kernel, by its types and sysctl alone."""
    hvo: HvoKind | None = None if kernel.hvo_supported is None else "none"
    if kernel.hvo_supported:
        hvo = "shared_tail" if kernel.has_shared_tails else "fake_heads"
    return {
        "tail": _encoding_by_members(kernel.page, kernel.hvo_supported),
        "field": kernel.page.compound_field,
        "struct_page_bytes": kernel.page.size,
        "hvo": hvo,
        "hvo_enabled": kernel.hvo_enabled,
    }


def _encoding_by_members(page: StructPage, hvo_supported: bool | None) -> TailEncoding | None:
    """Return the encoding where no tail can be seen, None where it hangs on what is not known.

    `compound_info_has_mask()` is decided when the kernel is built, by
    CONFIG_HUGETLB_PAGE_OPTIMIZE_VMEMMAP and the size of struct page (8c846c879e22, 7.1).
    """
    power_of_two = page.size & (page.size - 1) == 0
    renamed = page.compound_field == "compound_info"
    if not renamed or not power_of_two:
        return "pointer"
    if hvo_supported is None:
        return None
    return "mask" if hvo_supported else "pointer"


def encoding_json(kernel: Kernel, pointers: int, masks: int) -> EncodingJson:
    """Return the encoding of a kernel, of whose tails so many were seen to hold each."""
    hvo = kernel.hvo
    tail: TailEncoding | None
    if pointers or masks:
        tail = "mask" if masks > pointers else "pointer"
    else:
        tail = _encoding_by_members(kernel.page, hvo.supported)
    kind: HvoKind = "none"
    if hvo.supported:
        kind = "shared_tail" if hvo.has_shared_tails or tail == "mask" else "fake_heads"
    return {
        "tail": tail,
        "field": kernel.page.compound_field,
        "struct_page_bytes": kernel.page.size,
        "hvo": kind,
        "hvo_enabled": hvo.enabled,
    }


def _pools(scan: Scan) -> Iterator[PoolJson]:
    pages, savings = scan.hugepages, scan.savings
    keys = each_once(pages.order.astype(np.uint32) << 16 | pages.node)
    for order, node in [divmod(key, 1 << 16) for key in keys.tolist()]:
        here = (pages.order == order) & (pages.node == node)
        yield {
            "size_bytes": scan.kernel.identity.page_size << order,
            "node": node,
            "total": int(here.sum()),
            "free": int((here & pages.free).sum()),
            "optimized": int((here & (savings.freed > 0)).sum()),
            "partly_optimized": int((here & pages.partly).sum()),
            "vmemmap_pages_kept": int(savings.kept[here].sum()),
            "vmemmap_pages_freed": int(savings.freed[here].sum()),
        }


def _partly_note(scan: Scan) -> Iterator[str]:
    partly = int(scan.hugepages.partly.sum())
    if partly:
        yield (
            f"{partly:,} hugepage{'s are' if partly > 1 else ' is'} partly optimized: some tails "
            "have writable frames of their own. Less is saved; nothing is wrong."
        )


def _vmemmap(scan: Scan) -> VmemmapJson:
    mappings, savings = scan.mappings, scan.savings
    saved = savings.saved * VMEMMAP_PAGE
    split_cost = savings.split_tables * VMEMMAP_PAGE
    return {
        "virtual_bytes": mappings.virtual_pages * VMEMMAP_PAGE,
        "frames": mappings.large_pages + len(mappings.frame),
        "shared_frames": int((mappings.times > 1).sum()),
        "read_only_pages": mappings.read_only_pages,
        "pmd_mapped_bytes": mappings.large_pages * VMEMMAP_PAGE,
        "pte_tables": scan.pte_tables,
        "saved_bytes": saved,
        "split_cost_bytes": split_cost,
        "net_saved_bytes": saved - split_cost,
        "potential_bytes": savings.potential * VMEMMAP_PAGE,
    }


def _listed(findings: Sequence[Finding]) -> Iterator[Finding]:
    """Yield up to MAX_FINDINGS of each rule, errors first: many warnings must not hide one."""
    count: dict[str, int] = {}
    for finding in sorted(findings, key=lambda finding: finding.severity != "error"):
        count[finding.rule] = count.get(finding.rule, 0) + 1
        if count[finding.rule] <= MAX_FINDINGS:
            yield finding


def _omitted(findings: Sequence[Finding], listed: Sequence[Finding]) -> dict[str, int]:
    omitted = Counter(finding.rule for finding in findings)
    omitted.subtract(finding.rule for finding in listed)
    return {rule: count for rule, count in sorted(omitted.items()) if count}


def _counts(findings: Sequence[Finding]) -> CountsJson:
    count = Counter(finding.severity for finding in findings)
    return {"error": count["error"], "warning": count["warning"]}


def _finding(kernel: Kernel, finding: Finding) -> FindingJson:
    return {
        "rule": finding.rule,
        "severity": finding.severity,
        "pfn": finding.pfn,
        "address": f"{kernel.page_address(finding.pfn):#x}",
        "expected": finding.expected,
        "found": finding.found,
        "confirmed": finding.confirmed,
        "meaning": finding.meaning,
    }


def _picture(scan: Scan) -> PictureJson:
    mappings = scan.mappings
    blocks = int(mappings.block[-1]) + 1 if len(mappings.block) else 1
    per_cell = -(-blocks // PICTURE_CELLS)
    where = (mappings.block // np.uint64(per_cell)).astype(np.intp)
    cells = np.full(-(-blocks // per_cell), " ", "<U1")
    cells[where[mappings.block_large < mappings.block_mapped]] = "s"
    cells[where[mappings.block_large > 0]] = "L"
    cells[where[mappings.block_shared > 0]] = "o"
    return {
        "struct_pages_per_cell": per_cell * BLOCK // scan.kernel.page.size,
        "cells": "".join(cells),
    }
