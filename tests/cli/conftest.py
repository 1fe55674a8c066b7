"""A dump to scan from the command line, and ways to run it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from hvoinspect.cli.main import main
from tests.tiny_kernel import TinyKernel

PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def core(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dump of an intact kernel of 128 MiB with one compound page."""
    path = tmp_path_factory.mktemp("dumps") / "vmcore"
    kernel = TinyKernel()
    kernel.compound(512, 9)
    path.write_bytes(kernel.core())
    return path


@pytest.fixture(scope="session")
def damaged_core(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dump with a tail whose compound word names nothing."""
    path = tmp_path_factory.mktemp("dumps") / "vmcore"
    kernel = TinyKernel()
    kernel.compound(512, 9)
    kernel.page(560, info=0x1235)
    path.write_bytes(kernel.core())
    return path


@pytest.fixture(scope="session")
def partial_core(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dump that was cut off among the struct pages."""
    path = tmp_path_factory.mktemp("dumps") / "vmcore"
    path.write_bytes(TinyKernel().core()[: -(3 << 20)])
    return path


Run = Callable[..., "subprocess.CompletedProcess[str]"]
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Call the command line in this process; returns exit status, stdout and stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main([str(argument) for argument in arguments])
        assert isinstance(caught.value.code, int)
        out, err = capsys.readouterr()
        return int(caught.value.code), out, err

    return call


def environment(changes: Mapping[str, str]) -> dict[str, str]:
    """This process's environment, without what would change how things look."""
    shown = ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "TERM", "PYTHONIOENCODING", "PYTHONUNBUFFERED")
    kept = {key: value for key, value in os.environ.items() if key not in shown}
    return {**kept, "PYTHONUTF8": "1", "TERM": "xterm-256color", **changes}


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "hvoinspect", *(str(argument) for argument in arguments)]


@pytest.fixture
def run() -> Run:
    """Run `python -m hvoinspect` in a process of its own, its output in pipes."""

    def run(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(*arguments),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            cwd=PROJECT,
            env=environment(variables),
        )

    return run
