"""When the next scan begins."""

from __future__ import annotations


class Pace:
    """From start to start `interval` seconds; what takes longer is not made up for.

    Times are of one clock that does not jump, in seconds.
    """

    def __init__(self, interval: float, now: float) -> None:
        self.interval = interval
        self.due = now
        self.paused = False

    def ready(self, now: float) -> bool:
        """Whether a scan is to begin, if none is being made."""
        return not self.paused and now >= self.due

    def began(self, now: float) -> None:
        """Hear that one began, whoever asked for it."""
        self.due = now + self.interval
