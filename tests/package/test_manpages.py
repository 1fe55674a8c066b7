"""Manual pages say what `--help` says, and man(1) has nothing to complain of."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from hvoinspect.cli.main import hvoinspect
from tests.cli.conftest import PROJECT
from tests.commands import ALL_COMMANDS as COMMANDS

EPOCH = 1_700_000_000


every_command = pytest.mark.parametrize("path", COMMANDS)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("man")
    made = [sys.executable, "package/manpages.py", str(folder)]
    subprocess.run(made, check=True, cwd=PROJECT, env={"SOURCE_DATE_EPOCH": str(EPOCH)})
    return folder


def page_of(pages: Path, path: str) -> Path:
    return pages / f"{path.replace(' ', '-')}.1"


def words(text: str) -> list[str]:
    """Words as they are, whatever lines they are on; bold is a letter over itself."""
    return re.sub(".\b", "", text).split()


def shown(page: Path) -> str:
    command = ["mandoc", "-T", "utf8", "-O", "width=400", str(page)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def in_order(wanted: list[str], there: list[str]) -> bool:
    rest = " ".join(there)
    return " ".join(wanted) in rest


def test_there_is_one_for_each_command(pages: Path) -> None:
    assert sorted(page.name for page in pages.iterdir()) == sorted(
        f"{path.replace(' ', '-')}.1" for path in COMMANDS
    )


needs_mandoc = pytest.mark.skipif(shutil.which("mandoc") is None, reason="mandoc is not installed")


@needs_mandoc
@every_command
def test_it_is_well_formed(pages: Path, path: str) -> None:
    command = ["mandoc", "-T", "lint", "-W", "warning", str(page_of(pages, path))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@needs_mandoc
@every_command
def test_all_that_help_says_is_there(pages: Path, path: str) -> None:
    command, text = COMMANDS[path], words(shown(page_of(pages, path)))
    for paragraph in f"{command.help}\n\n{command.epilog}".replace("\b", "").split("\n\n"):
        # Titles of sections stand alone.
        said = re.sub(r"^(Examples|Exit status):", "", paragraph.strip())
        assert in_order(said.split(), text), paragraph
    # A command keeps the help option that it is first asked for.
    settings = {**hvoinspect.context_settings, **command.context_settings}
    context = click.Context(command, info_name=path, **settings)
    for option in command.get_params(context):
        if isinstance(option, click.Option):
            _, said = option.get_help_record(context) or ("", "")
            assert in_order(said.split(), text), option.name
            assert all(name in " ".join(text) for name in option.opts)


@needs_mandoc
def test_the_title_has_the_date_that_was_asked_for(pages: Path) -> None:
    assert "2023-11-14" in shown(page_of(pages, "hvoinspect scan"))


class TestHelp:
    @every_command
    def test_it_has_no_control_characters(self, path: str) -> None:
        _, *names = path.split()
        command = [sys.executable, "-m", "hvoinspect", *names, "--help"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=PROJECT)
        assert not re.search(r"[^\n -~]", done.stdout)

    @every_command
    def test_it_has_examples_and_tells_the_exit_status(self, path: str) -> None:
        epilog = COMMANDS[path].epilog or ""
        assert "Examples:" in epilog
        assert "Exit status:" in epilog
