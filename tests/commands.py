"""All commands of the command line, each with what one types for it."""

from __future__ import annotations

from collections.abc import Iterator

import click

from hvoinspect.cli.main import hvoinspect


def commands(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    """Yield the command and all below it, each with what one types for it."""
    yield name, command
    for below, each in getattr(command, "commands", {}).items():
        yield from commands(each, f"{name} {below}")


ALL_COMMANDS = dict(commands(hvoinspect, "hvoinspect"))
