"""Options that several commands share, and what they do with their output."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from hvoinspect.errors import ExitStatus, HvoinspectError

Command = Callable[..., Any]


def target_options(command: Command) -> Command:
    """Add the options that say which kernel is looked at."""
    for option in (
        click.option(
            "-s",
            "--symbols",
            type=click.Path(path_type=Path),
            metavar="PATH",
            help="A vmlinux with DWARF of the same build; not needed.",
        ),
        click.option(
            "-c",
            "--core",
            type=click.Path(path_type=Path),
            metavar="PATH",
            help="Look at a crash dump.",
        ),
        click.option(
            "-k", "--kernel", is_flag=True, help="Look at the running kernel (the default)."
        ),
    ):
        command = option(command)
    return command


def output_options(command: Command) -> Command:
    """Add the options that say where the result goes and in which form."""
    for option in (
        click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors."),
        click.option("-f", "--force", is_flag=True, help="Overwrite the output file."),
        click.option(
            "-o",
            "--output",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="Write the result to FILE, as JSON; FILE must not exist.",
        ),
        click.option("--json", "as_json", is_flag=True, help="Print the result as JSON."),
    ):
        command = option(command)
    return command


def write_output(path: Path, text: str, *, force: bool) -> None:
    """Write `text` to `path`, whole or not at all. Raises HvoinspectError.

    An existing file is refused without `force`, and never truncated: the new one takes its place
    when it is complete.
    """
    check_output(path, force=force)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        try:
            with temporary.open("x", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            if force:
                temporary.replace(path)
            else:
                path.hardlink_to(temporary)
        finally:
            temporary.unlink(missing_ok=True)
    except FileExistsError as error:
        raise _exists(path) from error
    except OSError as error:
        raise HvoinspectError(
            f"{path} cannot be written: {error.strerror}",
            "give a path with room that this user may write",
            ExitStatus.USAGE,
        ) from error


def check_output(path: Path | None, *, force: bool) -> None:
    """Raise HvoinspectError if `path` is there already: before the work, not after it."""
    if path is not None and path.exists() and not force:
        raise _exists(path)


def _exists(path: Path) -> HvoinspectError:
    return HvoinspectError(
        f"{path} exists already", "give another name, or -f to overwrite it", ExitStatus.USAGE
    )
