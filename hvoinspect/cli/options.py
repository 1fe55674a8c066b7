"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

Command = Callable[..., Any]

VERBOSE = "hvoinspect.verbose"
"""In the `meta` of a click context where -v was given."""


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


def _note_verbose(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value:
        context.meta[VERBOSE] = True


verbose_option = click.option(
    "-v",
    "--verbose",
    is_flag=True,
    expose_value=False,
    callback=_note_verbose,
    help="Show the traceback of a bug.",
)
"""Adds the option that makes `hvoinspect.cli.main` say more of a bug."""


def output_options(command: Command) -> Command:
    """Add the options that say where the result goes and in which form."""
    for option in (
        verbose_option,
        click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors."),
        click.option("-f", "--force", is_flag=True, help="Overwrite FILE."),
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
