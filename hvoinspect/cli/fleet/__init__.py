"""`hvoinspect fleet`: many scans, and many dumps."""

from __future__ import annotations

import click

from hvoinspect.cli.fleet.query import query
from hvoinspect.cli.fleet.scan import scan

EPILOG = """
SCANS are files that `hvoinspect scan --json` or `scan -o` wrote, patterns, or
folders of them (all *.json in and below). A file named as a command is given
as ./scan.

\b
Examples:
  hvoinspect fleet scans/                  what they come to
  hvoinspect fleet scans/ --sql "SELECT host, errors FROM latest
                                 WHERE errors > 0"
  hvoinspect fleet --schema                the tables, for --sql
  hvoinspect fleet scan dumps/* -o scans/  scan many dumps

\b
Exit status: 0 answered, 2 usage, 3 cannot inspect, 4 some could not be read.
"""


class _Fleet(click.Group):
    """A group that is its command `query` unless another one is named."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        """Put `query` before what is for it."""
        own = {*self.commands, *context.help_option_names}
        if args and args[0] not in own:
            args = [query.name or "", *args]
        return super().parse_args(context, args)

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Show the options of `query`, which are those without a command."""
        with click.Context(query, info_name=query.name, parent=context) as inner:
            query.format_options(inner, formatter)
        self.format_commands(context, formatter)


@click.group(
    cls=_Fleet,
    epilog=EPILOG,
    no_args_is_help=True,
    subcommand_metavar="SCANS... | COMMAND [ARGS]...",
    options_metavar="[OPTIONS]",
    short_help="Tell what many scans come to; scan many dumps.",
)
def fleet() -> None:
    """Tell what many scans come to: where HVO is off, what is saved, who is unlike the others."""


fleet.add_command(query)
fleet.add_command(scan)
