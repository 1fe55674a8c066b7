"""The `hvoinspect` command: its sub-commands, and the one place where errors are shown."""

from __future__ import annotations

import sys

import click

from hvoinspect import __version__
from hvoinspect.cli.page import page
from hvoinspect.cli.scan import scan
from hvoinspect.errors import HvoinspectError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="hvoinspect")
def hvoinspect() -> None:
    """Show what a Linux kernel's struct page array (the vmemmap) really looks like under HVO."""


hvoinspect.add_command(scan)
hvoinspect.add_command(page)


def main() -> None:
    """Run the command line; print an error as one line why and one line what to do."""
    try:
        hvoinspect()
    except HvoinspectError as error:
        click.echo(f"hvoinspect: {error.why}\nhvoinspect: {error.remedy}", err=True)
        sys.exit(error.status)
