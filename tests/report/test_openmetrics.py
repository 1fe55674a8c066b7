"""A scan as metrics: what is in them equals the scan's JSON, and what is unknown is not in them."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvoinspect.report.openmetrics import (
    FAMILIES,
    LAST_SUCCESS,
    Counts,
    Format,
    Snapshot,
    last_success_in,
    metrics_table,
    render,
)
from hvoinspect.report.result import ScanResult
from hvoinspect.version import __version__
from hvoinspect.vmemmap.checks import RULES
from tests.report.exported import Key, key, samples
from tests.report.situations import SITUATIONS, TAKEN, situation

PROJECT = Path(__file__).parents[2]
NOW = TAKEN.at.timestamp()

needs_promtool = pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is missing")
every_situation = pytest.mark.parametrize("name", SITUATIONS)


def seen(result: ScanResult) -> Snapshot:
    return Snapshot(result, NOW, result["elapsed_seconds"], last_success=NOW)


def expected(result: ScanResult) -> dict[Key, float | None]:
    """What must be exported of a result, as its JSON has it; None: no sample."""
    encoding, pages, vmemmap = result["encoding"], result["pages"], result["vmemmap"]
    coverage = result["coverage"]
    found: dict[Key, float | None] = {
        key("hvo_enabled"): encoding["hvo_enabled"],
        key("kernel_page_bytes"): result["kernel"]["page_size"],
        key("struct_page_bytes"): encoding["struct_page_bytes"],
        key("offline_struct_pages"): pages["offline"],
        key("read_struct_pages"): coverage["struct_pages_read"],
        key("inferred_struct_pages"): coverage["struct_pages_inferred"],
        key("coverage_ratio"): coverage["fraction"],
        key("scan_duration_seconds"): result["elapsed_seconds"],
        key("scan_success"): 1,
        key("tails", encoding="pointer"): result["tails"]["pointer"],
        key("tails", encoding="mask"): result["tails"]["mask"],
    }
    for name in ("head", "fake_head", "tail", "single", "unreadable"):
        found[key("struct_pages", **{"class": name})] = pages[name]
    for name, value in vmemmap.items():
        assert value is None or isinstance(value, int)
        found[key(f"vmemmap_{name}")] = value
    for pool in result["hugetlb"]:
        where = {"size_bytes": pool["size_bytes"], "node": pool["node"]}
        kept, freed = pool["vmemmap_pages_kept"], pool["vmemmap_pages_freed"]
        found[key("hugetlb_pages", **where)] = pool["total"]
        found[key("hugetlb_free_pages", **where)] = pool["free"]
        found[key("hugetlb_optimized_pages", **where)] = pool["optimized"]
        found[key("hugetlb_partly_optimized_pages", **where)] = pool["partly_optimized"]
        found[key("hugetlb_vmemmap_kept_bytes", **where)] = None if kept is None else kept * 4096
        found[key("hugetlb_vmemmap_freed_bytes", **where)] = None if freed is None else freed * 4096
    return found


class TestValues:
    @every_situation
    @pytest.mark.parametrize("form", ["text", "openmetrics"])
    def test_they_are_those_of_the_json(self, name: str, form: Format) -> None:
        result = situation(name)
        exported = samples(render(seen(result), form), form)
        wanted = expected(result)
        assert {k: exported.get(k) for k in wanted} == wanted
        others = {k: v for k, v in exported.items() if k not in wanted}
        assert {k[0].removeprefix("hvoinspect_") for k in others} <= {
            "build_info",
            "scan_timestamp_seconds",
            "scan_last_success_timestamp_seconds",
            "source_info",
            "kernel_info",
            "encoding_info",
            "findings",
            "unstable",
        }

    def test_who_and_what(self) -> None:
        result = situation("mask")
        exported = samples(render(seen(result)))
        kernel = result["kernel"]
        assert kernel["build_id"] is None
        assert exported[key("build_info", version=__version__)] == 1
        assert exported[key("source_info", kind=result["source"]["kind"])] == 1
        assert exported[key("kernel_info", release=kernel["release"], arch=kernel["arch"])] == 1
        assert (
            exported[key("encoding_info", tail="mask", field="compound_info", hvo="shared_tail")]
            == 1
        )
        assert exported[key("scan_timestamp_seconds")] == NOW
        assert exported[key("scan_last_success_timestamp_seconds")] == NOW

    @every_situation
    def test_both_formats_say_the_same(self, name: str) -> None:
        text, openmetrics = (render(seen(situation(name)), f) for f in ("text", "openmetrics"))
        assert samples(text) == samples(openmetrics, "openmetrics")
        assert openmetrics.endswith("\n# EOF\n")

    def test_a_machine_without_hugepages_has_no_pool(self) -> None:
        assert "hugetlb_pages" not in render(seen(situation("no hugetlb")))


class TestFindings:
    def test_each_rule_is_there_where_nothing_is_found(self) -> None:
        exported = samples(render(seen(situation("mask"))))
        for rule in RULES:
            assert exported[key("findings", rule=rule.name, severity=rule.severity)] == 0
            assert exported[key("unstable", rule=rule.name)] == 0

    @pytest.mark.parametrize("name", ["error", "warning"])
    def test_what_is_found_is_counted(self, name: str) -> None:
        result = situation(name)
        exported = samples(render(seen(result)))
        found = {k: v for k, v in exported.items() if k[0] == "hvoinspect_findings" and v}
        rules = {(f["rule"], f["severity"]) for f in result["findings"]}
        assert set(found) == {key("findings", rule=r, severity=s) for r, s in rules}
        assert sum(found.values()) == sum(result["findings_count"].values())  # type: ignore[arg-type]

    def test_a_severity_that_is_not_the_rules_own_is_told_beside_it(self) -> None:
        result = situation("error")
        rule = result["findings"][0]["rule"]
        result["findings"][0]["severity"] = "warning"
        exported = samples(render(seen(result)))
        assert exported[key("findings", rule=rule, severity="warning")] == 1
        assert exported[key("findings", rule=rule, severity="error")] == 0

    def test_those_that_are_not_listed_count(self) -> None:
        result = situation("error")
        rule = result["findings"][0]["rule"]
        result["findings_omitted"] = {rule: 5000}
        exported = samples(render(seen(result)))
        assert exported[key("findings", rule=rule, severity="error")] == 5001

    def test_what_did_not_hold_still(self) -> None:
        result = situation("mask")
        result["unstable"] = {RULES[0].name: 3}
        assert samples(render(seen(result)))[key("unstable", rule=RULES[0].name)] == 3

    def test_a_rule_that_was_left_out_is_not_0_but_unknown(self) -> None:
        result = situation("mask")
        result["ignored_rules"] = [RULES[0].name]
        text = render(seen(result))
        assert f'rule="{RULES[0].name}"' not in text
        assert f'rule="{RULES[1].name}"' in text

    def test_the_kernels_own_view_checks_none(self) -> None:
        text = render(seen(situation("own view")))
        assert "hvoinspect_findings" not in text
        assert "hvoinspect_unstable" not in text
        assert samples(text)[key("coverage_ratio")] == 0


class TestAttempts:
    def test_a_scan_that_failed_has_no_numbers_but_its_own(self) -> None:
        failed = Snapshot(None, NOW + 60, 0.5, last_success=NOW, counts=Counts(7, 2))
        assert samples(render(failed)) == {
            key("build_info", version=__version__): 1,
            key("scan_success"): 0,
            key("scan_timestamp_seconds"): NOW + 60,
            key("scan_last_success_timestamp_seconds"): NOW,
            key("scan_duration_seconds"): 0.5,
            key("scans_total"): 7,
            key("scan_failures_total"): 2,
        }

    def test_before_the_first_nothing_is_said_of_one(self) -> None:
        assert samples(render(Snapshot())) == {key("build_info", version=__version__): 1}

    def test_what_counts_up_is_a_counter_and_nothing_else(self) -> None:
        text = render(replace(seen(situation("mask")), counts=Counts(1, 0)))
        counters = [line.split()[2] for line in text.splitlines() if line.endswith(" counter")]
        assert counters == ["hvoinspect_scans_total", "hvoinspect_scan_failures_total"]


class TestLastSuccess:
    @pytest.mark.parametrize("last", [None, NOW])
    def test_it_is_read_back(self, last: float | None) -> None:
        assert last_success_in(render(Snapshot(None, NOW, 0.1, last)), NOW + 60) == last

    def test_what_is_no_time_before_now_is_none(self) -> None:
        for value in ("NaN", "+Inf", "-1", "0", str(NOW + 1)):
            assert last_success_in(f"{LAST_SUCCESS} {value}\n", NOW) is None
        assert last_success_in(f'{LAST_SUCCESS}{{a="b"}} 5\n', NOW) is None

    @given(st.text() | st.text(alphabet='#{}"=\\\n ,aT1', max_size=60).map(LAST_SUCCESS.__add__))
    def test_whatever_else_the_file_holds_is_no_error(self, text: str) -> None:
        found = last_success_in(text, NOW)
        assert found is None or 0 < found <= NOW


class TestFormat:
    @given(st.text(max_size=20))
    def test_a_kernels_name_cannot_break_out_of_its_label(self, release: str) -> None:
        result = situation("mask")
        result["kernel"]["release"] = f'"}} 1\n{release}\\\ud800'
        for form in ("text", "openmetrics"):
            exported = samples(render(seen(result), form), form)
            kernels = [k for k in exported if k[0] == "hvoinspect_kernel_info"]
            assert len(kernels) == 1
            assert dict(kernels[0][1])["release"].startswith('"} 1\\n')
            assert all(k[0].startswith("hvoinspect_") for k in exported)

    @needs_promtool
    @every_situation
    def test_promtool_finds_nothing_to_complain_of(self, name: str) -> None:
        text = render(replace(seen(situation(name)), counts=Counts(3, 1)))
        done = subprocess.run(
            ["promtool", "check", "metrics"],
            input=text,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    def test_labels_are_few_and_declared(self) -> None:
        for family in FAMILIES:
            for labels, _ in family.samples(seen(situation("pointer"))):
                assert tuple(labels) == family.labels

    def test_the_table_in_the_documentation(self) -> None:
        """docs/export.md has what `metrics_table` returns; put it there when it changes."""
        assert metrics_table() in (PROJECT / "docs/export.md").read_text()
