"""A real terminal for what draws on one: tmux, whose keys and screen tests have to themselves."""

from __future__ import annotations

import secrets
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

PATIENCE_SECONDS = 60.0
"""How long a machine may take for what must come, however slow it is."""

needs_tmux = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")


class Terminal:
    """A shell in a terminal of its own, of `columns` by `rows`."""

    def __init__(self, folder: Path, columns: int = 80, rows: int = 24, **environ: str) -> None:
        self._folder = folder
        self._server = f"test-{secrets.token_hex(8)}"
        variables = {"PYTHONUTF8": "1", "LC_ALL": "C.UTF-8", "PS1": "$ "} | environ
        shell = ["env", "-u", "NO_COLOR", *(f"{k}={v}" for k, v in variables.items()), "sh"]
        size = ["-x", str(columns), "-y", str(rows)]
        self._tmux("-f", "/dev/null", "new-session", "-d", *size, "-c", str(folder), *shell)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self._tmux("kill-server")

    def write(self, text: str) -> None:
        """Type text, whose tabs and so on are keys."""
        self._tmux("send-keys", "-l", text)

    def type(self, text: str) -> None:
        """Type a line."""
        self.write(text)
        self.press("Enter")

    def run(self, arguments: Sequence[object], then: str = "") -> None:
        """Type a command, and what the shell is to do after it."""
        self.type("clear; " + shlex.join(map(str, arguments)) + then)

    def press(self, *keys: str) -> None:
        """Press keys, by tmux's names of them: "q", "Space", "C-c"."""
        self._tmux("send-keys", *keys)

    def resize(self, columns: int, rows: int) -> None:
        self._tmux("resize-window", "-x", str(columns), "-y", str(rows))

    def screen(self) -> str:
        """All that is seen, without the spaces at the ends of lines."""
        return self._tmux("capture-pane", "-p")

    def is_alternate(self) -> bool:
        """Whether a program has taken the screen."""
        return self._tmux("display-message", "-p", "#{alternate_on}").strip() == "1"

    def child(self) -> int:
        """The process id of what the shell runs; it runs one program."""
        shell = self._tmux("display-message", "-p", "#{pane_pid}").strip()
        found = Path(f"/proc/{shell}/task/{shell}/children").read_text(encoding="ascii").split()
        assert len(found) == 1
        return int(found[0])

    def wait(self, what: str | Callable[[str], bool]) -> str:
        """Wait until some text is seen, or until what is seen is as it should; return all of it."""
        as_it_should = what if callable(what) else lambda screen: what in screen
        end = time.monotonic() + PATIENCE_SECONDS
        while not as_it_should(screen := self.screen()):
            assert time.monotonic() < end, f"waited for {what}, and saw:\n{screen}"
            time.sleep(0.05)
        return screen

    def _tmux(self, *arguments: str) -> str:
        command = ["tmux", "-u", "-L", self._server, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return done.stdout
