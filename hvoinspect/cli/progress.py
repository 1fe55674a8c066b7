"""Progress on stderr: only on a terminal, and only for work that takes over a second."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator

PATIENCE_SECONDS = 1.0


@contextlib.contextmanager
def progress_bar(what: str, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Give a function to call with how much of how much is done.

    The bar appears once a second has gone by, and leaves nothing behind.
    """
    # Not what rich calls a terminal: FORCE_COLOR makes one of a pipe.
    if quiet or sys.stderr is None or not sys.stderr.isatty():
        yield lambda _done, _total: None
        return

    from rich.console import Console  # noqa: PLC0415
    from rich.progress import Progress  # noqa: PLC0415

    plain = os.environ.get("NO_COLOR")
    console = Console(stderr=True, color_system=None if plain else "auto", emoji=False)
    progress = Progress(console=console, transient=True)
    task = progress.add_task(what, total=None)
    started = time.monotonic()

    def show(done: int, total: int) -> None:
        if time.monotonic() - started > PATIENCE_SECONDS:
            progress.start()
        progress.update(task, completed=done, total=total)

    try:
        yield show
    finally:
        if progress.live.is_started:  # stopping what was not started prints an empty line
            progress.stop()
