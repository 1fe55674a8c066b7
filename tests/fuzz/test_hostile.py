"""Every parser of hostile input keeps its promises; see `harness.py` for what these are.

`pytest tests/fuzz --fuzz-cases 100000` tries more of each than an ordinary run does, and
`--fuzz-first N` begins with case N, to try others.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.harness import Parser, failures

MODULES = [
    f"{__package__}.{path.stem}" for path in sorted(Path(__file__).parent.glob("hostile_*.py"))
]


def hold(module: str, numbers: range, folder: Path) -> None:
    found = list(failures(module, numbers, folder))
    for failure in found:
        (folder / failure.case).write_bytes(failure.content)
    told = [f"case {failure.case} (kept in {folder}): {failure.why}" for failure in found]
    assert not found, "\n\n".join(told)


@pytest.mark.parametrize("module", MODULES)
def test_what_once_went_wrong(module: str, tmp_path: Path) -> None:
    hold(module, Parser(module).known(), tmp_path)


@pytest.mark.parametrize("module", MODULES)
def test_what_nobody_thought_of(module: str, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    cases = pytestconfig.getoption("--fuzz-cases") or Parser(module).fuzzer.cases
    first = pytestconfig.getoption("--fuzz-first")
    hold(module, range(first, first + cases), tmp_path)
