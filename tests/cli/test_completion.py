"""Completion in shells: the scripts are sound, and each shell gets the words from its own."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import PROJECT, Call, command, environment
from tests.tmux import Terminal, needs_tmux

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


every_word = pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("hvoinspect memd", {"memdesc"}),
        ("hvoinspect scan --exh", {"--exhaustive"}),
        ("hvoinspect scan --demo ", {"before", "after"}),
        ("hvoinspect completion f", {"fish"}),
    ],
)


def needs(shell: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(shell) is None, reason=f"{shell} is not installed")


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A PATH where hvoinspect is found."""
    program = tmp_path / "bin" / "hvoinspect"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {" ".join(command())} "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    return f"{program.parent}:{environment({})['PATH']}"


def run(shell: str, script: str, path: str) -> set[str]:
    done = subprocess.run(
        [shell, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        cwd=PROJECT,
        env=environment({"PATH": path}),
    )
    assert (done.returncode, done.stderr) == (0, "")
    return set(done.stdout.splitlines())


@every_word
def test_bash_completes_words(call: Call, path: str, words: str, expected: set[str]) -> None:
    """As it does when Tab is pressed behind `words`."""
    typed = words.split(" ")
    script = f"""
{call("completion", "bash")[1]}
COMP_WORDS=({" ".join(typed)} {"''" if not typed[-1] else ""}) COMP_CWORD={len(typed) - 1}
_hvoinspect_completion hvoinspect
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    assert run("bash", script, path) == expected


@needs("fish")
@every_word
def test_fish_completes_words(call: Call, path: str, words: str, expected: set[str]) -> None:
    """fish tells itself what it would offer, each word with what explains it."""
    script = f"{call('completion', 'fish')[1]}\ncomplete --do-complete '{words}'"
    offered = {line.split("\t")[0] for line in run("fish", script, path)}
    assert offered == expected


@needs("zsh")
@needs_tmux
def test_zsh_completes_words(path: str, tmp_path: Path) -> None:
    """In a terminal: zsh completes nowhere else."""
    with Terminal(tmp_path, PATH=path) as terminal:
        terminal.type("zsh -f")
        terminal.type("autoload -U compinit && compinit -u -D; PS1='ready> '")
        terminal.wait("\nready>")
        terminal.type("source <(hvoinspect completion zsh); print so''urced")
        terminal.wait("\nsourced")
        terminal.press("C-l")
        terminal.wait(lambda screen: screen.strip() == "ready>")
        terminal.write("hvoinspect memd\t--mod\tsl\t")
        terminal.wait("hvoinspect memdesc --model slab-table")


def test_another_shell_is_a_usage_error(call: Call) -> None:
    status, out, err = call("completion", "csh")
    assert (status, out) == (2, "")
    assert "bash" in err
