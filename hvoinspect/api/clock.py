"""When something was asked, and how long it took."""

from __future__ import annotations

import datetime as dt
import time

from hvoinspect.report.result import Taken


class Clock:
    """Starts with what is asked."""

    def __init__(self) -> None:
        self._at = dt.datetime.now(dt.UTC)
        self._start = time.monotonic()

    def taken(self) -> Taken:
        """Return when it started and how long ago that is."""
        return Taken(self._at, time.monotonic() - self._start)
