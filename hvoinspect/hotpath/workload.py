"""What runs while hits are counted: a time, a command, or whatever the machine does."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
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

    `process` is its number from the beginning. Raises HvoinspectError if there is no such program.
    """

    def __init__(self, request: Request) -> None:
        self._words = list(request.command)
        self._outputs = ((request.stdout, 1), (request.stderr, 2))
        self.program = shutil.which(self._words[0])
        if self.program is None:
            raise _no_command(self._words[0], "there is no such program")
        self._gate_in, self._gate = os.pipe()
        self._failed, self._failed_in = os.pipe()
        self.status: int | None = None
        with undisturbed():
            self.process = os.fork()
            if self.process == 0:
                self._run()
        os.close(self._gate_in)
        os.close(self._failed_in)
        self._handle = os.pidfd_open(self.process)

    def start(self) -> None:
        """Let it run. Raises HvoinspectError if it cannot be run."""
        os.write(self._gate, b"x")
        os.close(self._gate)
        self._gate = -1
        said = os.read(self._failed, 16)
        if said:
            self.wait(GRACE_SECONDS)
            raise _no_command(self._words[0], os.strerror(int(said)))

    def wait(self, seconds: float) -> bool:
        """Wait for its end, at most so long; return whether it has ended."""
        if self.status is None and select.select([self._handle], [], [], max(seconds, 0.0))[0]:
            _, status = os.waitpid(self.process, 0)
            self.status = os.waitstatus_to_exitcode(status)
        return self.status is not None

    def end(self) -> None:
        """End it if it still runs, and forget it."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self.status is None:
                # A signal would find the one that still waits to be started; a closed gate too.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.process, number)
                self.wait(GRACE_SECONDS)
        for handle in (self._gate, self._failed, self._handle):
            if handle >= 0:
                os.close(handle)
        self._gate = self._failed = self._handle = -1

    def _run(self) -> None:
        """Be the command: the child's side, which never returns."""
        try:
            for number in _STOPS:
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
            os.close(self._gate)
            if os.read(self._gate_in, 1):
                for ours, theirs in self._outputs:
                    if ours is not None:
                        os.dup2(ours, theirs)
                assert self.program is not None  # noqa: S101 - for the type checker
                os.execv(self.program, self._words)  # noqa: S606 - there is to be no shell
        except OSError as error:
            os.write(self._failed_in, str(error.errno).encode())
        finally:
            os._exit(127)


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


def _no_command(name: str, why: str) -> HvoinspectError:
    return HvoinspectError(
        f"{name} cannot be run: {why}", "name a program that is in PATH", ExitStatus.USAGE
    )
