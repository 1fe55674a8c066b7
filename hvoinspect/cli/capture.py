"""`hvoinspect capture`: a small file with just what the analysis reads, to look at elsewhere."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import click

from hvoinspect.cli.options import target_options, verbose_option
from hvoinspect.cli.output import destination, print_text
from hvoinspect.cli.progress import progress_bar
from hvoinspect.errors import printable
from hvoinspect.target.choice import Target

EPILOG = """
\b
Examples:
  sudo hvoinspect capture -o host.hvo      the running kernel
  hvoinspect scan -c host.hvo              anywhere, without root
  hvoinspect capture -c vmcore -o small.hvo
  xz -dc host.hvo > host.core              a core that plain drgn opens

\b
Exit status: 0 captured, 2 usage, 3 cannot inspect.
"""

SCHEMA = "hvoinspect.capture/1"


@click.command(epilog=EPILOG, short_help="Write a small file with what a scan reads.")
@target_options
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    required=True,
    help="The file to write; it must not exist.",
)
@click.option("-f", "--force", is_flag=True, help="Overwrite the output file.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
@click.option("--json", "as_json", is_flag=True, help="Print path and size as JSON.")
@verbose_option
def capture(target: Target, output: Path, force: bool, quiet: bool, as_json: bool) -> None:
    """Write a small file with what a scan reads: page tables, struct pages, symbols and types.

    No content of any process, file or socket is in it: struct pages say which page is what, not
    what is in it. The file is readable by its owner only.
    """
    goal = destination(output, force=force, streams=False)

    from hvoinspect.api.capture import capture_target  # noqa: PLC0415
    from hvoinspect.report.words import bytes_text  # noqa: PLC0415

    with progress_bar("reading the vmemmap", quiet=quiet) as progress:
        capture_target(target, goal, progress)
    size = output.stat().st_size
    if as_json:
        taken = {"schema": SCHEMA, "path": str(output), "bytes": size}
        print_text(json.dumps(taken, indent=2) + "\n")
    elif not quiet:
        name = printable(str(output))
        print_text(
            f"{name}: {bytes_text(size)}\nLook at it with: hvoinspect scan -c {shlex.quote(name)}\n"
        )
