"""`hvoinspect diff` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Call


@pytest.fixture
def scans(tmp_path: Path, call: Call, core: Path, damaged_core: Path) -> Path:
    """An intact kernel, and the same one with a damaged tail."""
    call("scan", "-c", core, "-o", tmp_path / "intact.json")
    call("scan", "-c", damaged_core, "-o", tmp_path / "damaged.json")
    return tmp_path


def test_new_errors_are_told_by_the_exit_status(scans: Path, call: Call) -> None:
    status, out, err = call("diff", scans / "intact.json", scans / "damaged.json")
    assert (status, err) == (1, "")
    assert "1 error more than before" in " ".join(out.split())
    status, out, _ = call("diff", scans / "damaged.json", scans / "intact.json")
    assert status == 0
    assert "1 gone" in out


def test_json_goes_where_it_is_asked_to(scans: Path, call: Call) -> None:
    output = scans / "diff.json"
    paths = scans / "intact.json", scans / "damaged.json"
    assert call("diff", *paths, "-o", output) == (1, "", "")
    assert json.loads(output.read_text())["schema"] == "hvoinspect.diff/1"
    assert call("diff", *paths, "--json")[1] == output.read_text()
    status, _, err = call("diff", *paths, "-o", output)
    assert status == 2
    assert "exists already" in err


def test_what_is_no_scan(scans: Path, call: Call) -> None:
    (scans / "other.json").write_text('{"schema": "other/1"}')
    status, out, err = call("diff", scans / "intact.json", scans / "other.json")
    assert (status, out) == (3, "")
    assert "holds other/1, not hvoinspect.scan/1" in err
    assert call("diff", scans / "intact.json", scans / "none.json")[0] == 3
    assert call("diff", scans / "intact.json")[0] == 2


def test_the_demos_are_a_rework_and_nothing_is_worse(tmp_path: Path, call: Call) -> None:
    for demo in ("before", "after"):
        call("scan", "--demo", demo, "-o", tmp_path / f"{demo}.json")
    status, out, _ = call("diff", tmp_path / "before.json", tmp_path / "after.json")
    assert status == 0
    assert "HVO: fake heads -> shared tail" in out
    assert "fake heads                  4,543          0    -4,543\n" in out
