"""Scans read back: what was written is read, and what anyone may have written is checked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hvoinspect.errors import HvoinspectError
from hvoinspect.report.result import ScanResult, to_json
from hvoinspect.report.scanfile import MOST, read_scan
from tests.report.situations import SITUATIONS, situation

Scan = dict[str, Any]


def read(folder: Path, scan: Scan | ScanResult) -> ScanResult:
    path = folder / "scan.json"
    path.write_text(json.dumps(scan))
    return read_scan(path)


@pytest.mark.parametrize("name", SITUATIONS)
def test_what_was_written_is_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / "scan.json"
    path.write_text(to_json(situation(name)))
    assert read_scan(path) == situation(name)


def test_what_a_later_release_added_is_left_out(tmp_path: Path) -> None:
    scan: Scan = {**situation("error"), "added": [1, {"x": None}]}
    scan["pages"]["added"] = scan["hugetlb"][0]["added"] = scan["findings"][0]["added"] = {}
    assert read(tmp_path, scan) == situation("error")


class TestEarlierRelease:
    """It wrote what the contract had from the beginning, and nothing else."""

    @pytest.fixture
    def scan(self) -> Scan:
        scan: Scan = {**situation("error")}
        added = ("host", "findings_omitted", "ignored_rules", "findings_count", "unstable", "notes")
        for name in (*added, "picture"):
            del scan[name]
        del scan["pages"]["offline"]
        del scan["hugetlb"][0]["partly_optimized"]
        del scan["findings"][0]["meaning"]
        return scan

    def test_what_it_did_not_write_is_unknown(self, scan: Scan, tmp_path: Path) -> None:
        result = read(tmp_path, scan)
        assert result["host"] == {"name": None, "boot_id": None}
        assert result["pages"]["offline"] is None
        assert result["hugetlb"][0]["partly_optimized"] is None
        assert result["findings"][0]["meaning"] == ""
        assert (result["findings_omitted"], result["unstable"]) == ({}, {})
        assert (result["ignored_rules"], result["notes"]) == ([], [])
        assert "picture" not in result

    def test_findings_are_counted(self, scan: Scan, tmp_path: Path) -> None:
        scan["findings"].append({**scan["findings"][0], "severity": "warning"})
        assert read(tmp_path, scan)["findings_count"] == {"error": 1, "warning": 1}

    @pytest.mark.parametrize(
        "name",
        ["taken_at", "kernel", "encoding", "pages", "hugetlb", "vmemmap", "findings", "coverage"],
    )
    def test_what_it_did_write_must_be_there(self, scan: Scan, name: str, tmp_path: Path) -> None:
        del scan[name]
        with pytest.raises(HvoinspectError, match=f'"{name}" is missing'):
            read(tmp_path, scan)

    def test_unknown_must_be_said(self, scan: Scan, tmp_path: Path) -> None:
        del scan["vmemmap"]["saved_bytes"]
        with pytest.raises(HvoinspectError, match=r'"vmemmap\.saved_bytes" is missing'):
            read(tmp_path, scan)


def put(*keys: str | int, value: object) -> Callable[[Scan], None]:
    def change(scan: Scan) -> None:
        place: Any = scan
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value

    return change


def twice(scan: Scan) -> None:
    scan["hugetlb"] *= 2


REFUSED: dict[str, tuple[Callable[[Scan], None], str]] = {
    "another schema": (put("schema", value="hvoinspect.hotpath/1"), "holds hvoinspect.hotpath/1"),
    "a count that is true": (put("pages", "head", value=True), '"pages.head" is no count'),
    "a count below zero": (put("pages", "head", value=-1), '"pages.head" is no count'),
    "a count with a fraction": (put("pages", "head", value=1.5), '"pages.head" is no count'),
    "a count of no machine": (put("vmemmap", "frames", value=MOST + 1), '"vmemmap.frames" is no'),
    "classes that do not add up": (put("pages", "head", value=12345), "five classes"),
    "a size that is none": (put("hugetlb", 0, "size_bytes", value=3 << 20), "no power of two"),
    "a node that is none": (put("hugetlb", 0, "node", value=1024), r"hugetlb\[0\].node"),
    "the same pool twice": (twice, "two pools"),
    "pools that are none": (put("hugetlb", value={}), '"hugetlb" is no list'),
    "an unknown severity": (put("findings", 0, "severity", value="info"), "none of error, warning"),
    "an unknown kind": (put("source", "kind", value="disk"), "is none of kcore"),
    "an unknown encoding": (put("encoding", "tail", value="xor"), "none of pointer, mask"),
    "neither on nor off": (put("encoding", "hvo_enabled", value="yes"), "neither true nor false"),
    "an address that is none": (put("findings", 0, "address", value="0xg"), "no hexadecimal"),
    "a rule that is markup": (put("findings", 0, "rule", value="<b>"), "no name of a rule"),
    "an omitted rule that is none": (put("findings_omitted", value={"a b": 1}), "name of a rule"),
    "findings that do not add up": (put("findings_count", "error", value=7), "findings come to"),
    "a time that is none": (put("taken_at", value="yesterday"), '"taken_at" is no time'),
    "a time of nowhere": (put("taken_at", value="2026-03-01T12:30:00"), "has no time zone"),
    "a time before all": (put("taken_at", value="0001-01-01T00:00:00+14:00"), "is no time"),
    "more than all": (put("coverage", "fraction", value=1.5), "more than all"),
    "more read than there is": (put("coverage", "struct_pages_read", value=MOST), "more than ther"),
    "a picture of what": (put("picture", "cells", value="oLx"), "no cell"),
    "a picture of nothing": (put("picture", "struct_pages_per_cell", value=0), "out of range"),
    "a long note": (put("notes", value=["x" * 5000]), '"notes" holds a text that is too long'),
    "many notes": (put("notes", value=[""] * 2000), '"notes" has more than'),
    "many rules": (put("unstable", value={f"r{i}": 1 for i in range(2000)}), "has more than"),
    "a long text": (put("kernel", "release", value="x" * 5000), '"kernel.release" is no text'),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_scan_is_refused_by_the_member_that_is_wrong(name: str, tmp_path: Path) -> None:
    change, why = REFUSED[name]
    scan: Scan = {**situation("error")}
    change(scan)
    with pytest.raises(HvoinspectError, match=why) as refused:
        read(tmp_path, scan)
    assert refused.value.status == 3
    assert "hvoinspect scan --json" in refused.value.remedy


def test_texts_are_printable_whatever_was_written(tmp_path: Path) -> None:
    hostile = "\x1b[31mred\n\u202e\udc80"
    scan: Scan = {**situation("error"), "notes": [hostile]}
    for keys in (
        ("kernel", "release"),
        ("source", "path"),
        ("findings", 0, "found"),
        ("version",),
    ):
        put(*keys, value=hostile)(scan)
    read_back = json.dumps(read(tmp_path, scan), ensure_ascii=False)
    assert read_back.isprintable()
    assert read_back.count(r"\\x1b[31mred\\n\\u202e\\udc80") == 5


def test_saved_may_be_less_than_nothing(tmp_path: Path) -> None:
    scan: Scan = {**situation("mask")}
    scan["vmemmap"]["net_saved_bytes"] = -4096
    assert read(tmp_path, scan)["vmemmap"]["net_saved_bytes"] == -4096
