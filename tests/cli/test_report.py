"""`hvoinspect report` on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from hvoinspect import extras
from tests.cli.conftest import Call
from tests.hotpath.runs import EXAMPLES


@pytest.fixture
def scan(tmp_path: Path, call: Call, damaged_core: Path) -> Path:
    path = tmp_path / "damaged.json"
    call("scan", "-c", damaged_core, "-o", path)
    return path


def test_a_page_of_scans_and_recordings(scan: Path, tmp_path: Path, call: Call) -> None:
    page = tmp_path / "report.html"
    options = ("--hotpath", EXAMPLES / "before", "--hotpath", EXAMPLES / "after", "--title", "<b>")
    assert call("report", scan, scan, *options, "-o", page) == (0, "", "")
    text = page.read_text()
    assert text.startswith("<!DOCTYPE html>")
    assert "<title>&lt;b&gt;</title>" in text
    assert "unmap_page_range" in text


def test_a_file_is_replaced_only_if_asked(scan: Path, tmp_path: Path, call: Call) -> None:
    page = tmp_path / "report.html"
    page.write_text("mine")
    status, _, err = call("report", scan, "-o", page)
    assert (status, page.read_text()) == (2, "mine")
    assert "exists already" in err
    assert call("report", scan, "-o", page, "-f") == (0, "", "")
    assert page.read_text() != "mine"


def test_usage(scan: Path, tmp_path: Path, call: Call) -> None:
    status, out, err = call("report", scan)
    assert (status, out) == (2, "")
    assert "missing option '-o'" in err
    status, _, err = call("report", "-o", tmp_path / "report.html")
    assert status == 2
    assert "nothing to report" in err


@pytest.mark.parametrize("content", ['{"schema": "other/1"}', "no JSON", ""])
def test_one_bad_file_and_nothing_is_written(
    content: str, scan: Path, tmp_path: Path, call: Call
) -> None:
    bad, page = tmp_path / "bad.json", tmp_path / "report.html"
    bad.write_text(content)
    for arguments in ((scan, bad), (scan, "--hotpath", bad), (scan, tmp_path / "none.json")):
        status, out, err = call("report", *arguments, "-o", page)
        assert (status, out) == (3, "")
        assert len(err.splitlines()) == 2
        assert not page.exists()


def test_runs_that_cannot_be_compared(tmp_path: Path, call: Call) -> None:
    (tmp_path / "empty").mkdir()
    page = tmp_path / "report.html"
    assert call("report", "--hotpath", tmp_path / "empty", "-o", page)[0] == 3
    other = tmp_path / "sample.json"
    text = (EXAMPLES / "after" / "1.json").read_text()
    other.write_text(text.replace('"sites",\n', '"sample",\n'))
    both = ("--hotpath", EXAMPLES / "before", "--hotpath", other)
    status, _, err = call("report", *both, "-o", page)
    assert status == 2
    assert "count different things" in err
    assert not page.exists()


def test_what_is_not_installed_is_told(
    scan: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "bokeh" else object())
    status, _, err = call("report", scan, "-o", tmp_path / "report.html")
    assert status == 3
    assert "bokeh cannot be found" in err
    assert "pip install 'hvoinspect[report]'" in err
