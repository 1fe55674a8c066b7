"""What a fleet comes to: answers on made-up fleets, of which they are known."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from hvoinspect.api.fleet import fleet_of
from hvoinspect.errors import HvoinspectError
from hvoinspect.fleet.answers import Fleet, answers, to_json
from hvoinspect.fleet.database import Database
from hvoinspect.fleet.page import show, verdict
from tests.fleet.fleets import Scan, saving, scan_of, write
from tests.report.situations import SITUATIONS
from tests.report.test_terminal import HOSTILE, WIDTHS

GIB = 1 << 30


def asked(folder: Path) -> Fleet:
    with fleet_of([str(folder)]) as database:
        return answers(database)


def off(host: str) -> Scan:
    scan = scan_of(host, "off")
    scan["encoding"]["hvo_enabled"] = False
    return scan


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    return write(
        tmp_path,
        a=scan_of("a"),
        b=scan_of("b"),
        c=off("c"),
        d=scan_of("d", "own view"),
        e=scan_of("e", "error"),
        f=scan_of("f", "partial"),
        g=scan_of("g", "not built"),
    )


class TestAnswers:
    def test_hvo_by_state(self, mixed: Path) -> None:
        fleet = asked(mixed)
        states = {row["state"]: row["hosts"] for row in fleet["hvo"]}
        assert states == {"on": 4, "off": 2, "not built": 1}
        assert {row["host"] for row in fleet["hvo_off"]} == {"c", "d", "g"}

    def test_what_is_saved_is_of_those_of_which_it_is_known(self, tmp_path: Path) -> None:
        write(tmp_path, a=saving("a", 10 * GIB, 0), b=saving("b", 5 * GIB, GIB))
        write(tmp_path, c=scan_of("c", "own view"))
        fleet = asked(tmp_path)
        assert fleet["saved"] == {
            "saved_bytes": 15 * GIB,
            "split_cost_bytes": 8192,
            "net_saved_bytes": 15 * GIB - 8192,
            "potential_bytes": GIB,
            "hosts_known": 2,
            "hosts_unknown": 1,
        }
        assert "15.0 GiB saved net; 1 GiB more could be; of 1 host that is not known" in (
            verdict(fleet)
        )

    def test_sums_beyond_64_bits(self, tmp_path: Path) -> None:
        write(tmp_path, a=saving("a", 2**62, 2**62), b=saving("b", 2**62, 2**62))
        write(tmp_path, c=saving("c", 2**62, 2**62))
        assert asked(tmp_path)["saved"]["saved_bytes"] == 3 * 2**62

    def test_kernels_and_encodings(self, mixed: Path) -> None:
        write(mixed, h=scan_of("h", "pointer"))
        kernels = asked(mixed)["kernels"]
        assert sum(kernel["hosts"] for kernel in kernels) == 8
        (old,) = (kernel for kernel in kernels if kernel["hvo"] == "fake_heads")
        assert (old["tail"], old["hosts"], old["hvo_on"]) == ("pointer", 1, 1)

    def test_findings_by_rule_count_also_those_not_listed(self, mixed: Path) -> None:
        scan = scan_of("e2", "error", findings_omitted={"tails-read-only": 500})
        scan["findings_count"] = {"error": 501, "warning": 0}
        fleet = asked(write(mixed, e2=scan))
        assert fleet["findings"] == [
            {"rule": "tails-read-only", "severity": "error", "hosts": 2, "findings": 502}
        ]
        assert [(row["host"], row["errors"]) for row in fleet["errors"]] == [("e2", 501), ("e", 1)]

    def test_partial_scans(self, mixed: Path) -> None:
        assert [row["host"] for row in asked(mixed)["partial"]] == ["d", "f"]

    def test_no_findings_of_a_scan_that_a_newer_one_replaced(self, tmp_path: Path) -> None:
        write(tmp_path, old=scan_of("a", "error", taken_at="2026-01-01T00:00:00+00:00"))
        write(tmp_path, new=scan_of("a", "mask", taken_at="2026-01-02T00:00:00+00:00"))
        fleet = asked(tmp_path)
        assert (fleet["scans"], fleet["hosts"]) == (2, 1)
        assert fleet["findings"] == []

    def test_the_newest_is_so_in_utc(self, tmp_path: Path) -> None:
        write(tmp_path, late=scan_of("a", "error", taken_at="2026-01-01T23:00:00-05:00"))
        write(tmp_path, early=scan_of("a", "mask", taken_at="2026-01-02T01:00:00+00:00"))
        assert len(asked(tmp_path)["errors"]) == 1


class TestOutliers:
    def test_whoever_saves_less_than_its_peers(self, tmp_path: Path) -> None:
        for number in range(6):
            write(tmp_path, **{f"h{number}": saving(f"h{number}", 14 * GIB, 0)})
        write(tmp_path, odd=saving("odd", 7 * GIB, 7 * GIB))
        (one,) = asked(tmp_path)["outliers"]
        assert (one["host"], one["peers"], one["share"], one["median_share"]) == ("odd", 7, 0.5, 1)

    def test_nobody_is_where_all_differ(self, tmp_path: Path) -> None:
        for number in range(6):
            scan = saving(f"h{number}", (1 + number) * GIB, (6 - number) * GIB)
            write(tmp_path, **{f"h{number}": scan})
        assert asked(tmp_path)["outliers"] == []

    @pytest.mark.parametrize(
        "differ",
        [
            lambda scan: scan["kernel"].update(release="6.1.0", build_id="aa"),
            lambda scan: scan["hugetlb"].pop(),
            lambda scan: scan["encoding"].update(hvo_enabled=False),
            lambda scan: scan["coverage"].update(fraction=0.5),
        ],
        ids=["another kernel", "another size", "HVO off", "seen in part"],
    )
    def test_others_are_no_peers(self, differ: Callable[[Scan], Any], tmp_path: Path) -> None:
        for number in range(4):
            write(tmp_path, **{f"h{number}": saving(f"h{number}", 14 * GIB, 0)})
        other = saving("other", 7 * GIB, 7 * GIB)
        differ(other)
        assert asked(write(tmp_path, other=other))["outliers"] == []

    def test_two_are_no_fleet(self, tmp_path: Path) -> None:
        write(tmp_path, a=saving("a", GIB, 0), b=saving("b", 0, GIB))
        assert asked(tmp_path)["outliers"] == []


class TestFiles:
    def test_bad_ones_stop_nothing_and_are_told_why(self, tmp_path: Path) -> None:
        write(tmp_path, good=scan_of("a"))
        (tmp_path / "bad.json").write_text("{")
        (tmp_path / "other.json").write_text('{"schema": "hvoinspect.hotpath/1"}')
        (tmp_path / "dangling.json").symlink_to("nowhere")
        (tmp_path / "note.txt").write_text("no scan, and not meant")
        with fleet_of([str(tmp_path), str(tmp_path / "none.json")]) as database:
            assert database.scans == 1
            refused = {Path(path).name: why for path, why in database.refused}
            told = database.ask("SELECT path, why FROM refused").rows
        assert refused == {
            "none.json": "No such file or directory",
            "bad.json": "is no JSON, or damaged",
            "other.json": "holds hvoinspect.hotpath/1, not hvoinspect.scan/1",
        }
        assert {Path(path).name: why for path, why in told} == refused

    def test_none_is_a_scan(self, tmp_path: Path) -> None:
        (tmp_path / "bad.json").write_text("{")
        with (
            pytest.raises(HvoinspectError, match="none of the files is a scan"),
            fleet_of([str(tmp_path)]),
        ):
            pass

    def test_folders_patterns_and_each_file_once(self, tmp_path: Path) -> None:
        write(tmp_path / "x/y", deep=scan_of(None))
        write(tmp_path / "x", a=scan_of(None))
        write(tmp_path / "x/.hidden", h=scan_of(None))
        given = [str(tmp_path / "x"), str(tmp_path / "x/*.json"), str(tmp_path / "**/deep.json")]
        with fleet_of(given) as database:
            hosts = database.ask("SELECT host FROM scans ORDER BY scan").rows
            assert hosts == [("a",), ("deep",)], "named for their files"
            assert database.refused == []

    def test_a_pattern_for_nothing(self, tmp_path: Path) -> None:
        write(tmp_path, a=scan_of(None))
        with fleet_of([str(tmp_path), str(tmp_path / "*.jso")]) as database:
            ((path, why),) = database.refused
        assert path.endswith("*.jso")
        assert "there is no file" in why

    def test_many_are_read_in_processes_and_come_to_the_same(self, tmp_path: Path) -> None:
        scan = json.dumps(scan_of(None, "error"))
        for number in range(600):
            (tmp_path / f"h{number:03}.json").write_text(scan if number % 100 else "{")
        done: list[tuple[int, int]] = []

        def ask(database: Database) -> list[tuple[Any, ...]]:
            return database.ask("SELECT * EXCLUDE (elapsed_seconds) FROM scans ORDER BY scan").rows

        with fleet_of([str(tmp_path)], lambda *at: done.append(at), jobs=2) as database:
            shared, refused = ask(database), database.refused
        with fleet_of([str(tmp_path)], jobs=1) as database:
            assert ask(database) == shared
            assert database.refused == refused
        assert (len(shared), len(refused)) == (594, 6)
        assert done[-1] == (600, 600)


class TestPage:
    @pytest.mark.parametrize("width", WIDTHS)
    @pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
    def test_lines_fit_and_steer_nothing(self, encoding: str, width: int, tmp_path: Path) -> None:
        for name in SITUATIONS:
            write(tmp_path, **{name.replace(" ", "-"): scan_of(None, name)})
        hostile = scan_of(HOSTILE, "error")
        hostile["kernel"]["release"] = HOSTILE
        fleet = asked(write(tmp_path, hostile=hostile))
        raw = io.BytesIO()
        file = io.TextIOWrapper(raw, encoding=encoding, newline="")
        show(fleet, Console(file=file, width=width, color_system=None, _environ={}))
        file.flush()
        page = raw.getvalue().decode(encoding)
        lines = page.split("\n")
        assert [line for line in lines if cell_len(line) > width or line != line.rstrip()] == []
        assert page.replace("\n", "").isprintable()
        assert "HVO is off, or not built in" in " ".join(page.split())
        assert json.loads(to_json(fleet)) == fleet
