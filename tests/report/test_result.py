"""The JSON of a scan: the contract, written down here once more, and what its numbers satisfy."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvoinspect.errors import ExitStatus
from hvoinspect.report import result as result_module
from hvoinspect.report.result import ScanResult, exit_status, result_of, to_json
from hvoinspect.target.layout import Hvo
from hvoinspect.vmemmap.rules import Finding
from tests.madeup import SECTION_PAGES, TAILS, Machine, Tail
from tests.report.situations import (
    NOT_BUILT,
    SITUATIONS,
    TAKEN,
    own,
    scanned,
    situation,
    view,
)

Shape = Any
"""A type; a tuple of what is possible; [shape of each]; {key: shape}; or a string, itself."""

COUNT = (int, None)
CONTRACT: Mapping[str, Shape] = {
    "schema": "hvoinspect.scan/1",
    "version": str,
    "taken_at": str,
    "source": {
        "kind": ("kcore", "core", "qemu", "demo", "kpageflags"),
        "path": (str, None),
        "debug_info": [("vmcoreinfo", "btf", "dwarf")],
    },
    "kernel": {"release": str, "build_id": (str, None), "arch": str, "page_size": int},
    "encoding": {
        "tail": ("pointer", "mask", None),
        "field": ("compound_head", "compound_info"),
        "struct_page_bytes": int,
        "hvo": ("none", "fake_heads", "shared_tail", None),
        "hvo_enabled": (bool, None),
    },
    "pages": dict.fromkeys(("total", "head", "fake_head", "tail", "single", "unreadable"), COUNT),
    "tails": {"pointer": COUNT, "mask": COUNT},
    "hugetlb": [
        {
            "size_bytes": int,
            "node": int,
            "total": int,
            "free": int,
            "optimized": COUNT,
            "partly_optimized": COUNT,
            "vmemmap_pages_kept": COUNT,
            "vmemmap_pages_freed": COUNT,
        }
    ],
    "vmemmap": {
        "virtual_bytes": COUNT,
        "frames": COUNT,
        "shared_frames": COUNT,
        "read_only_pages": COUNT,
        "pmd_mapped_bytes": COUNT,
        "pte_tables": COUNT,
        "saved_bytes": COUNT,
        "split_cost_bytes": COUNT,
        "net_saved_bytes": COUNT,
        "potential_bytes": COUNT,
    },
    "findings": [
        {
            "rule": str,
            "severity": ("error", "warning"),
            "pfn": int,
            "address": str,
            "expected": str,
            "found": str,
            "confirmed": bool,
        }
    ],
    "coverage": {"struct_pages_read": int, "struct_pages_inferred": int, "fraction": float},
    "elapsed_seconds": float,
}
ADDED: Mapping[str, Shape] = {
    "host": {"name": (str, None), "boot_id": (str, None)},
    "pages": {"offline": COUNT},
    "notes": [str],
    "findings_count": {"error": int, "warning": int},
}
"""What was added to the contract since it was first written."""


def breaches(value: object, shape: Shape, path: str = "scan") -> list[str]:
    """Where `value` is not of `shape`; keys that the shape does not name are none."""
    if isinstance(shape, Mapping):
        if not isinstance(value, dict):
            return [f"{path} is no object"]
        missing = [f"{path}.{key} is missing" for key in shape if key not in value]
        there = [key for key in shape if key in value]
        return missing + [
            b for key in there for b in breaches(value[key], shape[key], f"{path}.{key}")
        ]
    if isinstance(shape, list):
        if not isinstance(value, list):
            return [f"{path} is no array"]
        return [b for each in value for b in breaches(each, shape[0], f"{path}[]")]
    possible = shape if isinstance(shape, tuple) else (shape,)
    # Not isinstance: to that, True is an int, and to JSON it is not.
    right = any(type(value) is one if isinstance(one, type) else value == one for one in possible)
    return [] if right else [f"{path} is {value!r}"]


def parsed(result: ScanResult) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(to_json(result))
    return loaded


@pytest.fixture(params=SITUATIONS)
def result(request: pytest.FixtureRequest) -> ScanResult:
    return situation(request.param)


class TestContract:
    def test_every_situation_has_all_keys_with_their_types(self, result: ScanResult) -> None:
        assert breaches(parsed(result), CONTRACT) == []
        assert breaches(parsed(result), ADDED) == []

    def test_a_breach_would_be_seen(self) -> None:
        broken = parsed(situation("mask"))
        del broken["vmemmap"]["saved_bytes"]
        broken["pages"]["head"] = True
        broken["encoding"]["hvo"] = "maybe"
        broken["hugetlb"][0]["node"] = "0"
        broken["coverage"]["fraction"] = 1
        assert sorted(breaches(broken, CONTRACT)) == [
            "scan.coverage.fraction is 1",
            "scan.encoding.hvo is 'maybe'",
            "scan.hugetlb[].node is '0'",
            "scan.pages.head is True",
            "scan.vmemmap.saved_bytes is missing",
        ]

    def test_json_is_one_object_in_ascii_and_says_it_all(self, result: ScanResult) -> None:
        text = to_json(result)
        assert parsed(result) == result
        assert text.isascii()
        assert text.endswith("}\n")

    def test_only_the_scan_of_a_vmemmap_has_a_picture(self, result: ScanResult) -> None:
        seen = result["source"]["kind"] != "kpageflags"
        assert ("picture" in result) == seen
        if seen:
            assert breaches(result["picture"], {"struct_pages_per_cell": int, "cells": str}) == []

    def test_times_are_rfc_3339_and_seconds(self, result: ScanResult) -> None:
        assert result["taken_at"] == "2026-03-01T12:30:00+00:00"
        assert dt.datetime.fromisoformat(result["taken_at"]) == TAKEN.at
        assert result["elapsed_seconds"] == 1.235

    def test_numbers_no_json_reader_trips_over(self, result: ScanResult) -> None:
        json.dumps(result, allow_nan=False)


def kept(pages: int, freed: int) -> dict[str, int]:
    return {"partly_optimized": 0, "vmemmap_pages_kept": pages, "vmemmap_pages_freed": freed}


class TestNumbers:
    def test_the_five_classes_add_up(self, result: ScanResult) -> None:
        pages = result["pages"]
        five = (pages[key] for key in ("head", "fake_head", "tail", "single", "unreadable"))
        assert pages["total"] == sum(count or 0 for count in five)

    def test_net_is_gross_less_the_splits(self, result: ScanResult) -> None:
        vmemmap = result["vmemmap"]
        if result["source"]["kind"] == "kpageflags":
            assert set(vmemmap.values()) == {None}
        else:
            assert None not in vmemmap.values()
            net = (vmemmap["saved_bytes"] or 0) - (vmemmap["split_cost_bytes"] or 0)
            assert vmemmap["net_saved_bytes"] == net

    def test_coverage_is_what_was_read_and_inferred_of_all(self, result: ScanResult) -> None:
        coverage, total = result["coverage"], result["pages"]["total"]
        looked_at = coverage["struct_pages_read"] + coverage["struct_pages_inferred"]
        assert total
        assert coverage["fraction"] == looked_at / total
        if result["pages"]["unreadable"] is not None:
            assert looked_at + result["pages"]["unreadable"] == total

    def test_pools_are_ordered_by_size_and_node_and_none_is_empty(self, result: ScanResult) -> None:
        keys = [(pool["size_bytes"], pool["node"]) for pool in result["hugetlb"]]
        assert keys == sorted(set(keys))
        assert all(pool["free"] <= pool["total"] > 0 for pool in result["hugetlb"])

    @pytest.mark.parametrize("tail", TAILS)
    def test_a_known_pool(self, tail: Tail) -> None:
        result = situation(tail)
        fakes = 4095 + 4 * 7 if tail == "pointer" else 0
        tails = (1 << 18) - 1 + 5 * 511 + 7 - fakes
        assert result["pages"] == {
            "total": 12 * SECTION_PAGES,
            "head": 7,
            "fake_head": fakes,
            "tail": tails,
            "single": 12 * SECTION_PAGES - 7 - fakes - tails,
            "unreadable": 0,
            "offline": 0,
        }
        other: Tail = "mask" if tail == "pointer" else "pointer"
        assert result["tails"] == {tail: tails, other: 0}
        small = {"size_bytes": 2 << 20, "node": 1, "total": 5, "free": 2, "optimized": 4}
        large = {"size_bytes": 1 << 30, "node": 0, "total": 1, "free": 1, "optimized": 1}
        assert result["hugetlb"] == [
            small | kept(4 + 8, 4 * 7),
            large | kept(1, 4095),
        ]
        vmemmap = result["vmemmap"]
        saved = 4095 + 4 * 7
        assert vmemmap["saved_bytes"] == saved * 4096
        assert vmemmap["read_only_pages"] == saved
        assert vmemmap["split_cost_bytes"] == vmemmap["pte_tables"] * 4096 == 9 * 4096  # type: ignore[operator]
        assert vmemmap["potential_bytes"] == 7 * 4096
        assert vmemmap["virtual_bytes"] == 12 * (2 << 20)
        # Of the nine blocks that were split, what no 4 KiB entry saves still has its own frame; in
        # the mask encoding each size on each node has one frame more, the shared one.
        shared = 2 if tail == "mask" else 0
        assert vmemmap["frames"] == 12 * 512 - saved + shared
        assert vmemmap["shared_frames"] == (2 if tail == "mask" else 5)
        assert vmemmap["pmd_mapped_bytes"] == 3 * (2 << 20)
        assert result["encoding"] == {
            "tail": tail,
            "field": "compound_info" if tail == "mask" else "compound_head",
            "struct_page_bytes": 64,
            "hvo": "shared_tail" if tail == "mask" else "fake_heads",
            "hvo_enabled": True,
        }

    @settings(max_examples=30)
    @given(
        tail=st.sampled_from(TAILS),
        optimized=st.lists(st.booleans(), max_size=8),
        supported=st.booleans(),
        lost=st.sets(st.integers(10, 1500), max_size=10),
    )
    def test_it_adds_up_on_any_machine(
        self, tail: Tail, optimized: list[bool], supported: bool, lost: set[int]
    ) -> None:
        machine = Machine((0, 3), tail=tail)
        for slot, with_hvo in enumerate(optimized):
            machine.hugetlb(slot << 9, hvo=with_hvo)
        machine.unreadable |= lost
        hvo = Hvo(supported=supported, enabled=None, has_shared_tails=False)
        result = result_of(scanned(machine, hvo), TAKEN)
        assert breaches(parsed(result), CONTRACT) == []
        self.test_the_five_classes_add_up(result)
        self.test_net_is_gross_less_the_splits(result)
        self.test_coverage_is_what_was_read_and_inferred_of_all(result)
        self.test_pools_are_ordered_by_size_and_node_and_none_is_empty(result)


class TestSituations:
    def test_partial(self) -> None:
        result = situation("partial")
        assert result["pages"]["unreadable"] == 64
        assert result["coverage"] == {
            "struct_pages_read": 2 * SECTION_PAGES - 64,
            "struct_pages_inferred": 0,
            "fraction": 1 - 64 / (2 * SECTION_PAGES),
        }

    def test_partly_optimized(self) -> None:
        """A state: counted, and told, but no finding."""
        result = situation("partly")
        (pool,) = result["hugetlb"]
        assert (pool["optimized"], pool["partly_optimized"]) == (1, 1)
        assert (pool["vmemmap_pages_kept"], pool["vmemmap_pages_freed"]) == (2, 6)
        assert result["findings"] == []
        assert [note for note in result["notes"] if note.startswith("1 hugepage is partly")]
        assert situation("mask")["hugetlb"][0]["partly_optimized"] == 0
        assert situation("mask")["notes"] == []

    def test_offline(self) -> None:
        """Offline struct pages are single by inference, and none was read."""
        result = situation("offline")
        assert result["pages"]["offline"] == SECTION_PAGES
        assert result["pages"]["single"] == 2 * SECTION_PAGES
        assert result["coverage"] == {
            "struct_pages_read": SECTION_PAGES,
            "struct_pages_inferred": SECTION_PAGES,
            "fraction": 1.0,
        }

    def test_no_hugetlb(self) -> None:
        result = situation("no hugetlb")
        assert result["hugetlb"] == []
        assert result["vmemmap"]["saved_bytes"] == result["vmemmap"]["potential_bytes"] == 0
        assert result["encoding"]["tail"] == "mask", "by its members, where no tail can be seen"

    def test_a_kernel_without_hvo(self) -> None:
        """What its hugepages could save is nothing, and split mappings are none of HVO's cost."""
        machine = Machine((0,), base_pages=frozenset({0}))
        machine.hugetlb(0, hvo=False)
        with_hvo = result_of(scanned(machine), TAKEN)
        without = result_of(scanned(machine, NOT_BUILT), TAKEN)
        assert with_hvo["vmemmap"]["potential_bytes"] == 7 * 4096
        assert with_hvo["vmemmap"]["split_cost_bytes"] == 4096
        assert without["encoding"]["hvo"] == "none"
        assert without["vmemmap"]["potential_bytes"] == without["vmemmap"]["split_cost_bytes"] == 0

    def test_without_hvo_no_tail_seen_the_word_is_a_pointer(self) -> None:
        assert situation("not built")["encoding"]["tail"] == "pointer"

    def test_what_tails_say_goes_before_what_members_say(self) -> None:
        machine = Machine((0,), tail="pointer")
        machine.slab(0, 3)
        kernel = machine.kernel()
        renamed = replace(kernel, page=replace(kernel.page, compound_field="compound_info"))
        result = result_of(replace(scanned(machine), kernel=renamed), TAKEN)
        assert result["encoding"]["tail"] == "pointer"
        assert result["encoding"]["hvo"] == "fake_heads"

    def test_own_view(self) -> None:
        """What only page tables and struct pages show is unknown, not zero."""
        result = situation("own view")
        assert result["source"] == {"kind": "kpageflags", "path": None, "debug_info": ["btf"]}
        assert result["pages"] == {
            "total": 1510,
            "head": 10,
            "fake_head": None,
            "tail": 500,
            "single": 1000,
            "unreadable": None,
            "offline": None,
        }
        assert result["tails"] == {"pointer": None, "mask": None}
        pools = [(p["size_bytes"], p["node"], p["total"], p["free"]) for p in result["hugetlb"]]
        assert pools == [(2 << 20, 0, 5, 5), (2 << 20, 1, 7, 3), (1 << 30, 0, 1, 0)]
        assert {p["optimized"] for p in result["hugetlb"]} == {None}
        assert "even root" in result["notes"][0]
        assert "left out" in result["notes"][1]

    @pytest.mark.parametrize(
        ("supported", "shared", "hvo", "tail"),
        [
            (True, True, "shared_tail", "mask"),
            (True, False, "fake_heads", "mask"),
            (False, False, "none", "pointer"),
            (None, False, None, None),
        ],
    )
    def test_own_view_of_hvo(
        self, supported: bool | None, shared: bool, hvo: str | None, tail: str | None
    ) -> None:
        encoding = own(view(supported=supported, shared=shared))["encoding"]
        assert (encoding["hvo"], encoding["tail"]) == (hvo, tail)

    @pytest.mark.parametrize(
        ("size", "field"), [(56, "compound_info"), (64, "compound_head")], ids=["odd", "old"]
    )
    def test_own_view_of_pointers(
        self, size: int, field: Literal["compound_head", "compound_info"]
    ) -> None:
        """A struct page of no power of two cannot be masked, and an old one never was."""
        seen = view()
        page = replace(seen.kernel.page, size=size, compound_field=field)
        seen = replace(seen, kernel=replace(seen.kernel, page=page))
        assert own(seen)["encoding"]["tail"] == "pointer"


