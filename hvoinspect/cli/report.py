"""`hvoinspect report`: scans and recordings of the hot path as one page of HTML, to hand on."""

from __future__ import annotations

from pathlib import Path

import click

from hvoinspect.cli.options import verbose_option
from hvoinspect.cli.output import check_output, write_output

EPILOG = """
SCANS are files that `hvoinspect scan -o FILE` wrote; each is compared to the
one before. A RUN is one that `hvoinspect hotpath record -o FILE` wrote, or a
folder of them; each --hotpath is compared to the one before, and folders with
two runs or more give the ratios intervals. The page loads nothing: it can be
kept, mailed, printed and read without a network.

\b
Examples:
  hvoinspect report monday.json tuesday.json -o report.html
  hvoinspect report --hotpath 7.0/ --hotpath 7.1/ -o rework.html
  hvoinspect report scans/*.json --title "Rack 7" -o rack7.html

\b
Exit status: 0 written, whatever was found, 2 usage, 3 cannot inspect:
a file that is no scan or no run.
"""

_path = click.Path(path_type=Path)


@click.command(epilog=EPILOG, short_help="Write scans as one page of HTML.")
@click.argument("scans", type=_path, nargs=-1, metavar="SCANS")
@click.option(
    "--hotpath", "hot_path", type=_path, multiple=True, metavar="RUN", help="Add a recording."
)
@click.option("--title", metavar="TEXT", help="What the page is called.")
@click.option(
    "-o",
    "--output",
    type=_path,
    metavar="FILE",
    required=True,
    help="Write the page to FILE; FILE must not exist.",
)
@click.option("-f", "--force", is_flag=True, help="Overwrite FILE.")
@verbose_option
def report(
    scans: tuple[Path, ...],
    hot_path: tuple[Path, ...],
    title: str | None,
    output: Path,
    force: bool,
) -> None:
    """Write a page that shows scans, what changed between them, and the hot path."""
    if not scans and not hot_path:
        raise click.UsageError("there is nothing to report: give SCANS, or --hotpath RUN")
    check_output(output, force=force)

    from hvoinspect.api.report import report_of  # noqa: PLC0415

    write_output(output, report_of(scans, hot_path, title), force=force)
