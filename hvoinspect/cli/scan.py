"""`hvoinspect scan`: what the vmemmap looks like, what HVO saves, and whether it is intact."""

from __future__ import annotations

from pathlib import Path

import click

from hvoinspect.cli.options import output_options, target_options
from hvoinspect.cli.output import check_output, emit
from hvoinspect.cli.progress import progress_bar

EPILOG = """
\b
Examples:
  sudo hvoinspect scan                     the running kernel
  sudo hvoinspect scan --json | jq .vmemmap
  hvoinspect scan -c vmcore                a crash dump
\b
Exit status: 0 no error found, 1 findings, 2 usage, 3 cannot inspect,
4 looked, but could not see everything.
"""


@click.command(epilog=EPILOG)
@target_options
@output_options
@click.option("--strict", is_flag=True, help="Let warnings count as findings.")
@click.option(
    "--width", type=click.IntRange(40, 400), metavar="N", help="Columns, if not the terminal's."
)
@click.pass_context
def scan(
    context: click.Context,
    kernel: bool,
    core: Path | None,
    symbols: Path | None,
    as_json: bool,
    output: Path | None,
    force: bool,
    quiet: bool,
    strict: bool,
    width: int | None,
) -> None:
    """Read the vmemmap, classify every struct page, account for HVO and check it.

    Works on a running kernel (as root) or a dump, with no debug package installed. Where
    /proc/kcore cannot be read it shows what the kernel itself tells, and says what that leaves out.
    """
    if kernel and core is not None:
        raise click.UsageError("-k and -c exclude each other: give one of them")
    check_output(output, force=force)

    from hvoinspect.api import scan_core, scan_running  # noqa: PLC0415
    from hvoinspect.report.result import exit_status, to_json  # noqa: PLC0415
    from hvoinspect.report.terminal import show  # noqa: PLC0415

    with progress_bar("reading the vmemmap", quiet=quiet) as progress:
        if core is None:
            result = scan_running(symbols, progress)
        else:
            result = scan_core(core, symbols, progress)
    emit(
        lambda: to_json(result),
        lambda console: show(result, console),
        output=output,
        force=force,
        as_json=as_json,
        quiet=quiet,
        width=width,
    )
    context.exit(exit_status(result, strict=strict))
