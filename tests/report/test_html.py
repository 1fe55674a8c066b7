"""The page: what it tells, and that nothing which came from elsewhere is taken for its own."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvoinspect.errors import HvoinspectError, printable
from hvoinspect.hotpath.run import Count, Run, read_run
from hvoinspect.report import charts
from hvoinspect.report.html import to_html
from hvoinspect.report.html_hotpath import Recordings
from hvoinspect.report.result import ScanResult
from hvoinspect.report.words import verdict
from tests.hotpath.runs import EXAMPLES, RUNS
from tests.report.pages_of_html import HOSTILE, Page
from tests.report.situations import SITUATIONS, situation

SIDES = tuple(
    Recordings(folder, tuple(read_run(file) for file in sorted(folder.glob("*.json"))))
    for folder in (EXAMPLES / "before", EXAMPLES / "after")
)


def page_of(
    *scans: ScanResult, hot_path: tuple[Recordings, ...] = (), title: str | None = None
) -> Page:
    given = [(Path(f"scan-{number}.json"), scan) for number, scan in enumerate(scans, 1)]
    return Page(to_html(given, hot_path, title))


def squeezed(text: str) -> str:
    return " ".join(text.split())


class TestScans:
    @pytest.mark.parametrize("name", SITUATIONS)
    def test_the_verdict_and_all_findings_of_each_situation(self, name: str) -> None:
        scan = situation(name)
        text = page_of(scan).text
        assert verdict(scan) in text
        for finding in scan["findings"]:
            for part in (
                finding["rule"],
                finding["address"],
                finding["expected"],
                finding["found"],
            ):
                assert squeezed(part) in text
            assert f"{finding['pfn']:#x}" in text
        for note in scan["notes"]:
            assert squeezed(note) in text

    def test_what_is_not_known_is_a_dash(self) -> None:
        text = page_of(situation("own view")).text
        assert "fake heads -" in text
        assert "Nothing was checked" in text
        assert "no findings" not in text

    def test_many_findings_are_all_there(self) -> None:
        scan = copy.deepcopy(situation("error"))
        (finding,) = scan["findings"][:1]
        scan["findings"] = [{**finding, "pfn": pfn} for pfn in range(1000, 1400)]
        scan["findings_omitted"] = {finding["rule"]: 12345}
        page = page_of(scan)
        assert all(f"{pfn:#x}" in page.texts for pfn in range(1000, 1400))
        assert f"12,345 more of {finding['rule']}" in page.text
        assert page.text.count(squeezed(finding["meaning"])) == 1

    def test_a_scan_without_a_picture_has_no_chart_and_no_library(self) -> None:
        scan = copy.deepcopy(situation("error"))
        del scan["picture"]
        html = to_html([(Path("scan.json"), scan)], [])
        assert len(html) < 100_000
        assert Page(html).charts == {}

    def test_it_is_called_by_the_host_or_the_file_or_as_asked(self) -> None:
        named: ScanResult = {**situation("off"), "host": {"name": "node7", "boot_id": None}}
        assert "HVO on node7, scan-2" in page_of(named, situation("off")).text
        assert page_of(named, title="Rack <7>").text.startswith("Rack <7>")


class TestChanges:
    def test_scans_are_side_by_side_with_what_changed(self) -> None:
        text = page_of(situation("pointer"), situation("mask")).text
        before, after = (situation(name)["pages"]["fake_head"] or 0 for name in ("pointer", "mask"))
        assert f"fake heads {before:,} {after:,} \N{MINUS SIGN}{before - after:,}" in text

    def test_new_findings_are_listed(self) -> None:
        intact: ScanResult = {
            **situation("error"),
            "findings": [],
            "findings_count": {"error": 0, "warning": 0},
        }
        text = page_of(intact, situation("error")).text
        assert "1 error more than before" in text
        assert "New findings: 1" in text

    def test_one_scan_has_none(self) -> None:
        assert "What changed" not in page_of(situation("mask")).text


class TestHotPath:
    def test_counts_and_the_comparison_with_its_intervals(self) -> None:
        page = page_of(hot_path=SIDES)
        assert "unmap_page_range -> __zap_vma_range" in page.text
        assert "0.550 to 0.567 *" in page.text
        assert len(page.charts) == 3  # the ratios, and the counts of both sides

    def test_hits_of_all_runs_are_added_up(self) -> None:
        total = sum(count.hits for run in SIDES[0].runs for count in run.counts)
        assert f"{total:,}, " in page_of(hot_path=SIDES[:1]).text

    def test_runs_that_count_different_things_are_refused(self) -> None:
        other = Run(**{**vars(SIDES[0].runs[0]), "mode": "sample"})
        with pytest.raises(HvoinspectError, match="count different things"):
            page_of(hot_path=(SIDES[0], Recordings(Path("other"), (other,))))
        with pytest.raises(HvoinspectError, match="count different things"):
            page_of(hot_path=(Recordings(Path("both"), (SIDES[0].runs[0], other)),))

    @given(RUNS)
    @settings(max_examples=30)
    def test_whatever_a_run_holds(self, run: Run) -> None:
        try:
            page_of(hot_path=(Recordings(Path("run"), (run,)),))
        except HvoinspectError:
            assert run.seconds == 0


class TestHostile:
    # Behind a dot a function's name is the compiler's (.isra.0) and not shown everywhere.
    ANY = st.text(st.characters(exclude_characters="."), min_size=1, max_size=4)
    TEXTS = st.lists(st.sampled_from(HOSTILE) | ANY, min_size=1, max_size=4).map("".join)

    def scan(self, text: str) -> ScanResult:
        scan: Any = copy.deepcopy(situation("error"))
        scan["host"] = {"name": text, "boot_id": text}
        scan["kernel"].update(release=text, build_id=text, arch=text)
        scan["source"].update(kind="core", path=text, debug_info=[text])
        scan["encoding"]["field"] = text
        scan["findings"][0].update(expected=text, found=text, meaning=text)
        scan["notes"] = [text]
        scan["version"] = text
        return scan  # type: ignore[no-any-return]

    def run(self, text: str, hits: int) -> Run:
        return Run(
            kernel={"release": text},
            encoding={"tail": text},
            seconds=1.0,
            mode="sites",
            coverage={},
            counts=(Count(text, text, 1, hits), Count("f", "h", 1, hits)),
            workload={"command": [text], "units": 10, "unit": text},
        )

    def page(self, text: str) -> str:
        sides = [Recordings(Path(text), (self.run(text, hits),)) for hits in (200, 300)]
        scans = [(Path("a"), self.scan(text)), (Path("b"), self.scan(text))]
        with patch.object(
            charts, "javascript", lambda: "0;"
        ):  # a megabyte that takes long to parse
            return to_html(scans, sides, text)

    @given(TEXTS)
    @settings(max_examples=15)
    def test_texts_come_back_as_texts_and_add_no_element(self, text: str) -> None:
        page, plain = Page(self.page(text)), Page(self.page("harmless"))
        assert page.shape == plain.shape
        assert page.scripts[1:] == plain.scripts[1:]
        shown = squeezed(printable(text))
        assert page.text.count(shown) >= plain.text.count("harmless")
        assert "\x1b" not in page.text
        assert "\u202e" not in page.text

    @given(TEXTS)
    @settings(max_examples=15)
    def test_names_in_charts_are_data(self, text: str) -> None:
        html = self.page(text)
        data = Page(html).scripts[0]
        assert not set("<>&\u2028\u2029") & set(data)
        assert json.dumps(printable(text))[1:-1] in json.dumps(json.loads(data))


class TestAlone:
    def test_it_names_nothing_to_load(self) -> None:
        page = page_of(situation("error"), situation("mask"), hot_path=SIDES)
        for tag, attributes in page.elements:
            assert tag not in ("link", "img", "iframe", "object", "embed", "base", "form")
            assert not {"src", "srcset", "action", "style", "onclick"} & set(attributes)
            assert (attributes.get("href") or "#").startswith("#")

    def test_only_its_own_scripts_may_run(self) -> None:
        page = page_of(situation("error"), hot_path=SIDES)
        (policy,) = (
            attributes["content"] or ""
            for tag, attributes in page.elements
            if attributes.get("http-equiv") == "Content-Security-Policy"
        )
        rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
        assert rules["default-src"] == "'none'"
        assert rules["script-src"].split() == [
            f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
            for script in page.scripts[1:]
        ]
        assert set(rules) == {
            *("default-src", "script-src", "style-src", "img-src", "base-uri", "form-action")
        }

    def test_every_link_leads_somewhere_and_every_id_is_there_once(self) -> None:
        page = page_of(situation("error"), situation("mask"), hot_path=SIDES)
        ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
        assert len(ids) == len(set(ids))
        named = [
            (attributes[name] or "").removeprefix("#")
            for _, attributes in page.elements
            for name in ("href", "aria-labelledby", "data-picture")
            if name in attributes
        ]
        assert set(named) <= set(ids)
        assert set(page.charts) <= set(ids)

    def test_the_same_input_gives_the_same_page(self) -> None:
        given = [(Path("a"), situation("pointer")), (Path("b"), situation("mask"))]
        assert to_html(given, SIDES) == to_html(given, SIDES)

    def test_tables_tell_what_their_cells_are(self) -> None:
        page = page_of(situation("error"), situation("mask"), hot_path=SIDES)
        heads = [attributes for tag, attributes in page.elements if tag == "th"]
        assert heads
        assert all("scope" in attributes for attributes in heads)
