"""Runs in the guest as its first process: starts what comes over its second serial port.

A request is one line of JSON, `{"id": N, "op": ...}`; the rest lies in SESSION/N/request.json.
A command's output goes, through a pipe each, to the files `stdout` and `stderr` there, which the
host reads as they grow: files carry any amount of data, a serial port would not. The answer is one
line: `{"id": N, "status": S}`, where S is a negative number for a signal, as in subprocess.

It uses only what the standard library loads fast, because emulation is slow.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import socket
import struct
import sys
import termios
import time
import tty
from typing import Any

CONTROL = "/dev/ttyS1"
TERMINAL = "/dev/ttyS2"
# A process in the background may keep a pipe open; so long is waited for its output.
GRACE_SECONDS = 0.5
_IFF_UP = 1


class Job:
    """One command: its process, and the pipes that are not at their end yet, each with its file."""

    def __init__(self, number: int, folder: str, request: dict[str, Any]) -> None:
        self.number = number
        self.pipes: dict[int, int] = {}
        self.status: int | None = None
        self.ended = 0.0
        writers = []
        for name in () if request.get("terminal") else ("stdout", "stderr"):
            reader, writer = os.pipe()
            out = os.open(f"{folder}/{name}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            self.pipes[reader] = out
            writers.append(writer)
        self.process = os.fork()
        if self.process == 0:
            _become(request, folder, writers)
        for writer in writers:
            os.close(writer)

    def pump(self, reader: int) -> None:
        """Move what is in a pipe to its file; forget the pipe at its end."""
        data = os.read(reader, 1 << 16)
        if data:
            while data:
                data = data[os.write(self.pipes[reader], data) :]
        else:
            self.close(reader)

    def close(self, reader: int) -> None:
        """Forget a pipe."""
        os.close(self.pipes.pop(reader))
        os.close(reader)

    def finished(self) -> bool:
        """Tell whether the process is gone and its output is complete, as far as one waits."""
        if self.status is None:
            return False
        return not self.pipes or time.monotonic() > self.ended + GRACE_SECONDS


def _become(request: dict[str, Any], folder: str, writers: list[int]) -> None:
    """Turn the forked process into the command; never returns."""
    status = 127
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGPIPE, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        os.setsid()
        if request.get("terminal"):
            handle = _terminal(request["terminal"])
            descriptors = [handle, handle, handle]
        else:
            source = f"{folder}/stdin" if os.path.exists(f"{folder}/stdin") else "/dev/null"  # noqa: PTH110
            descriptors = [os.open(source, os.O_RDONLY), *writers]
        for target, descriptor in enumerate(descriptors):
            os.dup2(descriptor, target)
        os.closerange(3, 1024)
        if "read" in request:
            with open(request["read"], "rb", buffering=0) as file:  # noqa: PTH123
                while data := file.read(1 << 16):
                    os.write(1, data)
            os._exit(0)
        _set_user(request.get("user"))
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["env"])
        os.execvp(request["argv"][0], request["argv"])  # noqa: S606
    except BaseException as error:  # noqa: BLE001 - a forked process has nobody to raise it to
        reason = error.strerror if isinstance(error, OSError) else repr(error)
        what = getattr(error, "filename", None) or request.get("argv", [""])[0]
        os.write(2, f"lab: {what}: {reason}\n".encode())
        status = 126 if isinstance(error, PermissionError) else 127
    os._exit(status)


def _set_user(name: str | None) -> None:
    if name is None:
        return
    import pwd  # noqa: PLC0415 - few commands need it

    entry = pwd.getpwnam(name) if not name.isdigit() else pwd.getpwuid(int(name))
    os.initgroups(entry.pw_name, entry.pw_gid)
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)


def _terminal(size: list[int]) -> int:
    handle = os.open(TERMINAL, os.O_RDWR)
    fcntl.ioctl(handle, termios.TIOCSCTTY, 0)
    fcntl.ioctl(handle, termios.TIOCSWINSZ, struct.pack("4H", *size, 0, 0))
    return handle


class Agent:
    """The loop: takes requests, feeds files, reaps processes, answers."""

    def __init__(self, session: str) -> None:
        self.session = session
        self.jobs: dict[int, Job] = {}
        self.control = os.open(CONTROL, os.O_RDWR | os.O_NOCTTY)
        tty.setraw(self.control)
        self.pending = b""
        self.wake, wakeup = os.pipe()
        for end in (self.wake, wakeup):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wakeup)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def answer(self, **message: Any) -> None:
        """Send one line to the host."""
        data = json.dumps(message).encode() + b"\n"
        while data:
            data = data[os.write(self.control, data) :]

    def run(self) -> None:
        """Serve for ever."""
        self.answer(ready=True)
        while True:
            pipes = {reader: job for job in self.jobs.values() for reader in job.pipes}
            waiting = any(job.status is not None for job in self.jobs.values())
            ready, _, _ = select.select(
                [self.control, self.wake, *pipes], [], [], 0.05 if waiting else None
            )
            for descriptor in ready:
                if descriptor in pipes:
                    pipes[descriptor].pump(descriptor)
            if self.wake in ready:
                os.read(self.wake, 4096)
            self.reap()
            if self.control in ready:
                self.take()
            for job in [job for job in self.jobs.values() if job.finished()]:
                for reader in list(job.pipes):
                    job.close(reader)
                del self.jobs[job.number]
                self.answer(id=job.number, status=job.status)

    def reap(self) -> None:
        """Collect processes that ended, orphans included."""
        while True:
            try:
                process, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if process == 0:
                return
            for job in self.jobs.values():
                if job.process == process:
                    job.status = os.waitstatus_to_exitcode(status)
                    job.ended = time.monotonic()

    def take(self) -> None:
        """Read what the host sent, and act on each whole line."""
        *lines, self.pending = (self.pending + os.read(self.control, 4096)).split(b"\n")
        for line in lines:
            message = json.loads(line)
            number = message["id"]
            if message["op"] == "start":
                folder = f"{self.session}/{number}"
                with open(f"{folder}/request.json", "rb") as file:  # noqa: PTH123
                    request = json.load(file)
                self.jobs[number] = Job(number, folder, request)
            elif message["op"] == "kill" and number in self.jobs:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.jobs[number].process, signal.SIGKILL)
            elif message["op"] == "sync":
                os.sync()
                self.answer(id=number, status=0)


def main() -> None:
    """Bring the loopback interface up and serve; an error here ends the guest with a panic."""
    os.environ["PATH"] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        request = struct.pack("16sh14x", b"lo", _IFF_UP)
        fcntl.ioctl(probe, 0x8914, request)  # SIOCSIFFLAGS
    socket.sethostname("lab")
    Agent(sys.argv[1]).run()


if __name__ == "__main__":
    main()
