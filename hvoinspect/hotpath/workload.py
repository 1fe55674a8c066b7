"""What runs while hits are counted: a time, a command, or whatever the machine does."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType

from hvoinspect.errors import ExitStatus, HvoinspectError

GRACE_SECONDS = 5.0
"""So long a command may take to end when it is told to, before it is killed."""
_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Request:
    """What is to run: `command` for as long as it takes, or anything for `seconds`.

    The shorter of both, and without either until it is stopped. `command_only` leaves out all but
    the command's own process. `units` of work, each a `unit`, are what it is said to do. `stdout`
    and `stderr` are file descriptors for the command, None for those of this process.
    """

    command: tuple[str, ...] = ()
    seconds: float | None = None
    command_only: bool = False
    units: float | None = None
    unit: str | None = None
    stdout: int | None = None
    stderr: int | None = None


class Stopped(KeyboardInterrupt):
    """A signal asked to stop: Ctrl-C, SIGTERM or SIGHUP."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.name = signal.Signals(number).name


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Raise `Stopped` wherever the program is when a signal asks it to stop.

    So what is open is closed on the way out, as with any exception.
    """

    def stop(number: int, _frame: FrameType | None) -> None:
        raise Stopped(number)

    before = {number: signal.signal(number, stop) for number in _STOPS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Let signals that ask to stop wait: for what must be done to its end."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Command:
    """A program that is made ready first, and started when all is set up to count.

    A shell waits in its place, stopped, and then becomes it: so `process` is its number from the
    beginning, and what is let go of at the start is a shell's memory, not this process's.
    Raises HvoinspectError if there is no such program.
    """

    def __init__(self, request: Request) -> None:
        name, *arguments = request.command
        program = shutil.which(name)
        if program is None:
            raise HvoinspectError(
                f"{name} cannot be run: there is no such program",
                "name a program that is in PATH",
                ExitStatus.USAGE,
            )
        self._shell = subprocess.Popen(  # noqa: S603 - it is the user's own
            ["/bin/sh", "-c", 'kill -STOP $$; exec "$0" "$@"', program, *arguments],
            stdout=request.stdout,
            stderr=request.stderr,
        )
        self.process = self._shell.pid
        self.status: int | None = None
        self._handle = os.pidfd_open(self.process)
        os.waitid(os.P_PID, self.process, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def start(self) -> None:
        """Let it run."""
        os.kill(self.process, signal.SIGCONT)

    def wait(self, seconds: float) -> bool:
        """Wait for its end, at most so long; return whether it has ended."""
        if self.status is None and select.select([self._handle], [], [], max(seconds, 0.0))[0]:
            self.status = self._shell.wait()
        return self.status is not None

    def end(self) -> None:
        """End it if it still runs, and forget it. May be called again."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if not self.wait(0):
                os.kill(self.process, number)
                os.kill(self.process, signal.SIGCONT)
                self.wait(GRACE_SECONDS)
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


def wait(
    command: Command | None,
    seconds: float | None,
    interval: float | None,
    tick: Callable[[float], None],
) -> bool:
    """Wait until the command ends or the time is over; call `tick` with the time gone by.

    Without either, it waits until it is stopped. Returns whether the end came of itself: False if
    the command had to be left running because its time was over.
    Raises Stopped.
    """
    begun = time.monotonic()
    while True:
        gone = time.monotonic() - begun
        left = float("inf") if seconds is None else seconds - gone
        if left <= 0:
            return command is None
        step = min(left, 3600.0 if interval is None else interval)
        if command is None:
            time.sleep(step)
        elif command.wait(step):
            return True
        if interval is not None:
            tick(time.monotonic() - begun)
