"""Where `watch` shows what it sees: over the whole screen, or as lines."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

import click

from hvoinspect.cli.output import print_text
from hvoinspect.errors import HvoinspectError, printable

if TYPE_CHECKING:
    from hvoinspect.report.watch import Seen
    from hvoinspect.report.watch_screen import Watching


class View(Protocol):
    """Shows what comes of scans, and what goes on between them."""

    def shown(self) -> contextlib.AbstractContextManager[None]:
        """Be there, and leave nothing behind."""

    def seen(self, seen: Seen) -> None:
        """Hear of a scan."""

    def failed(self, error: HvoinspectError) -> None:
        """Hear of a scan that failed."""

    def draw(self, watching: Watching) -> None:
        """Show what goes on."""


class Lines:
    """One line a scan, for people or, as JSON, for programs; then failures go to stderr."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Be there."""
        yield

    def seen(self, seen: Seen) -> None:
        """Print a scan."""
        from hvoinspect.report.watch import line_of  # noqa: PLC0415

        print_text(f"{json.dumps(seen.now) if self._as_json else printable(line_of(seen))}\n")

    def failed(self, error: HvoinspectError) -> None:
        """Print why a scan failed."""
        line = f"scan failed: {error.why}; {error.remedy}"
        if self._as_json:
            with contextlib.suppress(OSError):
                click.echo(f"hvoinspect: {line}", err=True)
        else:
            print_text(f"{_now()} {line}\n")

    def draw(self, watching: Watching) -> None:
        """Show nothing between scans."""


class Screen:
    """The alternate screen of a terminal."""

    def __init__(self) -> None:
        from rich.console import Console  # noqa: PLC0415
        from rich.live import Live  # noqa: PLC0415

        plain = os.environ.get("NO_COLOR")
        # What a shell exported of the window's size does not change with the window.
        environ = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
        console = Console(file=sys.stdout, color_system=None if plain else "auto", _environ=environ)
        self._live = Live(
            console=console,
            screen=True,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Take the screen, and give it back as it was."""
        try:
            self._live.start()
            yield
        finally:
            with contextlib.suppress(OSError):  # the terminal may be gone
                self._live.stop()

    def seen(self, seen: Seen) -> None:
        """Wait for `draw`."""

    def failed(self, error: HvoinspectError) -> None:
        """Wait for `draw`."""

    def draw(self, watching: Watching) -> None:
        """Draw all of it."""
        from hvoinspect.report.watch_screen import WatchScreen  # noqa: PLC0415

        self._live.update(WatchScreen(watching), refresh=True)


def _now() -> str:
    import datetime as dt  # noqa: PLC0415

    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
