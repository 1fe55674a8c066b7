"""`hvoinspect fleet` on the command line."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import duckdb
import pytest

from hvoinspect.fleet.schema import markdown
from hvoinspect.fleet.tables import TABLES
from tests.cli.conftest import PROJECT, Call, Run
from tests.cli.test_main import told
from tests.fleet.fleets import scan_of, write


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    return write(tmp_path / "scans", a=scan_of("a"), b=scan_of("b", "error"))


class TestAnswers:
    def test_for_people_and_as_json(self, scans: Path, call: Call) -> None:
        status, out, err = call("fleet", scans)
        assert (status, err) == (0, "")
        assert out.startswith("2 hosts, 2 scans; HVO: 2 on;")
        status, out, _ = call("fleet", scans, "--json")
        assert json.loads(out)["schema"] == "hvoinspect.fleet/1"
        assert call("fleet", "query", scans, "--json")[1] == out
        assert call("fleet", "--json", scans)[1] == out, "options come first as well"

    def test_what_could_not_be_read(self, scans: Path, call: Call) -> None:
        (scans / "bad.json").write_text("")
        status, out, _ = call("fleet", scans)
        assert status == 4
        words = " ".join(out.split())  # where lines end depends on how long the path is
        assert "1 file could not be read" in words
        assert "is no JSON, or damaged" in words
        status, out, err = call("fleet", scans, "--sql", "SELECT 1 AS one", "--json")
        assert status == 4
        assert json.loads(out)["refused"][0]["why"] == "is no JSON, or damaged"
        assert "bad.json is no JSON" in err

    def test_nothing_could_be_read(self, tmp_path: Path, call: Call) -> None:
        status, out, err = call("fleet", tmp_path)
        assert (status, out) == (3, "")
        assert "there is no file *.json in it" in told(err)[0]

    def test_of_real_scans(self, tmp_path: Path, call: Call) -> None:
        for demo in ("before", "after"):
            call("scan", "--demo", demo, "-o", tmp_path / f"{demo}.json")
        status, out, _ = call("fleet", tmp_path, "--json")
        fleet = json.loads(out)
        assert status == 0
        assert {row["hvo"] for row in fleet["kernels"]} == {"fake_heads", "shared_tail"}
        assert {row["rule"] for row in fleet["findings"]} == {"tails-read-only"}

    @pytest.mark.parametrize("arguments", [(), ("--json",), ("query",), ("--jobs", "0", ".")])
    def test_usage(self, arguments: tuple[str, ...], call: Call) -> None:
        assert call("fleet", *arguments)[0] == 2


class TestSql:
    def test_rows(self, scans: Path, call: Call) -> None:
        query = "SELECT host, errors, taken_at, ignored_rules, 1e999 AS much FROM latest ORDER BY 1"
        status, out, _ = call("fleet", scans, "--sql", query, "--json")
        assert status == 0
        assert json.loads(out)["rows"] == [
            ["a", 0, "2026-03-01 12:30:00", [], None],
            ["b", 1, "2026-03-01 12:30:00", [], None],
        ]
        assert (
            "host  errors\na          0\nb          1\n2 rows\n"
            in (call("fleet", scans, "--sql", "SELECT host, errors FROM latest ORDER BY 1")[1])
        )

    def test_what_does_not_fit_is_a_column_a_line(self, scans: Path, call: Call) -> None:
        out = call("fleet", scans, "--sql", "SELECT * FROM findings", "--width", 80)[1]
        assert "\nrule: tails-read-only\n" in out
        assert all(len(line) <= 80 for line in out.splitlines())

    def test_a_text_steers_nothing(self, scans: Path, call: Call) -> None:
        query = "SELECT chr(27) || '[31m' AS x, 1 AS \"y\x1b[0m\""
        out = call("fleet", scans, "--sql", query)[1]
        assert "\x1b" not in out
        assert r"\x1b[31m" in out

    @pytest.mark.parametrize("query", ["SELEC 1", "SELECT x FROM scans", "", "SELECT 1; SELECT 2"])
    def test_what_is_no_query(self, query: str, scans: Path, call: Call) -> None:
        status, out, err = call("fleet", scans, "--sql", query)
        assert (status, out) == (2, "")
        assert "fleet --schema" in told(err)[1]

    @pytest.mark.parametrize(
        "query",
        [
            "SELECT * FROM read_text('{file}')",
            "SELECT * FROM '{file}'",
            "SELECT * FROM glob('{folder}/*')",
            "COPY scans TO '{folder}/out.csv'",
            "ATTACH '{folder}/out.db'",
            "EXPORT DATABASE '{folder}/out'",
            "INSTALL httpfs",
            "LOAD httpfs",
            "SET enable_external_access = true",
            "SET allowed_directories = ['/']",
            "RESET lock_configuration",
            "SELECT * FROM answer",
            "SELECT * FROM context",
        ],
    )
    def test_a_query_can_reach_nothing_but_the_tables(
        self, query: str, tmp_path: Path, scans: Path, call: Call
    ) -> None:
        secret = tmp_path / "secret.csv"
        secret.write_text("a,b\nsecret,1\n")
        query = query.format(file=secret, folder=tmp_path)
        before = sorted(tmp_path.iterdir())
        status, out, _ = call("fleet", scans, "--sql", query)
        assert (status, out) == (2, "")
        assert sorted(tmp_path.iterdir()) == before


def parquet(query: str) -> list[tuple[Any, ...]]:
    """What a database that can read files returns."""
    with duckdb.connect() as connection:
        return connection.execute(query).fetchall()


class TestParquet:
    def test_all_tables_to_a_folder(self, scans: Path, tmp_path: Path, call: Call) -> None:
        folder = tmp_path / "tables"
        assert call("fleet", scans, "--parquet", folder) == (0, "", "")
        assert {path.name for path in folder.iterdir()} == {f"{name}.parquet" for name in TABLES}
        rows = parquet(f"SELECT host, errors FROM '{folder}/scans.parquet' ORDER BY 1")
        assert rows == [("a", 0), ("b", 1)]
        types = parquet(f"SELECT typeof(size_bytes), typeof(node) FROM '{folder}/pools.parquet'")
        assert types[0] == ("BIGINT", "INTEGER")

    def test_a_query_to_a_file_that_is_not_overwritten(
        self, scans: Path, tmp_path: Path, call: Call
    ) -> None:
        path = tmp_path / "out.parquet"
        query = ("--sql", "SELECT count(*) AS n FROM findings")
        assert call("fleet", scans, *query, "--parquet", path) == (0, "", "")
        assert parquet(f"SELECT n FROM '{path}'") == [(1,)]
        status, _, err = call("fleet", scans, *query, "--parquet", path)
        assert status == 2
        assert "exists already" in err
        assert call("fleet", scans, "--parquet", path, "-f")[0] == 0
        assert len(parquet(f"SELECT host FROM '{path}'")) == 2

    def test_where_it_cannot_be(self, scans: Path, tmp_path: Path, call: Call) -> None:
        (tmp_path / "file").touch()
        assert call("fleet", scans, "--parquet", tmp_path / "file")[0] == 2
        assert call("fleet", scans, "--parquet", tmp_path / "x", "--sql", "SELECT 1")[0] == 2


class TestSchema:
    def test_all_columns_are_told(self, call: Call) -> None:
        status, out, _ = call("fleet", "--schema")
        assert status == 0
        for table in TABLES.values():
            for column in table.columns:
                assert f"  {column.name} " in out
        assert json.loads(call("fleet", "--schema", "--json")[1])["views"][0]["name"] == "latest"

    def test_it_is_true(self, scans: Path, call: Call) -> None:
        schema = json.loads(call("fleet", "--schema", "--json")[1])
        for table in schema["tables"]:
            query = f"DESCRIBE {table['name']}"
            rows = json.loads(call("fleet", scans, "--json", "--sql", query)[1])["rows"]
            told = [[column["name"], column["type"]] for column in table["columns"]]
            assert [row[:2] for row in rows] == told
        for view in schema["views"]:
            rows = json.loads(
                call("fleet", scans, "--json", "--sql", f"DESCRIBE {view['name']}")[1]
            )["rows"]
            if view["name"] != "latest":
                assert [row[0] for row in rows if row[0] not in view["about"]] == []

    def test_the_documentation_has_it(self) -> None:
        assert markdown() in (PROJECT / "docs/fleet.md").read_text(encoding="utf-8")


def test_without_duckdb_one_line_says_so_and_one_how_to_install_it(
    scans: Path, tmp_path: Path, run: Run
) -> None:
    """A module of that name that cannot be found is what an installation without it has."""
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util, sys\n"
        "old = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *more: None if name == 'duckdb' else "
        "old(name, *more)\n"
    )
    done = run("fleet", scans, PYTHONPATH=f"{tmp_path}{os.pathsep}{PROJECT}")
    assert done.returncode == 3
    why, remedy = told(done.stderr)
    assert "duckdb cannot be found" in why
    assert "pip install 'hvoinspect[fleet]'" in remedy
