"""What `watch` waits for: keys, signals, the end of a scan, and time."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import termios
import tty
from collections.abc import Callable, Iterator
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""The signals that end it, as `q` does."""

_SEQUENCE = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|O.|[^\[O])?", re.DOTALL)

Handler = Callable[[int, FrameType | None], None]


class Waiting:
    """Waits without missing anything; made and used in the main thread.

    `ended`: a signal asked to end. `suspended`: Ctrl-Z asked to stop for a while.
    """

    def __init__(self, keyboard: int | None) -> None:
        self.ended = self.suspended = False
        self._hears = False
        self._keyboard = keyboard
        self._reading, self._writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def wake(self) -> None:
        """Let `keys` return; for other threads."""
        if self._hears:
            with contextlib.suppress(BlockingIOError):  # full: it wakes all the same
                os.write(self._writing, b"\0")

    def keys(self, seconds: float) -> str:
        """Wait for up to `seconds` for whatever comes; return the keys that were pressed."""
        waited = [self._reading] if self._keyboard is None else [self._reading, self._keyboard]
        ready, _, _ = select.select(waited, [], [], max(seconds, 0.0))
        if self._reading in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self._reading, 4096)
        if self._keyboard is None or self._keyboard not in ready:
            return ""
        typed = b""
        with contextlib.suppress(OSError):
            typed = os.read(self._keyboard, 1024)
        if not typed:  # the terminal is gone
            self.ended = True
        return keys_in(typed)

    @contextlib.contextmanager
    def hearing(self) -> Iterator[None]:
        """Hear signals, instead of ending or stopping right away."""
        handlers: dict[signal.Signals, Handler] = dict.fromkeys(ENDING, self._end)
        handlers[signal.SIGWINCH] = self._nothing
        if self._keyboard is not None:
            handlers[signal.SIGTSTP] = self._suspend
        before = {number: signal.signal(number, does) for number, does in handlers.items()}
        descriptor = signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        self._hears = True
        try:
            yield
        finally:
            self._hears = False
            signal.set_wakeup_fd(descriptor)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(self._reading)
            os.close(self._writing)

    def _end(self, number: int, _frame: FrameType | None) -> None:
        if self.ended and number == signal.SIGINT:  # once more: it takes too long
            raise KeyboardInterrupt
        self.ended = True

    def _suspend(self, _number: int, _frame: FrameType | None) -> None:
        self.suspended = True

    def _nothing(self, _number: int, _frame: FrameType | None) -> None:
        """Only wake: the window has another size."""


def keys_in(typed: bytes) -> str:
    """Return the keys that were typed, without arrows and the like, which are none of this.

    Those are sequences that begin with an escape (ECMA-48, "Control sequences"). On a busy machine
    other keys come with them.
    """
    return _SEQUENCE.sub(b"", typed).decode("ascii", "replace")


@contextlib.contextmanager
def each_key(keyboard: int | None) -> Iterator[None]:
    """Let a terminal give each key at once and show none, and be afterwards as it was."""
    if keyboard is None:
        yield
        return
    before = termios.tcgetattr(keyboard)
    try:
        tty.setcbreak(keyboard, termios.TCSANOW)
        yield
    finally:
        # It may be gone by now, as after SIGHUP.
        with contextlib.suppress(termios.error):
            termios.tcsetattr(keyboard, termios.TCSADRAIN, before)
