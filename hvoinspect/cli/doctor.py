"""`hvoinspect doctor`: what this host allows, and how to mend what it does not."""

from __future__ import annotations

from pathlib import Path

import click

from hvoinspect.cli.options import output_options, width_option
from hvoinspect.cli.output import check_output, emit

EPILOG = """
\b
Examples:
  sudo hvoinspect doctor                   what works as root
  hvoinspect doctor                        what works as this user
  sudo hvoinspect doctor --json | jq '.checks[] | select(.ok | not)'

\b
Exit status: 0 a scan of the running kernel works fully, 2 usage, 3 cannot
inspect it at all, 4 a scan shows the kernel's own view only. What hotpath
takes does not count.
"""


@click.command(epilog=EPILOG)
@output_options
@width_option
@click.pass_context
def doctor(
    context: click.Context,
    as_json: bool,
    output: Path | None,
    force: bool,
    quiet: bool,
    width: int | None,
) -> None:
    """Tell what can be read on this host, and what is missing.

    Each check says what it enables, what was found and how to mend it. Only looks: nothing is
    changed, loaded or installed.
    """
    check_output(output, force=force)

    from hvoinspect.hotpath.host import examine  # noqa: PLC0415
    from hvoinspect.report.doctor import exit_status, show, to_json  # noqa: PLC0415
    from hvoinspect.target.host import Host  # noqa: PLC0415

    host = Host()
    checks = tuple(examine(host))
    emit(
        lambda: to_json(checks),
        lambda console: show(host, checks, console),
        output=output,
        force=force,
        as_json=as_json,
        quiet=quiet,
        width=width,
    )
    context.exit(exit_status(checks))
