"""Options that several commands share."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from hvoinspect.target.choice import DEMOS, Target

Command = Callable[..., Any]

VERBOSE = "hvoinspect.verbose"
"""In the `meta` of a click context where -v was given."""

PROGRAM = "hvoinspect.program"
"""In the `meta` of a click context of a drgn session: its drgn.Program, which is the target."""


def target_options(command: Command) -> Command:
    """Add the options that say which kernel is looked at; the command gets them as `target`."""

    @functools.wraps(command)
    def with_target(*args: Any, **options: Any) -> Any:
        program = click.get_current_context().meta.get(PROGRAM)
        if program is not None:
            return command(*args, target=Target(program=program), **options)
        target = _target(options)
        # Those that come with drgn are commands of its own prompt, and take 50 ms to load, seconds
        # where processors are emulated. What is named in DRGN_PLUGINS is loaded all the same.
        os.environ.setdefault("DRGN_DISABLE_PLUGINS", "*")
        return command(*args, target=target, **options)

    decorated: Command = with_target
    for option in _TARGET_OPTIONS:
        decorated = option(decorated)
    return decorated


_TARGET_OPTIONS = (
    click.option(
        "--vmcoreinfo",
        type=click.Path(path_type=Path),
        metavar="PATH",
        help="VMCOREINFO of the same boot, for a dump or guest that does not tell it.",
    ),
    click.option(
        "-s",
        "--symbols",
        type=click.Path(path_type=Path),
        metavar="PATH",
        help="A vmlinux with DWARF of the same build; not needed.",
    ),
    click.option(
        "--demo",
        type=click.Choice(DEMOS),
        help="Look at a kernel that is shipped along: before Linux 7.1, or after.",
    ),
    click.option(
        "--qemu",
        metavar="ADDRESS",
        help="Look at a QEMU guest from outside, by its QMP socket: a path or host:port.",
    ),
    click.option(
        "-c",
        "--core",
        type=click.Path(path_type=Path),
        metavar="PATH",
        help="Look at a crash dump.",
    ),
    click.option("-k", "--kernel", is_flag=True, help="Look at the running kernel (the default)."),
)
_TARGET_NAMES = tuple(f.name for f in dataclasses.fields(Target) if f.name != "program")


def without_target(command: click.Command, epilog: str) -> click.Command:
    """Return a command with `target_options` as it is in a drgn session, which is its target."""
    left = [p for p in command.params if p.name not in (*_TARGET_NAMES, "kernel")]
    return click.Command(
        command.name,
        params=left,
        callback=command.callback,
        help=command.help,
        short_help=command.short_help,
        epilog=epilog,
    )


def _target(options: dict[str, Any]) -> Target:
    """Take the target's options out of a command's. Raises click.UsageError."""
    named = {name: options.pop(name) for name in _TARGET_NAMES}
    chosen = ("core", "qemu", "demo")
    if options.pop("kernel") + sum(named[name] is not None for name in chosen) > 1:
        raise click.UsageError("-k, -c, --qemu and --demo exclude each other: give one of them")
    if named["vmcoreinfo"] is not None and named["core"] is None and named["qemu"] is None:
        raise click.UsageError("--vmcoreinfo is for -c and --qemu")
    return Target(**named)


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


jobs_option = click.option(
    "--jobs",
    type=click.IntRange(1, 256),
    metavar="N",
    help="Read in N processes; by default one, or on large machines as many as there are CPUs.",
)
width_option = click.option(
    "--width", type=click.IntRange(40, 400), metavar="N", help="Columns, if not the terminal's."
)


def scan_options(command: Command) -> Command:
    """Add the options that say how a kernel is scanned: `ignore`, `exhaustive` and `jobs`."""
    for option in (
        jobs_option,
        click.option(
            "--exhaustive",
            is_flag=True,
            help="Read every struct page; otherwise the rest of large compound pages and of free "
            "blocks is inferred from their first.",
        ),
        click.option(
            "--ignore",
            multiple=True,
            metavar="RULE",
            help="Leave out a rule, by its name in scan --rules; may be given more than once.",
        ),
    ):
        command = option(command)
    return command
