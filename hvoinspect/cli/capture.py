"""`hvoinspect capture`: a small file with just what the analysis reads, to look at elsewhere."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from hvoinspect.cli.options import verbose_option
from hvoinspect.cli.output import destination, print_text
from hvoinspect.cli.progress import progress_bar
from hvoinspect.errors import printable

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


@click.command(epilog=EPILOG)
@click.option("-k", "--kernel", is_flag=True, help="Capture the running kernel (the default).")
@click.option(
    "-c", "--core", type=click.Path(path_type=Path), metavar="PATH", help="Capture from a dump."
)
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
@verbose_option
def capture(kernel: bool, core: Path | None, output: Path, force: bool, quiet: bool) -> None:
    """Write a small file with what a scan reads: page tables, struct pages, symbols and types.

    No content of any process, file or socket is in it: struct pages say which page is what, not
    what is in it. The file is readable by its owner only.
    """
    if kernel and core is not None:
        raise click.UsageError("-k and -c exclude each other: give one of them")
    goal = destination(output, force=force, streams=False)

    from hvoinspect.api import capture_core, capture_running  # noqa: PLC0415
    from hvoinspect.report.words import bytes_text  # noqa: PLC0415

    with progress_bar("reading the vmemmap", quiet=quiet) as progress:
        if core is None:
            capture_running(goal, progress)
        else:
            capture_core(core, goal, progress)
    if not quiet:
        name = printable(str(output))
        print_text(
            f"{name}: {bytes_text(output.stat().st_size)}\n"
            f"Look at it with: hvoinspect scan -c {shlex.quote(name)}\n"
        )
