"""`hvoinspect hotpath sites` on a made-up kernel: what it prints, writes and exits with."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from hvoinspect.errors import ExitStatus
from hvoinspect.hotpath.sites import sites_of
from hvoinspect.hotpath.sitesfile import Sites, sites_json
from tests.cli.conftest import Call, Run
from tests.madeup_kernel import EXPECTED, compile_kernel


@pytest.fixture(scope="module")
def known(vmlinux: Path) -> Sites:
    return sites_of(vmlinux)


@pytest.fixture
def file(known: Sites, tmp_path: Path) -> Path:
    path = tmp_path / "sites.json"
    path.write_text(sites_json(known))
    return path


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_the_tables_add_up_what_the_source_has(vmlinux: Path, call: Call) -> None:
    status, out, err = call("hotpath", "sites", "--vmlinux", vmlinux)
    assert (status, err) == (0, "")
    assert "14 copies of 4 helpers in 10 functions." in out
    table = {row[0]: row[1:4] for row in rows(out) if len(row) >= 4}
    assert table["_compound_head"] == ["10", "8", "3"]  # copies, functions, in loops
    assert table["try_get_page"][:3] == ["2", "2", "0"]
    assert table["referenced"][:2] == ["3", "0"]  # copies, in loops
    assert table["looped"][:2] == ["2", "1"]
    assert "4 further functions: see --all." in out


def test_all_shows_all_functions(vmlinux: Path, call: Call) -> None:
    _, out, _ = call("hotpath", "sites", "--vmlinux", vmlinux, "--all")
    assert {function for _, function in EXPECTED} <= {row[0] for row in rows(out) if row}
    assert "further" not in out


def test_a_file_says_the_same_without_dwarf(vmlinux: Path, tmp_path: Path, call: Call) -> None:
    file = tmp_path / "sites.json"
    assert call("hotpath", "sites", "--vmlinux", vmlinux, "-o", file) == (0, "", "")
    assert call("hotpath", "sites", "--sites", file) == call(
        "hotpath", "sites", "--vmlinux", vmlinux
    )
    _, printed, _ = call("hotpath", "sites", "--sites", file, "--json")
    assert printed == file.read_text()
    assert json.loads(printed)["schema"] == "hvoinspect.sites/1"
    status, _, err = call("hotpath", "sites", "--vmlinux", vmlinux, "-o", file)
    assert status == ExitStatus.USAGE
    assert "exists already" in err


@pytest.mark.parametrize("compared", [False, True])
@pytest.mark.parametrize("columns", [40, 60, 75, 76, 80, 120])
def test_it_fits_any_terminal(file: Path, run: Run, columns: int, compared: bool) -> None:
    arguments = ["--compare", file, file] if compared else ["--sites", file]
    done = run("hotpath", "sites", *arguments, COLUMNS=str(columns), NO_COLOR="1")
    assert done.returncode == 0
    assert max(map(len, done.stdout.splitlines())) <= columns
    assert "\x1b" not in done.stdout
    assert "page_ref_add_unless" in done.stdout


def test_names_of_a_file_cannot_steer_a_terminal(known: Sites, tmp_path: Path, run: Run) -> None:
    evil = "\x1b[2Jevil[bold]é"
    copies = [replace(copy, helper=evil, function=evil) for copy in known.copies]
    path = tmp_path / "evil.json"
    path.write_text(sites_json(replace(known, release=evil, copies=tuple(copies))))
    for arguments in (["--sites", path], ["--compare", path, path]):
        for columns in ("60", "80"):
            done = run(
                *("hotpath", "sites", *arguments),
                COLUMNS=columns,
                PYTHONUTF8="0",
                PYTHONIOENCODING="ascii",
            )
            assert done.returncode == 0, done.stderr
            assert "\x1b" not in done.stdout
            assert done.stdout.count(r"\x1b[2Jevil[bold]\xe9") >= 2


class TestCompare:
    @pytest.fixture
    def after(self, known: Sites, tmp_path: Path) -> Path:
        """A kernel of 7.1: a helper was renamed, one is gone, functions came and went."""
        names = {"page_ref_add_unless": "page_ref_add_unless_zero"}
        copies = [
            replace(
                copy,
                helper=names.get(copy.helper, copy.helper),
                function={"twice": "thrice"}.get(copy.function, copy.function),
            )
            for copy in known.copies
            if copy.helper != "try_get_page"
        ]
        path = tmp_path / "after.json"
        path.write_text(sites_json(replace(known, release="7.1", copies=tuple(copies))))
        return path

    def test_helpers_are_side_by_side(self, vmlinux: Path, after: Path, call: Call) -> None:
        status, out, _ = call("hotpath", "sites", "--compare", vmlinux, after)
        assert status == 0
        assert "6.0.0-made-up (before) -> 7.1 (after)" in out
        text = " ".join(out.split())
        assert "in 7 functions of both kernels, in 3 of the first only and in 1 of" in text
        assert "page_ref_add_unless_zero is page_ref_add_unless in the first kernel." in text
        table = rows(out)
        first = next(at for at, row in enumerate(table) if row[:2] == ["try_get_page", "before"])
        assert table[first][2:4] == ["2", "2"]
        assert table[first + 1] == ["after", *"------"]

    def test_json_has_all_of_it(self, file: Path, after: Path, known: Sites, call: Call) -> None:
        status, out, _ = call("hotpath", "sites", "--compare", file, after, "--json")
        assert status == 0
        found = json.loads(out)
        assert found["schema"] == "hvoinspect.sites-compare/1"
        assert found["before"] == {
            "release": "6.0.0-made-up",
            "build_id": known.build_id,
            "copies": 14,
        }
        assert found["functions"]["before_only"] == ["tried", "try_get_page", "twice"]
        assert found["functions"]["after_only"] == ["thrice"]
        assert "looped" in found["functions"]["both"]
        helpers = {row["helper"]: row for row in found["helpers"]}
        assert next(iter(helpers)) == "_compound_head"
        renamed = helpers["page_ref_add_unless_zero"]
        assert (renamed["only"], renamed["before"]["helper"]) == (None, "page_ref_add_unless")
        assert (helpers["try_get_page"]["only"], helpers["try_get_page"]["after"]) == (
            "before",
            None,
        )
        ten = [copy for copy in known.copies if copy.helper == "_compound_head"]
        assert helpers["_compound_head"]["before"] == {
            "helper": "_compound_head",
            "copies": 10,
            "functions": 8,
            "in_loops": 3,
            "bytes": sum(copy.bytes for copy in ten),
            "instructions": sum(copy.instructions for copy in ten),
            "bytes_each": round(sum(copy.bytes for copy in ten) / 10, 2),
            "instructions_each": round(sum(copy.instructions for copy in ten) / 10, 2),
        }


class TestBadInput:
    @pytest.mark.parametrize(
        ("arguments", "status", "why"),
        [
            (["--vmlinux", "none"], 3, "none cannot be read: No such file"),
            (["--vmlinux", "."], 3, ". cannot be read: Is a directory"),
            (["--vmlinux", "/dev/null"], 3, "/dev/null is no ELF file"),
            (["--sites", "none"], 3, "none cannot be read: No such file"),
            (["--sites", "/dev/null"], 3, "/dev/null is no JSON"),
            (["--compare", "none", "none"], 3, "none cannot be read"),
            (["--compare", "none"], 2, "'--compare' requires 2 arguments"),
            (["--compare", "a", "b", "--sites", "c"], 2, "exclude each other"),
            (["--vmlinux", "a", "--sites", "c"], 2, "exclude each other"),
            (["a"], 2, "unexpected extra argument"),
        ],
    )
    def test_one_line_why_and_one_what_to_do(
        self, call: Call, arguments: list[str], status: int, why: str
    ) -> None:
        ended, out, err = call("hotpath", "sites", *arguments)
        assert (ended, out) == (status, "")
        assert why in err
        assert len(err.splitlines()) == 2

    def test_no_dwarf(self, tmp_path: Path, call: Call) -> None:
        status, _, err = call("hotpath", "sites", "--vmlinux", compile_kernel(tmp_path, "-g0"))
        assert status == ExitStatus.CANNOT_INSPECT
        assert "has no debug data (DWARF)" in err
        assert len(err.splitlines()) == 2

    def test_nothing_is_known_of_the_running_kernel(
        self, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("hvoinspect.target.notes.running_build_id", lambda: "ab" * 20)
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
        status, _, err = call("hotpath", "sites")
        assert status == ExitStatus.CANNOT_INSPECT
        assert "no vmlinux with DWARF" in err
        assert "--vmlinux PATH" in err

    def test_a_kept_file_stands_in_for_a_vmlinux(
        self, call: Call, file: Path, known: Sites, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        kept = tmp_path / "hvoinspect/sites" / f"{known.build_id}.json"
        kept.parent.mkdir(parents=True)
        file.rename(kept)
        monkeypatch.setattr("hvoinspect.target.notes.running_build_id", lambda: known.build_id)
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
        status, out, _ = call("hotpath", "sites")
        assert status == 0
        assert "Linux 6.0.0-made-up" in out


def test_help_has_examples(call: Call) -> None:
    status, out, _ = call("hotpath", "sites", "--help")
    assert status == 0
    assert "Examples:" in out
    assert max(map(len, out.splitlines())) <= 80
