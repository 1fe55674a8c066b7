"""`hvoinspect hotpath`: who runs compound_head(), how often, before and after."""

from __future__ import annotations

import click

from hvoinspect.cli.hotpath.compare import compare
from hvoinspect.cli.hotpath.record import record
from hvoinspect.cli.hotpath.sites import sites

EPILOG = """
\b
Examples:
  hvoinspect hotpath sites --vmlinux vmlinux -o sites.json
  sudo hvoinspect hotpath record -d 10 --sites sites.json
  hvoinspect hotpath compare 7.0/ 7.1/     runs of two kernels side by side
  hvoinspect hotpath COMMAND --help        all that a command can do

\b
Exit status: 0 done, 2 usage, 3 cannot inspect; record has more.
"""


@click.group(
    epilog=EPILOG,
    subcommand_metavar="COMMAND [ARGS]...",
    short_help="Count who runs compound_head(), before and after.",
)
def hotpath() -> None:
    """Count the hot path: the inlined copies of compound_head() and who runs them."""


hotpath.add_command(sites)
hotpath.add_command(record)
hotpath.add_command(compare)
