"""Completion in shells: the scripts are sound, and bash gets the words from one."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import PROJECT, Call, command, environment

SHELLS = ["bash", "zsh", "fish"]


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_is_sound(call: Call, shell: str, tmp_path: Path) -> None:
    status, script, err = call("completion", shell)
    assert (status, err) == (0, "")
    assert "_HVOINSPECT_COMPLETE" in script
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    path = tmp_path / "script"
    path.write_text(script, encoding="utf-8")
    done = subprocess.run([shell, "-n", path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("hvoinspect memd", {"memdesc"}),
        ("hvoinspect scan --exh", {"--exhaustive"}),
        ("hvoinspect scan --demo ", {"before", "after"}),
        ("hvoinspect completion f", {"fish"}),
    ],
)
def test_bash_completes_words(call: Call, tmp_path: Path, words: str, expected: set[str]) -> None:
    """As it does when Tab is pressed behind `words`."""
    program = tmp_path / "hvoinspect"
    program.write_text(f'#!/bin/sh\nexec {" ".join(command())} "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    typed = words.split(" ")
    script = f"""
{call("completion", "bash")[1]}
COMP_WORDS=({" ".join(typed)} {"''" if not typed[-1] else ""}) COMP_CWORD={len(typed) - 1}
_hvoinspect_completion hvoinspect
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    path = environment({})["PATH"]
    done = subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        cwd=PROJECT,
        env=environment({"PATH": f"{tmp_path}:{path}"}),
    )
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) == expected


def test_another_shell_is_a_usage_error(call: Call) -> None:
    status, out, err = call("completion", "csh")
    assert (status, out) == (2, "")
    assert "bash" in err