def finding(
    pfn: int, severity: Literal["error", "warning"] = "error", rule: str = "tails-read-only"
) -> Finding:
    return Finding(rule, severity, pfn, "one thing", "another", True, "what follows")


def with_findings(*findings: Finding) -> ScanResult:
    return result_of(replace(scanned(Machine((0,))), findings=findings), TAKEN)


class TestFindings:
    def test_addresses_are_hexadecimal_strings(self) -> None:
        result = with_findings(finding(0x40))
        assert result["findings"] == [
            {
                "rule": "tails-read-only",
                "severity": "error",
                "pfn": 0x40,
                "address": "0xffffea0000001000",
                "expected": "one thing",
                "found": "another",
                "confirmed": True,
                "meaning": "what follows",
            }
        ]

    def test_of_each_rule_so_many_are_listed_and_the_rest_counted(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(result_module, "MAX_FINDINGS", 5)
        result = with_findings(
            *(finding(pfn, rule="many") for pfn in range(8)),
            *(finding(pfn, rule="just enough") for pfn in range(5)),
        )
        assert [f["pfn"] for f in result["findings"] if f["rule"] == "many"] == [0, 1, 2, 3, 4]
        assert len(result["findings"]) == 10
        assert result["findings_omitted"] == {"many": 3}
        assert result["findings_count"] == {"error": 13, "warning": 0}

    def test_the_limit_lets_a_thousand_be_listed(self) -> None:
        result = with_findings(*(finding(pfn) for pfn in range(1001)))
        assert len(result["findings"]) == 1000
        assert result["findings_omitted"] == {"tails-read-only": 1}

    def test_warnings_do_not_hide_an_error_of_the_same_rule(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(result_module, "MAX_FINDINGS", 3)
        result = with_findings(*(finding(pfn, "warning") for pfn in range(5)), finding(9))
        assert [(f["severity"], f["pfn"]) for f in result["findings"]] == [
            ("error", 9),
            ("warning", 0),
            ("warning", 1),
        ]
        assert result["findings_count"] == {"error": 1, "warning": 5}
        assert exit_status(result) == ExitStatus.FINDINGS

    def test_addresses_in_findings_of_a_real_scan(self) -> None:
        for found in situation("error")["findings"]:
            assert re.fullmatch("0x[0-9a-f]{16}", found["address"])
            assert int(found["address"], 16) == 0xFFFF_EA00_0000_0000 + 64 * found["pfn"]


class TestExitStatus:
    @pytest.mark.parametrize(
        ("name", "status", "strict"),
        [
            ("pointer", ExitStatus.OK, ExitStatus.OK),
            ("mask", ExitStatus.OK, ExitStatus.OK),
            ("offline", ExitStatus.OK, ExitStatus.OK),
            ("no hugetlb", ExitStatus.OK, ExitStatus.OK),
            ("not built", ExitStatus.OK, ExitStatus.OK),
            ("error", ExitStatus.FINDINGS, ExitStatus.FINDINGS),
            ("warning", ExitStatus.OK, ExitStatus.FINDINGS),
            ("partial", ExitStatus.PARTIAL, ExitStatus.PARTIAL),
            ("partly", ExitStatus.OK, ExitStatus.OK),
            ("own view", ExitStatus.PARTIAL, ExitStatus.PARTIAL),
        ],
    )
    def test_of_a_situation(self, name: str, status: ExitStatus, strict: ExitStatus) -> None:
        assert exit_status(situation(name)) == status
        assert exit_status(situation(name), strict=True) == strict

    def test_an_error_weighs_more_than_what_could_not_be_read(self) -> None:
        result = situation("error")
        result["coverage"]["fraction"] = 0.5
        assert exit_status(result) == ExitStatus.FINDINGS

    def test_statuses_are_the_contracts(self) -> None:
        assert {status.name: status.value for status in ExitStatus} == {
            "OK": 0,
            "FINDINGS": 1,
            "USAGE": 2,
            "CANNOT_INSPECT": 3,
            "PARTIAL": 4,
        }


class TestPicture:
    def test_what_maps_each_part(self) -> None:
        """One cell a section here: a hole between two that are shared, split and whole."""
        machine = Machine((0, 1, 3, 4), base_pages=frozenset({3}))
        machine.hugetlb(0)
        picture = result_of(scanned(machine), TAKEN)["picture"]
        assert picture == {"struct_pages_per_cell": SECTION_PAGES, "cells": "oL sL"}

    def test_a_large_machine_has_more_in_a_cell(self) -> None:
        picture = result_of(scanned(Machine((0, 600))), TAKEN)["picture"]
        assert picture["struct_pages_per_cell"] == 3 * SECTION_PAGES
        assert picture["cells"] == "L" + " " * 199 + "L"
