"""Boots a kernel under QEMU's software emulation and runs commands in it, many in one boot.

with boot("7.3", hvo=True, append="hugepages=64") as guest:
    print(guest.run("uname -r").stdout)
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.channel import Channel, ChannelClosed
from lab.errors import CommandFailed, CommandTimeout, GuestDied, GuestHung
from lab.kernels import Cache, Kernel
from lab.machine import Config, Folder, check_host, qemu_command, virtiofsd_command
from lab.session import prepare, process, text_of, wait_for_socket

BOOT_SECONDS = 300.0
COMMAND_SECONDS = 300.0
# So long a guest may take to confirm that it killed a command before it counts as hung.
KILL_SECONDS = 30.0
CONSOLE_LINES = 40

ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/run/lab/home",
    "LANG": "C.UTF-8",
    # Most of the files are read-only here.
    "PYTHONDONTWRITEBYTECODE": "1",
}

Command = str | Sequence[str | os.PathLike[str]]


@dataclass(frozen=True)
class Completed:
    """A command that ended: as subprocess has it, `returncode` is negative for a signal."""

    args: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str


class Running:
    """A command that was started; its output so far can be read at any time."""

    def __init__(self, guest: Guest, number: int, args: tuple[str, ...]) -> None:
        self.args = args
        self.returncode: int | None = None
        self._guest = guest
        self._number = number
        self._folder = guest.folder.path / str(number)

    @property
    def output(self) -> Path:
        """The file that gets its standard output; `errors` gets the other."""
        return self._folder / "stdout"

    @property
    def errors(self) -> Path:
        """The file that gets its standard error."""
        return self._folder / "stderr"

    def poll(self, seconds: float = 0.0) -> int | None:
        """Return its status, or None if it still runs after `seconds`.

        Raises GuestDied if the guest ended meanwhile.
        """
        if self.returncode is None:
            answer = self._guest.receive(lambda m: m.get("id") == self._number, seconds)
            self.returncode = None if answer is None else int(answer["status"])
        return self.returncode

    def wait(self, timeout: float = COMMAND_SECONDS) -> Completed:
        """Wait for its end. Raises CommandTimeout after killing it, GuestDied, GuestHung."""
        if self.poll(timeout) is None:
            self.kill()
            stderr = text_of(self.errors)[-2000:]
            raise CommandTimeout(
                f"{' '.join(self.args)} did not end within {timeout:g} s and was killed",
                "allow it more time",
                f"{self._guest.console()}\n--- its standard error ---\n{stderr}",
            )
        assert self.returncode is not None  # noqa: S101 - for the type checker
        return Completed(self.args, self.returncode, text_of(self.output), text_of(self.errors))

    def kill(self) -> None:
        """Kill it and its process group. Raises GuestHung if the guest does not confirm."""
        if self.returncode is None:
            self._guest.send({"id": self._number, "op": "kill"})
            if self.poll(KILL_SECONDS) is None:
                raise self._guest.hung(f"it could not kill {' '.join(self.args)}")


class Guest:
    """A booted kernel. Made by `boot`; `kernel` is what it runs, `config` what it is made of.

    `work` is a folder that both sides see under one name and may write. All methods raise
    GuestDied once the guest has ended.
    """

    def __init__(
        self,
        kernel: Kernel,
        config: Config,
        folder: Folder,
        machine: subprocess.Popen[bytes],
        channel: Channel,
    ) -> None:
        self.kernel = kernel
        self.config = config
        self.folder = folder
        self.work = folder.path / "work"
        self.machine = machine
        self.boot_seconds = 0.0
        self._channel = channel
        self._last = 0

    def run(
        self,
        command: Command,
        *,
        timeout: float = COMMAND_SECONDS,
        check: bool = True,
        cwd: Path | str | None = None,
        env: Mapping[str, str] | None = None,
        user: str | None = None,
        input: bytes | None = None,  # noqa: A002 - as subprocess calls it
    ) -> Completed:
        """Run a command to its end: a list is a program and its arguments, text is for /bin/sh.

        It runs as root, or as `user`, in this process's folder, with a small environment to which
        `env` is added. Raises CommandTimeout, GuestHung, GuestDied and, with `check`,
        CommandFailed for any status but 0.
        """
        running = self.start(command, cwd=cwd, env=env, user=user, input=input)
        done = running.wait(timeout)
        if check and done.returncode != 0:
            raise CommandFailed(
                f"{' '.join(done.args)} ended with status {done.returncode} in the guest",
                f"it said: {done.stderr[-2000:] or 'nothing'}",
            )
        self._forget(running)
        return done

    def start(
        self,
        command: Command,
        *,
        cwd: Path | str | None = None,
        env: Mapping[str, str] | None = None,
        user: str | None = None,
        input: bytes | None = None,  # noqa: A002
        terminal: tuple[int, int] | None = None,
    ) -> Running:
        """Start a command and return at once. Raises GuestDied.

        `terminal` (rows, columns) gives it the guest's interactive terminal instead of files.
        """
        argv = ["/bin/sh", "-c", command] if isinstance(command, str) else command
        request = {
            "argv": [os.fspath(argument) for argument in argv],
            "cwd": str(cwd or Path.cwd()),
            "env": self._environment() | dict(env or {}),
            "user": user,
            "terminal": terminal,
        }
        return self._start(request, input)

    def read_file(self, path: Path | str, *, timeout: float = COMMAND_SECONDS) -> bytes:
        """Return a guest's file, as of /proc or /sys. Raises FileNotFoundError, GuestDied, ..."""
        running = self._start({"read": str(path)}, None)
        done = running.wait(timeout)
        if done.returncode != 0:
            raise FileNotFoundError(done.stderr.strip())
        data = running.output.read_bytes()
        self._forget(running)
        return data

    def wait_for_end(self, timeout: float) -> None:
        """Wait until the machine is off, as after a crash kernel's work. Raises GuestHung."""
        try:
            self.machine.wait(timeout)
        except subprocess.TimeoutExpired:
            raise self.hung(f"it still runs after {timeout:g} s") from None

    def alive(self) -> bool:
        """Tell whether the machine still runs."""
        return self.machine.poll() is None

    def console(self) -> str:
        """Return the last lines of the guest's console."""
        return "\n".join(text_of(self.folder.console).splitlines()[-CONSOLE_LINES:])

    def wait_until_ready(self, timeout: float) -> None:
        """Wait for the end of booting. Raises GuestHung, GuestDied."""
        started = time.monotonic()
        if self.receive(lambda m: "ready" in m, timeout) is None:
            raise self.hung(f"it did not finish booting within {timeout:g} s")
        self.boot_seconds = time.monotonic() - started

    def send(self, message: dict[str, Any]) -> None:
        """Send a message to the agent in the guest. Raises GuestDied."""
        try:
            self._channel.send(message)
        except ChannelClosed:
            raise self._died() from None

    def receive(
        self, wanted: Callable[[dict[str, Any]], bool], timeout: float
    ) -> dict[str, Any] | None:
        """Return the wanted message, or None after `timeout` seconds. Raises GuestDied."""
        deadline = time.monotonic() + timeout
        while True:
            # QEMU may end before it connects; so look after it once a second.
            step = min(deadline, time.monotonic() + 1.0)
            try:
                answer = self._channel.receive(wanted, step)
            except ChannelClosed:
                raise self._died() from None
            if answer is not None or time.monotonic() >= deadline:
                return answer
            if not self.alive():
                raise self._died()

    def hung(self, why: str) -> GuestHung:
        """Return the error that says the guest does not answer."""
        return GuestHung(
            f"the guest ({self.config}) hangs: {why}", "look at its console", self.console()
        )

    def close(self) -> None:
        """End the machine, once what was written through memory maps has reached the files."""
        if self.alive():
            with contextlib.suppress(GuestDied):
                self.send({"id": 0, "op": "sync"})
                self.receive(lambda m: m.get("id") == 0, 5.0)
        self._channel.close()

    def _start(self, request: dict[str, Any], data: bytes | None) -> Running:
        self._last += 1
        folder = self.folder.path / str(self._last)
        folder.mkdir(mode=0o700)
        for name in ("stdout", "stderr"):
            (folder / name).touch()
        if data is not None:
            (folder / "stdin").write_bytes(data)
        (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")
        self.send({"id": self._last, "op": "start"})
        return Running(self, self._last, tuple(request.get("argv", ("read", request.get("read")))))

    def _forget(self, running: Running) -> None:
        shutil.rmtree(running.output.parent, ignore_errors=True)

    def _environment(self) -> dict[str, str]:
        # bcc looks in /lib/modules/RELEASE, where this machine has nothing of the guest's kernel.
        headers = self.kernel.headers
        return ENVIRONMENT | ({"BCC_KERNEL_SOURCE": str(headers)} if headers else {})

    def _died(self) -> GuestDied:
        # The console's last lines are there once QEMU is gone.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.machine.wait(5)
        said = text_of(self.folder.path / "qemu.log").strip()
        return GuestDied(
            f"the guest ({self.config}) ended{f': {said}' if said else ''}",
            "look at its console",
            self.console(),
        )


@contextlib.contextmanager
def boot(
    kernel: str | Config,
    *,
    cache: Cache | None = None,
    say: Callable[[str], None] = lambda _: None,
    writable: Sequence[Path] = (),
    terminal: bool = False,
    timeout: float = BOOT_SECONDS,
    **settings: Any,
) -> Iterator[Guest]:
    """Boot a kernel and give a Guest whose end is the end of the context.

    `settings` are those of `Config` (memory, nodes, append, hvo, ...). The guest sees this
    machine's files; it may write those below `writable` and its own work folder, nothing else.
    Raises LabError if the lab cannot run here or the kernel cannot be had, GuestDied and
    GuestHung if it does not boot.
    """
    config = kernel if isinstance(kernel, Config) else Config(kernel, **settings)
    virtiofsd = check_host()
    found = (cache or Cache()).get(config.kernel, say=say)
    with contextlib.ExitStack() as stack:
        folder = Folder(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hvolab-"))))
        prepare(found, config, folder, writable)
        log = stack.enter_context((folder.path / "qemu.log").open("wb"))
        server = stack.enter_context(
            process(virtiofsd_command(virtiofsd, folder), stdin=subprocess.DEVNULL, output=log)
        )
        wait_for_socket(folder.files, server, folder.path / "qemu.log")
        command = qemu_command(
            config, found.vmlinuz, folder, terminal=terminal, initrd=folder.initrd.exists()
        )
        channel = Channel(folder.control)
        stack.callback(channel.close)
        machine = stack.enter_context(
            process(
                command,
                stdin=None if terminal else subprocess.DEVNULL,
                output=None if terminal else log,
            )
        )
        guest = Guest(found, config, folder, machine, channel)
        stack.callback(guest.close)
        guest.wait_until_ready(timeout)
        yield guest
