"""What holds for all tests."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from hypothesis import settings

from tests.madeup_kernel import compile_kernel

# A busy machine is no failure; what must not take long has a test that says so.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


# A shell starts what runs in the background with SIGINT ignored, and so would be what tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let a run of tests/fuzz be longer, or another one."""
    parser.addoption(
        "--fuzz-cases", type=int, metavar="N", help="cases of hostile input for each parser"
    )
    parser.addoption(
        "--fuzz-first", type=int, default=0, metavar="N", help="the number of the first case"
    )


@pytest.fixture(scope="session")
def vmlinux(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made-up kernel with DWARF."""
    return compile_kernel(tmp_path_factory.mktemp("vmlinux"))
