"""`hvoinspect hotpath`: who runs compound_head(), how often, before and after."""

from __future__ import annotations

import click

from hvoinspect.cli.hotpath.compare import compare
from hvoinspect.cli.hotpath.sites import sites

EPILOG = """
\b
Examples:
  hvoinspect hotpath sites --vmlinux vmlinux -o sites.json
  hvoinspect hotpath compare 7.0/ 7.1/     runs of two kernels side by side
  hvoinspect hotpath COMMAND --help        all that a command can do
\b
Exit status: 0 done, 1 findings, 2 usage, 3 cannot inspect,
4 counted, but not everywhere.
"""


@click.group(epilog=EPILOG, subcommand_metavar="COMMAND [ARGS]...")
def hotpath() -> None:
    """Count the hot path: the inlined copies of compound_head() and who runs them."""


hotpath.add_command(compare)
hotpath.add_command(sites)
