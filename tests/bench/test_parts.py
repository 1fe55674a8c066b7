"""The tables of every part are made, of machines so small that their figures mean nothing."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bench import cli, dump, fleet, live, memdesc, startup, terabyte
from bench.cli import PARTS
from hvoinspect.vmemmap.memdesc import MODELS
from lab.errors import LabError
from tests.bench.test_tables import TABLE
from tests.bigmachine.dump import write_dump
from tests.bigmachine.makeup import Makeup
from tests.madeup import Tail

NUMPY = "import numpy"


def quiet(_text: str) -> None:
    """Say nothing."""


def test_startup(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup, "COMMANDS", {"nothing": ("-c", "pass"), "NumPy": ("-c", NUMPY)})
    (table,) = startup.startup(1)
    rows = {row["what"]: row for row in table.as_json()["rows"]}
    assert len(rows) == 4
    assert all(row["least"] > 0 for row in rows.values())
    assert (rows["nothing"]["imports"], rows["NumPy"]["imports"]) == ("none", "numpy")


def test_fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "SCANS", 20)
    (table,) = fleet.fleet(1, 1, tmp_path, quiet)
    ours, rival = table.as_json()["rows"]
    assert (ours["scans"], ours["met"], rival["goal"]) == (20, True, None)
    assert ours["memory"] > 0
    assert list(tmp_path.iterdir()) == [], "nothing is left"


def test_a_fleets_answers_must_be_what_was_made() -> None:
    said = {"hosts": 10_000, "hvo_off": [{}], "findings": [{"findings": 1}], "refused": []}
    with pytest.raises(LabError, match="a fleet's answers are"):
        fleet._check(said, 1000)


def test_terabyte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def small(gib: int, tail: Tail) -> Makeup:
        return Makeup(tail, gigantic=gib - 1, huge=0, ordinary=1, slab=0, free=0)

    monkeypatch.setattr(Makeup, "usual", small)
    (table,) = terabyte.terabyte(1, 1, tmp_path, [2], quiet)
    rows = table.as_json()["rows"]
    assert {row["machine"] for row in rows} == {"2 GiB, pointers", "2 GiB, masks"}
    assert {row["struct_pages"] for row in rows} == {2 << 18}
    assert all(20e6 < row["peak_bytes"] < 2e9 for row in rows)
    assert not list(tmp_path.iterdir())


def test_a_scan_that_finds_something_else_is_no_measurement() -> None:
    makeup = Makeup.usual(64, "mask")
    terabyte.check(makeup, makeup.expected())
    wrong = deepcopy(makeup.expected())
    wrong["pages"]["head"] += 1
    with pytest.raises(LabError, match="wrong in pages"):
        terabyte.check(makeup, wrong)


def test_elf_dump(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dump, "SAMPLE", 50)
    write_dump(Makeup(gigantic=1, huge=0, ordinary=1, slab=0, free=0), tmp_path / "dump")
    rows = dump.beside_elf(tmp_path / "dump", "ELF", 1, 1, quiet)
    beside = ["drgn's objects", "bound: reading", "bound: gathering"]
    assert [row[2] for row in rows] == [*beside, "bound: reading"]
    assert len({row[1] for row in rows[:3]}) == 1  # one scan beside all
    assert rows[3][1] == rows[2][3]  # one bound held against the other


def test_memdesc(tmp_path: Path) -> None:
    write_dump(Makeup(gigantic=1, huge=0, ordinary=1, slab=0, free=0), tmp_path / "dump")
    rows = memdesc.beside_scan(tmp_path / "dump", "ELF", 1, 1, quiet)
    assert [row[0] for row in rows] == [f"ELF, {name}" for name in MODELS]
    assert all(row[2] == "exhaustive scan" for row in rows)


FOUND: dict[str, Any] = {
    "pages": {"total": 1000},
    "coverage": {"struct_pages_read": 10},
    "findings_count": {"error": 0},
    "hugetlb": [
        {"size_bytes": 2 << 20, "optimized": 8192},
        {"size_bytes": 1 << 30, "optimized": 800},
    ],
    "vmemmap": {
        "frames": 12,
        "read_only_pages": 8192 * 7 + 800 * 4095,
        "saved_bytes": (8192 * 7 + 800 * 4095) * 4096,
    },
}


def test_live() -> None:
    seconds = {
        "default": [1.0],
        "exhaustive": [8.0],
        "reading, default": [0.5],
        "reading, exhaustive": [6.0],
        "kpageflags": [12.0],
    }
    times = {name: {"seconds": one, "processor": one} for name, one in seconds.items()}
    found = {"release": "7.3.4", "imports": 1.0, "opening": 2.0, "times": times}
    races, once = live.tables(
        "Live", [live.Live("7.3", {**found, "default": FOUND, "exhaustive": FOUND})]
    )
    assert [(row["ratio"], row["met"]) for row in races.as_json()["rows"]] == [
        (12.0, True),
        (1.5, True),
        (24.0, None),
        (2.0, None),
    ]
    assert once.as_json()["rows"][0]["read"] == 0.01


def test_a_part_of_kpageflags_stands_for_all_of_it() -> None:
    one = {"seconds": [2.0], "processor": [2.0]}
    ways = ("default", "exhaustive", "reading, default", "reading, exhaustive", "kpageflags")
    found = {"times": dict.fromkeys(ways, one)}
    row = live.Live("7.3", {**found, "exhaustive": FOUND}, every=16).races[0]
    assert row[4] == 16.0


@pytest.mark.parametrize("key", ["read_only_pages", "saved_bytes"])
def test_the_large_guests_figures_must_be_what_its_pools_come_to(key: str) -> None:
    live.check_pools(FOUND)
    wrong = deepcopy(FOUND)
    wrong["vmemmap"][key] -= 1
    with pytest.raises(LabError, match="its pools come to"):
        live.check_pools(wrong)


def test_one_run_is_one_json_object_and_goes_into_the_document(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "performance.md"
    path.write_text("".join(f"<!-- {part}: begin -->\n<!-- {part}: end -->\n" for part in PARTS))
    monkeypatch.setattr(cli, "DOCUMENT", path)
    monkeypatch.setattr(startup, "startup", lambda repeats: [TABLE])
    monkeypatch.setattr(live, "guests", lambda repeats, jobs, say: [TABLE, TABLE])
    arguments = ["startup", "live", "--repeats=2", "--json", "--write", f"--folder={tmp_path}"]
    done = CliRunner().invoke(cli.bench, arguments)
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert {part: len(tables) for part, tables in result["parts"].items()} == {
        "startup": 1,
        "live": 2,
    }
    assert (result["repeats"], result["machine"]["processors"] >= 1) == (2, True)
    text = path.read_text(encoding="utf-8")
    assert text.count("| scan | 12.3 M/s |") == 3
    assert f"`scripts/bench live --jobs {result['jobs']} --repeats 2`, on " in text


@pytest.mark.parametrize("arguments", [["--size=20"], ["no-part"], ["--jobs=0"]])
def test_usage(arguments: list[str]) -> None:
    assert CliRunner().invoke(cli.bench, arguments).exit_code == 2


@pytest.mark.parametrize(
    "error",
    [LabError("it hangs", "wait"), OSError(28, "No space left on device")],
    ids=["the lab's", "the system's"],
)
def test_an_error_is_two_lines(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(prog_name: str) -> None:
        raise error

    monkeypatch.setattr(cli, "bench", fail)
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 3
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("bench: ") for line in lines)
    assert str(error.args[-1]).split(".")[0] in lines[0]
