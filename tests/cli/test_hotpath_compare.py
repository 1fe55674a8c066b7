"""`hvoinspect hotpath compare` from the command line: its files, its forms, its exit statuses."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from hvoinspect.cli.hotpath.compare import compare
from hvoinspect.cli.main import hvoinspect as group
from tests.cli.conftest import Call, Run
from tests.cli.test_main import told
from tests.hotpath.runs import EXAMPLES

BEFORE, AFTER = EXAMPLES / "before", EXAMPLES / "after"
COMMAND = ("hotpath", "compare")


def runs(call: Call, *arguments: object) -> tuple[int, int]:
    """How many runs of each side were compared."""
    status, out, err = call(*COMMAND, *arguments, "--json")
    assert (status, err) == (0, "")
    result = json.loads(out)
    return result["before"]["runs"], result["after"]["runs"]


class TestFiles:
    def test_of_folders_all_runs(self, call: Call) -> None:
        assert runs(call, BEFORE, AFTER) == (3, 3)

    def test_single_files_and_further_ones(self, call: Call) -> None:
        one, more = [BEFORE / "1.json", AFTER / "1.json"], ["--before", BEFORE / "2.json"]
        assert runs(call, *one) == (1, 1)
        assert runs(call, *one, *more, "--before", BEFORE / "3.json") == (3, 1)
        assert runs(call, *one, *more, "--after", AFTER / "2.json") == (2, 2)

    def test_a_side_may_be_compared_with_itself(self, call: Call) -> None:
        status, out, err = call(*COMMAND, BEFORE, BEFORE)
        assert (status, err) == (0, "")
        assert "none is hit significantly more or less often" in " ".join(out.split())

    def test_one_run_twice_is_no_two_runs(self, call: Call, tmp_path: Path) -> None:
        link = tmp_path / "again.json"
        link.symlink_to(BEFORE / "1.json")
        for again in (link, BEFORE / "1.json"):
            status, out, err = call(*COMMAND, BEFORE, AFTER, "--before", again)
            assert (status, out) == (2, "")
            assert told(err) == (
                f"{again} is given twice for the side before",
                "give each run once",
            )

    @pytest.mark.parametrize(
        ("content", "why"),
        [
            (None, "cannot be read: No such file or directory"),
            ("", "is no JSON, or damaged"),
            (
                '{"schema": "hvoinspect.scan/1"}',
                "holds hvoinspect.scan/1, not hvoinspect.hotpath/1",
            ),
            ('{"schema": "hvoinspect.hotpath/1"}', '"kernel" is missing'),
        ],
    )
    def test_what_is_no_run(
        self, call: Call, tmp_path: Path, content: str | None, why: str
    ) -> None:
        file = tmp_path / "run.json"
        if content is not None:
            file.write_text(content)
        for arguments in ((file, AFTER), (BEFORE, file), (BEFORE, AFTER, "--after", file)):
            status, out, err = call(*COMMAND, *arguments)
            assert (status, out) == (3, "")
            assert why in told(err)[0]
            assert str(file) in told(err)[0]

    def test_a_folder_without_runs(self, call: Call, tmp_path: Path) -> None:
        status, _, err = call(*COMMAND, tmp_path, AFTER)
        assert (status, told(err)[0]) == (3, f"no run is in the folder {tmp_path}")

    def test_a_link_to_itself(self, call: Call, tmp_path: Path) -> None:
        (tmp_path / "loop").symlink_to("loop")
        assert call(*COMMAND, tmp_path / "loop", AFTER)[0] == 3

    def test_runs_that_do_not_compare(self, call: Call, tmp_path: Path) -> None:
        other = tmp_path / "run.json"
        other.write_text((AFTER / "1.json").read_text().replace('"sites",', '"sample",'))
        status, _, err = call(*COMMAND, BEFORE, other)
        assert (status, told(err)[0]) == (
            2,
            "the runs count different things: their modes are sample and sites",
        )


class TestForms:
    def test_a_page_in_a_pipe(self, run: Run) -> None:
        done = run(*COMMAND, BEFORE, AFTER)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("Linux 7.0.9 (pointer tails, 3 runs) -> 7.1.4")
        assert "\x1b" not in done.stdout

    def test_markdown(self, call: Call) -> None:
        status, out, err = call(*COMMAND, BEFORE, AFTER, "--markdown")
        assert (status, err) == (0, "")
        assert "\n| `_compound_head` | `free_pages_and_swap_cache` | " in out

    def test_per_second_if_asked_for(self, call: Call) -> None:
        assert "hits per page" in call(*COMMAND, BEFORE, AFTER)[1]
        assert "hits per second" in call(*COMMAND, BEFORE, AFTER, "--per", "second")[1]

    def test_per_unit_where_units_are_not_known(self, call: Call, tmp_path: Path) -> None:
        other = tmp_path / "run.json"
        other.write_text((AFTER / "1.json").read_text().replace('"units"', '"other"'))
        status, _, err = call(*COMMAND, BEFORE, other, "--per", "unit")
        assert (status, told(err)[0][:40]) == (2, "not all runs know how many units of work")
        assert "hits per second" in call(*COMMAND, BEFORE, other)[1]

    def test_all(self, call: Call) -> None:
        assert "isolate_migratepages_block" not in call(*COMMAND, BEFORE, AFTER)[1]
        assert "isolate_migratepages_block" in call(*COMMAND, BEFORE, AFTER, "--all")[1]

    @pytest.mark.parametrize(("form", "start"), [((), "{"), (("--markdown",), "Linux 7.0.9")])
    def test_into_a_file(
        self, call: Call, tmp_path: Path, form: tuple[str, ...], start: str
    ) -> None:
        file = tmp_path / "out"
        assert call(*COMMAND, BEFORE, AFTER, *form, "-o", file) == (0, "", "")
        assert file.read_text().startswith(start)
        assert call(*COMMAND, BEFORE, AFTER, *form, "-o", file)[0] == 2
        assert call(*COMMAND, BEFORE, AFTER, *form, "-f", "-o", file)[0] == 0

    def test_quiet(self, call: Call) -> None:
        assert call(*COMMAND, BEFORE, AFTER, "-q") == (0, "", "")

    def test_two_forms_at_once(self, call: Call) -> None:
        status, _, err = call(*COMMAND, BEFORE, AFTER, "--json", "--markdown")
        assert status == 2
        assert told(err)[0].startswith("--json and --markdown exclude each other")


class TestHelp:
    def test_has_examples_and_exit_statuses(self) -> None:
        result = CliRunner().invoke(group, [*COMMAND, "--help"], prog_name="hvoinspect")
        assert result.exit_code == 0
        assert "\n  Examples:\n    hvoinspect hotpath compare" in result.output
        assert "Exit status: 0 compared" in result.output
        assert all(len(line) <= 80 for line in result.output.splitlines())

    def test_every_option_is_explained(self) -> None:
        for parameter in compare.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, parameter.name
            else:
                assert parameter.make_metavar(click.Context(compare)) in (compare.epilog or "")
