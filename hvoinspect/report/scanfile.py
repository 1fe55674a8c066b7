"""Reads a scan back from its JSON, which anyone may have written: all of it is checked.

What the contract had from the beginning must be there. What was added since may be missing, as in
the file of an earlier release, and is then unknown; what a later release added is left out.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

from hvoinspect.errors import printable
from hvoinspect.jsonfile import MAX_TEXT, Members, parse_members, read_members
from hvoinspect.report.result import (
    SCHEMA,
    UNKNOWN_HOST,
    CountsJson,
    CoverageJson,
    EncodingJson,
    FindingJson,
    HostJson,
    HvoKind,
    KernelJson,
    PagesJson,
    PictureJson,
    PoolJson,
    ScanResult,
    SourceJson,
    TailEncoding,
    TailsJson,
    VmemmapJson,
)
from hvoinspect.target.layout import SourceKind
from hvoinspect.vmemmap.rules import Severity

MAX_BYTES = 32 << 20
"""A finding takes some 500 bytes; 40 rules with all findings that are listed come to 20 MB."""

MOST = 2**63 - 1
"""Of any count: no machine has as many of anything, and 64-bit columns and sums can hold it."""

MAX_ITEMS = 1000
"""Of a list or an object that a scan writes a few of."""

MAX_NODE = 1 << 10
"""MAX_NUMNODES with the largest NODES_SHIFT there is, 10 (include/linux/numa.h)."""

REMEDY = "give a file that `hvoinspect scan --json` or `scan -o FILE` wrote"

_RULE = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_ADDRESS = re.compile(r"0x[0-9a-f]{1,16}")
_MAX_NAME = 100


def read_scan(path: Path) -> ScanResult:
    """Read the scan in `path`. Raises HvoinspectError if it is anything else.

    Texts are returned as one printable line each, whatever a kernel or somebody else put into them.
    Numbers are at most MOST. No two pools are of the same size and node.
    """
    return _scan(read_members(path, SCHEMA, REMEDY, MAX_BYTES))


def parse_scan(path: Path, data: bytes) -> ScanResult:
    """Read the scan in `data`, which is of `path`, as `read_scan` does. Raises the same."""
    return _scan(parse_members(path, data, SCHEMA, REMEDY, MAX_BYTES))


def _scan(members: Members) -> ScanResult:
    pages = _pages(members.object("pages"))
    findings = [_finding(finding) for finding in members.objects("findings")]
    omitted = _counts_by_rule(members, "findings_omitted")
    result: ScanResult = {
        "schema": SCHEMA,
        "version": _text(members, "version"),
        "taken_at": _time(members, "taken_at"),
        "source": _source(members.object("source")),
        "host": _host(members),
        "kernel": _kernel(members.object("kernel")),
        "encoding": _encoding(members.object("encoding")),
        "pages": pages,
        "tails": _tails(members.object("tails")),
        "hugetlb": _pools(members),
        "vmemmap": _vmemmap(members.object("vmemmap")),
        "findings": findings,
        "findings_omitted": omitted,
        "ignored_rules": _rules(members, "ignored_rules"),
        "findings_count": _findings_count(members, findings, omitted),
        "unstable": _counts_by_rule(members, "unstable"),
        "notes": _texts(members, "notes") if members.known("notes") else [],
        "coverage": _coverage(members.object("coverage"), pages["total"]),
        "elapsed_seconds": members.number("elapsed_seconds"),
    }
    if members.known("picture"):
        result["picture"] = _picture(members.object("picture"))
    return result


def _text(members: Members, name: str, *, empty: bool = False) -> str:
    return printable(members.text(name, empty=empty))


def _text_or_none(members: Members, name: str) -> str | None:
    return members.unless_null(name, lambda name: _text(members, name, empty=True))


def _texts(members: Members, name: str) -> list[str]:
    texts = members.texts(name)
    if len(texts) > MAX_ITEMS:
        members.refuse(name, f"has more than {MAX_ITEMS} texts")
    if any(len(text) > MAX_TEXT for text in texts):
        members.refuse(name, "holds a text that is too long")
    return [printable(text) for text in texts]


def _count(members: Members, name: str) -> int:
    return members.whole(name, 0, MOST)


def _count_or_none(members: Members, name: str) -> int | None:
    return members.unless_null(name, lambda name: _count(members, name))


def _signed_or_none(members: Members, name: str) -> int | None:
    return members.unless_null(name, lambda name: members.whole(name, -MOST, MOST))


def _added_count(members: Members, name: str) -> int | None:
    """Return a count that earlier releases do not write."""
    return _count(members, name) if members.known(name) else None


def _power_of_two(members: Members, name: str, least: int, most: int) -> int:
    value = members.whole(name, least, most)
    if value & (value - 1):
        members.refuse(name, "is no power of two")
    return value


def _time(members: Members, name: str) -> str:
    """Return a time as it is written, which any UTC time can be made of."""
    text = members.text(name)
    try:
        time = dt.datetime.fromisoformat(text)
        if time.tzinfo is None:
            members.refuse(name, "has no time zone")
        time.astimezone(dt.UTC)
    except (ValueError, OverflowError):
        members.refuse(name, "is no time")
    return time.isoformat(timespec="seconds")


def _source(members: Members) -> SourceJson:
    return {
        "kind": members.word("kind", get_args(SourceKind)),
        "path": _text_or_none(members, "path"),
        "debug_info": _texts(members, "debug_info"),
    }


def _host(members: Members) -> HostJson:
    if not members.known("host"):
        return {**UNKNOWN_HOST}
    host = members.object("host")
    return {
        "name": _text(host, "name") if host.known("name") else None,
        "boot_id": _text(host, "boot_id") if host.known("boot_id") else None,
    }


def _kernel(members: Members) -> KernelJson:
    return {
        "release": _text(members, "release", empty=True),
        "build_id": _text_or_none(members, "build_id"),
        "arch": _text(members, "arch", empty=True),
        "page_size": _power_of_two(members, "page_size", 1 << 12, 1 << 18),
    }


def _encoding(members: Members) -> EncodingJson:
    tails: tuple[TailEncoding, ...] = get_args(TailEncoding)
    kinds: tuple[HvoKind, ...] = get_args(HvoKind)
    return {
        "tail": members.unless_null("tail", lambda name: members.word(name, tails)),
        "field": _text_or_none(members, "field"),
        "struct_page_bytes": _count_or_none(members, "struct_page_bytes"),
        "hvo": members.unless_null("hvo", lambda name: members.word(name, kinds)),
        "hvo_enabled": members.unless_null("hvo_enabled", members.flag),
    }


def _pages(members: Members) -> PagesJson:
    pages: PagesJson = {
        "total": _count_or_none(members, "total"),
        "head": _count_or_none(members, "head"),
        "fake_head": _count_or_none(members, "fake_head"),
        "tail": _count_or_none(members, "tail"),
        "single": _count_or_none(members, "single"),
        "unreadable": _count_or_none(members, "unreadable"),
        "offline": _added_count(members, "offline"),
    }
    five = (pages["head"], pages["fake_head"], pages["tail"], pages["single"], pages["unreadable"])
    total = pages["total"]
    if total is not None and None not in five and sum(count or 0 for count in five) != total:
        members.refuse("total", "is not what the five classes add up to")
    return pages


def _tails(members: Members) -> TailsJson:
    return {
        "pointer": _count_or_none(members, "pointer"),
        "mask": _count_or_none(members, "mask"),
    }


def _pools(members: Members) -> list[PoolJson]:
    pools = [_pool(pool) for pool in members.objects("hugetlb")]
    if len({(pool["size_bytes"], pool["node"]) for pool in pools}) < len(pools):
        members.refuse("hugetlb", "has two pools of the same size and node")
    return pools


def _pool(members: Members) -> PoolJson:
    return {
        "size_bytes": _power_of_two(members, "size_bytes", 1 << 12, 1 << 50),
        "node": members.whole("node", 0, MAX_NODE - 1),
        "total": _count(members, "total"),
        "free": _count(members, "free"),
        "optimized": _count_or_none(members, "optimized"),
        "partly_optimized": _added_count(members, "partly_optimized"),
        "vmemmap_pages_kept": _count_or_none(members, "vmemmap_pages_kept"),
        "vmemmap_pages_freed": _count_or_none(members, "vmemmap_pages_freed"),
    }


def _vmemmap(members: Members) -> VmemmapJson:
    return {
        "virtual_bytes": _count_or_none(members, "virtual_bytes"),
        "frames": _count_or_none(members, "frames"),
        "shared_frames": _count_or_none(members, "shared_frames"),
        "read_only_pages": _count_or_none(members, "read_only_pages"),
        "pmd_mapped_bytes": _count_or_none(members, "pmd_mapped_bytes"),
        "pte_tables": _count_or_none(members, "pte_tables"),
        "saved_bytes": _signed_or_none(members, "saved_bytes"),
        "split_cost_bytes": _count_or_none(members, "split_cost_bytes"),
        "net_saved_bytes": _signed_or_none(members, "net_saved_bytes"),
        "potential_bytes": _signed_or_none(members, "potential_bytes"),
    }


def _finding(members: Members) -> FindingJson:
    severities: tuple[Severity, ...] = get_args(Severity)
    return {
        "rule": _rule(members, members.text("rule")),
        "severity": members.word("severity", severities),
        "pfn": _count(members, "pfn"),
        "address": _address(members, "address"),
        "expected": _text(members, "expected", empty=True),
        "found": _text(members, "found", empty=True),
        "confirmed": members.flag("confirmed"),
        "meaning": _text(members, "meaning", empty=True) if members.known("meaning") else "",
    }


def _address(members: Members, name: str) -> str:
    text = members.text(name)
    if not _ADDRESS.fullmatch(text):
        members.refuse(name, "is no hexadecimal address")
    return text


def _rule(members: Members, text: str, name: str = "rule") -> str:
    """Return the name of a rule, which may be one that another release has."""
    if len(text) > _MAX_NAME or not _RULE.fullmatch(text):
        members.refuse(name, "holds what is no name of a rule")
    return text


def _rules(members: Members, name: str) -> list[str]:
    if not members.known(name):
        return []
    return [_rule(members, text, name) for text in _texts(members, name)]


def _counts_by_rule(members: Members, name: str) -> dict[str, int]:
    if not members.known(name):
        return {}
    counts = members.object(name)
    if len(counts.values) > MAX_ITEMS:
        members.refuse(name, f"has more than {MAX_ITEMS} rules")
    return {_rule(members, rule, name): _count(counts, rule) for rule in counts.values}


def _findings_count(
    members: Members, findings: list[FindingJson], omitted: Mapping[str, int]
) -> CountsJson:
    """Return how many findings there are, as it is told or, by earlier releases, was not."""
    errors = sum(finding["severity"] == "error" for finding in findings)
    warnings = len(findings) - errors
    if not members.known("findings_count"):
        return {"error": errors, "warning": warnings}
    told = members.object("findings_count")
    count: CountsJson = {"error": _count(told, "error"), "warning": _count(told, "warning")}
    total = count["error"] + count["warning"]
    if (
        count["error"] < errors
        or count["warning"] < warnings
        or total != len(findings) + sum(omitted.values())
    ):
        members.refuse("findings_count", "is not what the findings come to")
    return count


def _coverage(members: Members, total: int | None) -> CoverageJson:
    coverage: CoverageJson = {
        "struct_pages_read": _count(members, "struct_pages_read"),
        "struct_pages_inferred": _count(members, "struct_pages_inferred"),
        "fraction": members.number("fraction"),
    }
    if coverage["fraction"] > 1:
        members.refuse("fraction", "is more than all")
    looked_at = coverage["struct_pages_read"] + coverage["struct_pages_inferred"]
    if total is not None and looked_at > total:
        members.refuse("struct_pages_read", "is more than there are, with those inferred")
    return coverage


def _picture(members: Members) -> PictureJson:
    cells = members.text("cells", empty=True)
    if set(cells) - set("oLs "):
        members.refuse("cells", "holds a character that is no cell")
    return {
        "struct_pages_per_cell": members.whole("struct_pages_per_cell", 1, MOST),
        "cells": cells,
    }
