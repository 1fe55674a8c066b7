"""The command line of the lab."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import click

from lab.cost.command import cost
from lab.errors import EXIT_CANNOT_RUN, LabError, one_line
from lab.guest import Guest, Running, boot
from lab.kernels import KNOWN, Cache, Kernel
from lab.machine import Config

EXIT_TIMEOUT = 124
POLL_SECONDS = 0.1
_PASSED_ON = ("PATH", "LANG", "LC_ALL", "TERM", "NO_COLOR", "COLUMNS", "LINES")


def main() -> None:
    """Run the command line; the one place where the lab's errors are caught."""
    try:
        cli(prog_name="lab")
    except LabError as error:
        click.echo(f"lab: {error.why}\nlab: {error.remedy}", err=True)
        console = getattr(error, "console", "")
        for line in console.splitlines():
            click.echo(f"lab: | {one_line(line)}", err=True)
        sys.exit(EXIT_CANNOT_RUN)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def cli() -> None:
    """Boot real Debian kernels under software emulation, on this machine's own files.

    A KERNEL is a series (6.1, 7.3), a version (7.2.12) or a full release. Exit status: the
    command's own, 124 if it was killed after --timeout, 3 if the lab cannot run (one line why,
    one line what to do).
    """


cli.add_command(cost)


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def kernels(as_json: bool) -> None:
    """List the kernels known by name, and those in the cache."""
    cache = Cache()
    cached = [
        {"release": k.release, "version": k.version, "debug": k.vmlinux is not None}
        for k in cache.kernels()
    ]
    if as_json:
        click.echo(json.dumps({"cache": str(cache.folder), "known": KNOWN, "cached": cached}))
        return
    for name, word in KNOWN.items():
        found = cache.find(name)
        state = f"cached: {found.release}" if found else "not cached"
        click.echo(f"{name:6} {word:46} {state}{_extras(found) if found else ''}")
    others = [k for k in cache.kernels() if k not in {cache.find(name) for name in KNOWN}]
    for kernel in others:
        click.echo(f"{'':6} {'':46} cached: {kernel.release}{_extras(kernel)}")


@cli.command()
@click.argument("names", nargs=-1, metavar="[KERNEL]...")
@click.option("--debug", is_flag=True, help="Also the kernel with DWARF (some 300 MB each).")
@click.option("--headers", is_flag=True, help="Also the headers, for bcc, where there are any.")
def fetch(names: tuple[str, ...], debug: bool, headers: bool) -> None:
    """Fetch the newest build of each KERNEL into the cache; without any, the five known ones."""
    cache = Cache()
    for name in names or KNOWN:
        kernel = cache.fetch(name, debug=debug, headers=headers, say=_say)
        click.echo(f"{name}: {kernel.release}{_extras(kernel)}")


def _extras(kernel: Kernel) -> str:
    parts = {"debug": kernel.vmlinux, "headers": kernel.headers}
    return "".join(f", {name}" for name, path in parts.items() if path)


def machine_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say what the guest is made of."""
    options = [
        click.option("--memory", default="2G", show_default=True, help="As 2G or 512M."),
        click.option("--cpus", type=click.IntRange(1, 64), default=1, show_default=True),
        click.option("--nodes", type=click.IntRange(1, 16), default=1, show_default=True),
        click.option("--la57", is_flag=True, help="Five levels of page tables."),
        click.option("--append", default="", help="Further kernel arguments."),
        click.option(
            "--hvo", type=click.Choice(["on", "off"]), help="Say so at boot; else kernel's default."
        ),
        click.option(
            "--module", "modules", multiple=True, help="Load a kernel module; may be repeated."
        ),
        click.option(
            "--qemu-arg", "qemu_args", multiple=True, help="Further argument; may be repeated."
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@cli.command(context_settings={"ignore_unknown_options": False})
@click.argument("kernel")
@machine_options
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    help="Kill the command after so many seconds.",
)
@click.argument("command", nargs=-1, required=True)
def run(kernel: str, timeout: float | None, command: tuple[str, ...], **settings: Any) -> None:
    """Boot KERNEL and run COMMAND in it as root, in this folder, which alone is writable."""
    with _boot(kernel, settings) as guest:
        running = guest.start(list(command), cwd=_cwd(), env=_environment())
        status = _follow(running, timeout)
    sys.exit(status)


@cli.command()
@click.argument("kernel")
@machine_options
def shell(kernel: str, **settings: Any) -> None:
    """Boot KERNEL and open a shell in it; the folder this runs in alone is writable."""
    if not sys.stdin.isatty():
        raise LabError("a shell needs a terminal", "use `lab run` for commands")
    with _terminal_kept(), _boot(kernel, settings, terminal=True) as guest:
        size = shutil.get_terminal_size()
        running = guest.start(
            ["/bin/bash", "-i"],
            cwd=_cwd(),
            env=_environment(),
            terminal=(size.lines, size.columns),
        )
        while (status := running.poll(60)) is None:
            pass
    sys.exit(_shell_status(status))


def _boot(
    kernel: str, settings: dict[str, Any], *, terminal: bool = False
) -> contextlib.AbstractContextManager[Guest]:
    settings["hvo"] = {"on": True, "off": False, None: None}[settings["hvo"]]
    writable = [Path(_cwd())] if _cwd() != "/" else []
    return boot(Config(kernel, **settings), say=_say, writable=writable, terminal=terminal)


def _follow(running: Running, timeout: float | None) -> int:
    """Copy a command's output as it comes; return the exit status to end with."""
    deadline = time.monotonic() + (timeout or float("inf"))
    with contextlib.ExitStack() as stack:
        streams = [
            (stack.enter_context(path.open("rb")), out)
            for path, out in (
                (running.output, sys.stdout.buffer),
                (running.errors, sys.stderr.buffer),
            )
        ]
        while (status := running.poll(POLL_SECONDS)) is None:
            _copy(streams)
            if time.monotonic() > deadline:
                running.kill()
                _copy(streams)
                _say(f"the command did not end within {timeout:g} s and was killed")
                return EXIT_TIMEOUT
        _copy(streams)
    return _shell_status(status)


def _copy(streams: Sequence[tuple[BinaryIO, BinaryIO]]) -> None:
    for source, target in streams:
        while data := source.read(1 << 16):
            target.write(data)
        target.flush()


def _shell_status(status: int) -> int:
    return 128 - status if status < 0 else status


def _environment() -> dict[str, str]:
    return {name: os.environ[name] for name in _PASSED_ON if name in os.environ}


def _cwd() -> str:
    return str(Path.cwd())


def _say(text: str) -> None:
    click.echo(f"lab: {text}", err=True)


@contextlib.contextmanager
def _terminal_kept() -> Iterator[None]:
    # QEMU puts the terminal into raw mode, and cannot put it back when it is killed.
    before = termios.tcgetattr(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
