"""How errors are told: one line why, and one line what to do."""

from __future__ import annotations

import contextlib
import os
import traceback

import click

from hvoinspect.errors import ExitStatus, HvoinspectError, printable
from hvoinspect.version import __version__

NAME = "hvoinspect"


def print_lines(*lines: str) -> None:
    """Print lines to stderr, each with the program's name in front."""
    with contextlib.suppress(OSError):  # the exit status tells all the same
        click.echo("\n".join(f"{NAME}: {line}" for line in lines), err=True)


def as_usage_error(error: click.ClickException, command: str) -> HvoinspectError:
    """Put click's error as the project puts its own; `command` is what was called."""
    why = " ".join(error.format_message().split()).rstrip(".")
    own: click.Context | None = getattr(error, "ctx", None)
    # An option without its value has no context, but the command was known by then.
    path = own.command_path if own else command
    return HvoinspectError(
        why[:1].lower() + why[1:], f"see {path.strip()} --help", ExitStatus.USAGE
    )


def as_told(error: BaseException, *, verbose: bool) -> HvoinspectError:
    """Return what to tell of an error: of a bug, that it is one, and with `verbose` all of it."""
    if isinstance(error, HvoinspectError):
        return error
    if verbose or os.environ.get("HVOINSPECT_DEBUG"):
        for line in "".join(traceback.format_exception(error)).splitlines():
            with contextlib.suppress(OSError):
                click.echo(printable(line), err=True)
        remedy = "report it, with the lines above"
    else:
        remedy = "report it, with what the same command prints with -v"
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{os.path.basename(place.filename)}:{place.lineno}"  # noqa: PTH119
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return HvoinspectError(f"a bug of {NAME} {__version__}, at {where}: {what}", remedy)
