"""The table that grows on a terminal while hits are counted."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace

from rich.console import Console
from rich.live import Live
from rich.text import Text

from hvoinspect.hotpath.plan import Plan
from hvoinspect.hotpath.run import Count
from hvoinspect.hotpath.workload import Request
from hvoinspect.report.hotpath import live_view


class LiveTable:
    """Shows a recording on stderr as it grows, and leaves nothing behind."""

    interval = 1.0

    def __init__(self, view: Live) -> None:
        self._view = view
        self._plan: Plan | None = None

    def attached(self, plan: Plan) -> None:
        """Say that counting begins."""
        self._plan = plan
        self.show((), 0.0)

    def show(self, counts: Sequence[Count], seconds: float) -> None:
        """Show the counts so far."""
        assert self._plan is not None  # noqa: S101 - `attached` comes first
        console = self._view.console
        hit = [count for count in counts if count.hits]
        self._view.update(
            live_view(
                self._plan.mode,
                hit,
                seconds,
                console.height,
                ascii_only=console.options.ascii_only,
            ),
            refresh=True,
        )


@contextlib.contextmanager
def live(*, quiet: bool, request: Request) -> Iterator[tuple[LiveTable | None, Request]]:
    """Give what shows a recording, None where there is no terminal, and the request to record.

    What a command prints to the same terminal is passed on above the table, line by line.
    """
    if quiet or sys.stderr is None or not sys.stderr.isatty():
        yield None, request
        return
    plain = os.environ.get("NO_COLOR")
    console = Console(stderr=True, color_system=None if plain else "auto", emoji=False)
    start = Text("attaching ...", style="dim")
    with contextlib.ExitStack() as stack:
        if request.command:
            request = stack.enter_context(_passed_on(request, console))
        view = Live(start, console=console, transient=True, auto_refresh=False)
        stack.enter_context(view)
        yield LiveTable(view), request


@contextlib.contextmanager
def _passed_on(request: Request, console: Console) -> Iterator[Request]:
    """Let what the command would print to the terminal be printed by `console`."""
    reading, writing = os.pipe()

    def copy() -> None:
        with open(reading, "rb") as file:  # noqa: PTH123 - a descriptor
            for line in file:
                console.file.flush()
                console.out(line.decode(errors="replace").rstrip("\r\n"), highlight=False)

    # A daemon: what a command leaves running in the background may keep the pipe open for ever.
    thread = threading.Thread(target=copy, daemon=True)
    stdout = request.stdout
    if stdout is None and sys.stdout is not None and sys.stdout.isatty():
        stdout = writing
    elif stdout is not None:
        stdout = writing  # it was to go to standard error, which is this terminal
    thread.start()
    try:
        yield replace(request, stdout=stdout, stderr=writing)
    finally:
        os.close(writing)
        thread.join(1.0)
