"""What changed between two scans: its JSON, the page, and whether anything is worse."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from hvoinspect.report.diff import Diff, diff, exit_status, to_json
from hvoinspect.report.diff_page import show, verdict
from hvoinspect.report.result import ScanResult
from tests.report.situations import SITUATIONS, situation
from tests.report.test_terminal import HOSTILE, WIDTHS

BOOT = "1f0c0e8a-58a1-4f0b-9d4b-0a7a6b6f3c11"
OTHER = "2f0c0e8a-58a1-4f0b-9d4b-0a7a6b6f3c11"


def compared(before: ScanResult, after: ScanResult) -> Diff:
    return diff(before, after, (Path("a.json"), Path("b.json")))


def page(found: Diff, width: int = 80, encoding: str = "utf-8") -> str:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding, newline="")
    show(found, Console(file=file, width=width, color_system=None, _environ={}))
    file.flush()
    return raw.getvalue().decode(encoding)


def with_errors(*pfns: int, boot: str | None = BOOT, omitted: int = 0) -> ScanResult:
    scan = situation("error")
    (one,) = scan["findings"]
    start, size = int(one["address"], 16) - 64 * one["pfn"], 64
    scan["findings"] = [{**one, "pfn": p, "address": f"{start + size * p:#x}"} for p in pfns]
    scan["findings_omitted"] = {one["rule"]: omitted} if omitted else {}
    scan["findings_count"] = {"error": len(pfns) + omitted, "warning": 0}
    scan["host"] = {"name": "db-7", "boot_id": boot}
    return scan


class TestNumbers:
    @pytest.mark.parametrize("name", SITUATIONS)
    def test_nothing_changed(self, name: str) -> None:
        found = compared(situation(name), situation(name))
        numbers = [*found["vmemmap"].values(), *found["pages"].values()]
        numbers += [count for pool in found["hugetlb"] for count in pool["counts"].values()]
        assert {number["change"] for number in numbers} <= {0, None}
        assert found["changed"] == {
            "host": None,
            "kernel": False,
            "encoding": False,
            "hvo": None,
        }
        assert not found["worse_strictly"]
        assert exit_status(found, strict=True) == 0

    @settings(max_examples=40)
    @given(st.sampled_from(sorted(SITUATIONS)), st.sampled_from(sorted(SITUATIONS)))
    def test_change_is_what_was_added_and_unknown_is_not_zero(self, old: str, new: str) -> None:
        before, after = situation(old), situation(new)
        found = compared(before, after)
        for name, number in found["vmemmap"].items():
            was, now = before["vmemmap"][name], after["vmemmap"][name]  # type: ignore[literal-required]
            assert (number["before"], number["after"]) == (was, now)
            known = was is not None and now is not None
            assert number["change"] == (now - was if known else None)
        there = {(p["size_bytes"], p["node"]) for s in (before, after) for p in s["hugetlb"]}
        assert [(p["size_bytes"], p["node"]) for p in found["hugetlb"]] == sorted(there)
        assert json.loads(to_json(found)) == found

    def test_pools_that_appear_and_vanish(self) -> None:
        found = compared(situation("mask"), situation("no hugetlb"))
        assert [pool["state"] for pool in found["hugetlb"]] == ["vanished"] * 2
        assert found["hugetlb"][0]["counts"]["optimized"] == {
            "before": 4,
            "after": 0,
            "change": -4,
        }
        back = compared(situation("no hugetlb"), situation("mask"))
        assert [pool["state"] for pool in back["hugetlb"]] == ["appeared"] * 2

    def test_what_the_kernels_own_view_does_not_tell_is_no_zero(self) -> None:
        found = compared(situation("own view"), situation("mask"))
        large = found["hugetlb"][-1]
        assert large["counts"]["total"] == {"before": 1, "after": 1, "change": 0}
        assert large["counts"]["optimized"] == {"before": None, "after": 1, "change": None}
        assert found["vmemmap"]["saved_bytes"]["change"] is None
        assert "the first scan is the kernel's own view only" in found["notes"][0]

    def test_a_rework_and_a_switch(self) -> None:
        after = situation("mask")
        after["encoding"]["hvo_enabled"] = False
        found = compared(situation("pointer"), after)
        assert found["changed"]["encoding"]
        assert found["changed"]["hvo"] == "off"
        assert "tails: pointer -> mask; HVO: fake heads -> shared tail" in verdict(found)


class TestBoots:
    def test_by_their_ids(self) -> None:
        assert compared(with_errors(), with_errors())["same_boot"] is True
        assert compared(with_errors(), with_errors(boot=OTHER))["same_boot"] is False
        assert compared(with_errors(boot=None), with_errors())["same_boot"] is None

    def test_another_kernel_or_host_is_another_boot(self) -> None:
        after = with_errors(boot=None)
        after["kernel"]["release"] = "7.9"
        assert compared(with_errors(), after)["same_boot"] is False
        after = with_errors(boot=None)
        after["host"]["name"] = "db-8"
        found = compared(with_errors(), after)
        assert (found["same_boot"], found["changed"]["host"]) == (False, True)
        assert "the scans are of different hosts." in found["notes"]

    def test_a_build_is_told_by_its_id_where_both_have_one(self) -> None:
        before, after = with_errors(), with_errors()
        before["kernel"]["build_id"] = "aa"
        assert compared(before, after)["changed"]["kernel"] is False
        after["kernel"]["build_id"] = "bb"
        assert compared(before, after)["changed"]["kernel"] is True

    def test_another_vmemmap_is_another_boot(self) -> None:
        after = with_errors(5, boot=None)
        after["findings"][0]["address"] = "0xfffff00000000140"
        assert compared(with_errors(5, boot=None), after)["same_boot"] is False


class TestFindings:
    def test_within_a_boot_they_are_told_apart_by_pfn(self) -> None:
        found = compared(with_errors(1, 2), with_errors(2, 3, 4))
        findings = found["findings"]
        assert [f["pfn"] for f in findings["new"]] == [3, 4]
        assert [f["pfn"] for f in findings["gone"]] == [1]
        assert [f["pfn"] for f in findings["still"]] == [2]
        (rule,) = findings["rules"]
        assert (rule["before"], rule["after"]) == (2, 3)
        assert (rule["new"], rule["gone"], rule["still"]) == (2, 1, 1)
        assert exit_status(found) == 1
        assert "error: tails-read-only: 2 new, 1 gone, 1 still there" in page(found)

    def test_another_place_is_worse_even_if_there_are_as_many(self) -> None:
        assert exit_status(compared(with_errors(1), with_errors(2))) == 1

    def test_fewer_are_not_worse(self) -> None:
        assert exit_status(compared(with_errors(1, 2), with_errors(2))) == 0

    def test_across_boots_pfns_mean_nothing(self) -> None:
        found = compared(with_errors(1, 2), with_errors(3, 4, boot=OTHER))
        assert found["findings"]["by"] == "rule"
        assert found["findings"]["rules"][0]["still"] == 2
        assert exit_status(found) == 0
        assert any("pfns mean nothing" in note for note in found["notes"])
        assert exit_status(compared(with_errors(1), with_errors(1, 2, boot=OTHER))) == 1

    def test_a_rule_that_the_earlier_boot_had_none_of_is_new(self) -> None:
        found = compared(with_errors(), with_errors(3, boot=OTHER))
        assert [f["pfn"] for f in found["findings"]["new"]] == [3]

    def test_where_not_all_are_listed_only_their_number_is_known(self) -> None:
        found = compared(with_errors(1, omitted=5), with_errors(2, 3, omitted=9))
        (rule,) = found["findings"]["rules"]
        assert (rule["before"], rule["after"], rule["new"]) == (6, 11, None)
        assert found["findings"]["new"] == []
        assert exit_status(found) == 1
        assert "tails-read-only: 6 -> 11" in page(found)
        fewer = compared(with_errors(1, omitted=9), with_errors(2, omitted=5))
        assert exit_status(fewer) == 0

    def test_a_rule_that_was_not_checked_had_no_none(self) -> None:
        before = with_errors()
        before["ignored_rules"] = ["tails-read-only"]
        found = compared(before, with_errors(7))
        (rule,) = found["findings"]["rules"]
        assert (rule["before"], rule["after"], rule["new"]) == (None, 1, None)
        assert exit_status(found) == 1, "the earlier scan does not have it"
        assert "not checked -> 1" in page(found)
        assert any("did not check tails-read-only" in note for note in found["notes"])

    def test_warnings_count_if_asked(self) -> None:
        found = compared(situation("mask"), situation("warning"))
        assert exit_status(found) == 0
        assert exit_status(found, strict=True) == 1

    @pytest.mark.parametrize("name", ["own view", "partial"])
    def test_less_seen_is_told_by_the_exit_status(self, name: str) -> None:
        found = compared(situation("mask"), situation(name))
        assert exit_status(found) == 4
        assert "nothing is worse of what was seen" in " ".join(page(found).split())

    def test_a_rule_no_longer_checked_is_less_seen(self) -> None:
        after = with_errors()
        after["ignored_rules"] = ["tails-read-only"]
        assert exit_status(compared(with_errors(1), after)) == 4


def test_the_wrong_way_round_is_told() -> None:
    after = situation("mask")
    after["taken_at"] = "2025-01-01T00:00:00+00:00"
    assert any("right way round" in note for note in compared(situation("mask"), after)["notes"])


class TestPage:
    @pytest.mark.parametrize("width", WIDTHS)
    @pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
    @pytest.mark.parametrize("old", ["pointer", "own view", "error"])
    @pytest.mark.parametrize("new", ["mask", "partial", "own view", "hostile"])
    def test_lines_fit(self, old: str, new: str, encoding: str, width: int) -> None:
        after = situation("error" if new == "hostile" else new)
        if new == "hostile":
            after["kernel"]["release"] = after["findings"][0]["found"] = HOSTILE
        text = page(compared(situation(old), after), width, encoding)
        lines = text.split("\n")
        assert [line for line in lines if cell_len(line) > width or line != line.rstrip()] == []
        assert text.replace("\n", "").isprintable()
        assert "…" not in text

    def test_both_pictures_are_to_one_scale(self) -> None:
        """A vmemmap half as long takes half as many columns."""
        before, after = situation("mask"), situation("mask")
        before["picture"] = {"struct_pages_per_cell": 1 << 15, "cells": "L" * 8}
        after["picture"] = {"struct_pages_per_cell": 1 << 16, "cells": "o" * 8}
        lines = page(compared(before, after), encoding="ascii").split("\n")
        strips = [line for line in lines if line.startswith(" [")]
        assert strips == [f" [{'#' * 38}{' ' * 38}]", f" [{'.' * 76}]"]

    def test_a_picture_alone_is_not_shown(self) -> None:
        assert "▕" not in page(compared(situation("own view"), situation("mask")))
