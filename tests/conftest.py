"""What holds for all tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

from tests.madeup_kernel import compile_kernel

# A busy machine is no failure; what must not take long has a test that says so.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


@pytest.fixture(scope="session")
def vmlinux(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made-up kernel with DWARF."""
    return compile_kernel(tmp_path_factory.mktemp("vmlinux"))
