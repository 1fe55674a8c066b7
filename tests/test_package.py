"""The package from Python: its documented example runs, and returns what the commands print."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import hvoinspect
from hvoinspect import HvoinspectError, Target
from tests.cli.conftest import PROJECT, Call, call, core

__all__ = ["call", "core"]  # fixtures

ANEW = ("taken_at", "elapsed_seconds")


def without(result: object) -> dict[str, object]:
    """A result without what is of its moment."""
    assert isinstance(result, dict)
    return {name: value for name, value in result.items() if name not in ANEW}


def test_the_documented_example_runs() -> None:
    text = (PROJECT / "docs/api.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PROJECT
    )
    lines = done.stdout.splitlines()
    assert lines[:2] == ["2097152 64 64", "1073741824 1 1"]
    assert lines[3] == "tail 262144"
    assert "no-such-file" in lines[4]


@pytest.mark.parametrize(
    ("function", "arguments"), [("scan", ()), ("memdesc", ()), ("page", ("pfn:513",))]
)
def test_a_function_returns_what_its_command_prints(
    call: Call, core: Path, function: str, arguments: tuple[str, ...]
) -> None:
    printed = json.loads(call(function, *arguments, "-c", core, "--json")[1])
    returned = getattr(hvoinspect, function)(*arguments, Target(core=core))
    assert without(returned) == without(printed)


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(HvoinspectError, match="no-such-rule"):
        hvoinspect.scan(Target(demo="after"), ignore=["no-such-rule"])


def test_importing_it_imports_nothing_large() -> None:
    code = "import sys, hvoinspect; print({'numpy', 'drgn', 'rich', 'click'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
