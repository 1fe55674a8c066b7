"""`hvoinspect scan`: what the vmemmap looks like, what HVO saves, and whether it is intact."""

from __future__ import annotations

from pathlib import Path

import click

from hvoinspect.cli.options import (
    VERBOSE,
    output_options,
    scan_options,
    target_options,
    width_option,
)
from hvoinspect.cli.output import check_output, emit
from hvoinspect.cli.progress import progress_bar
from hvoinspect.target.choice import Target

EPILOG = """
\b
Examples:
  sudo hvoinspect scan                     the running kernel
  sudo hvoinspect scan --json | jq .vmemmap
  hvoinspect scan -c vmcore                a crash dump
  hvoinspect scan --rules                  what is checked
  sudo hvoinspect scan --qemu qmp.sock     a QEMU guest, from outside

\b
Exit status: 0 no error found, 1 findings, 2 usage, 3 cannot inspect,
4 looked, but could not see everything.
"""


@click.command(epilog=EPILOG, short_help="Classify every struct page, account for HVO, check it.")
@target_options
@output_options
@click.option(
    "--rules",
    is_flag=True,
    help="List what is checked, with -v the whole of it; look at no kernel.",
)
@scan_options
@click.option("--strict", is_flag=True, help="Let warnings count as findings.")
@width_option
@click.pass_context
def scan(
    context: click.Context,
    target: Target,
    as_json: bool,
    output: Path | None,
    force: bool,
    quiet: bool,
    rules: bool,
    ignore: tuple[str, ...],
    exhaustive: bool,
    jobs: int | None,
    strict: bool,
    width: int | None,
) -> None:
    """Read the vmemmap, classify every struct page, account for HVO and check it.

    Works on a running kernel (as root), a dump or a QEMU guest, with no debug package installed.
    Where /proc/kcore cannot be read it shows what the kernel itself tells, and says what that
    leaves out.
    """
    check_output(output, force=force)

    from hvoinspect.report.rules import known_rules, rules_to_json, show_rules  # noqa: PLC0415

    ignored = known_rules(ignore)
    if rules:
        emit(
            rules_to_json,
            lambda console: show_rules(console, whole=VERBOSE in context.meta),
            output=output,
            force=force,
            as_json=as_json,
            quiet=quiet,
            width=width,
        )
        return

    from hvoinspect.api.scan import scan_target  # noqa: PLC0415
    from hvoinspect.report.result import exit_status, to_json  # noqa: PLC0415
    from hvoinspect.report.terminal import show  # noqa: PLC0415

    with progress_bar("reading the vmemmap", quiet=quiet) as progress:
        result = scan_target(target, progress, ignored, exhaustive=exhaustive, jobs=jobs)
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
