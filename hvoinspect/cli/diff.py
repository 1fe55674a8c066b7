"""`hvoinspect diff`: what changed between two scans."""

from __future__ import annotations

from pathlib import Path

import click

from hvoinspect.cli.options import output_options, width_option
from hvoinspect.cli.output import check_output, emit

EPILOG = """
BEFORE and AFTER are files that `hvoinspect scan --json` or `scan -o FILE`
wrote: of two times, two kernels, before and after a reboot, or two hosts.
Within one boot, findings are the same if they are of the same rule at the same
pfn; otherwise they are counted by rule, since pfns mean nothing.

\b
Examples:
  hvoinspect diff monday.json tuesday.json
  hvoinspect diff 7.0.json 7.1.json --json | jq .vmemmap.net_saved_bytes
  sudo hvoinspect scan --json | hvoinspect diff monday.json /dev/stdin

\b
Exit status: 0 nothing is worse, 1 new errors, 2 usage, 3 cannot inspect, 4
nothing is worse, but AFTER saw or checked less. A new error is a finding of
that severity in AFTER that BEFORE has not; --strict: a warning, too.
"""

_path = click.Path(path_type=Path)


@click.command(epilog=EPILOG, short_help="Tell what changed between two scans.")
@click.argument("before", type=_path)
@click.argument("after", type=_path)
@click.option("--strict", is_flag=True, help="Let new warnings count as worse.")
@width_option
@output_options
@click.pass_context
def diff(
    context: click.Context,
    before: Path,
    after: Path,
    strict: bool,
    width: int | None,
    as_json: bool,
    output: Path | None,
    force: bool,
    quiet: bool,
) -> None:
    """Tell what changed between two scans: pools, savings, struct pages, findings."""
    check_output(output, force=force)

    from hvoinspect.api.diff import diff_files  # noqa: PLC0415
    from hvoinspect.report.diff import exit_status, to_json  # noqa: PLC0415
    from hvoinspect.report.diff_page import show  # noqa: PLC0415

    found = diff_files(before, after)
    emit(
        lambda: to_json(found),
        lambda console: show(found, console),
        output=output,
        force=force,
        as_json=as_json,
        quiet=quiet,
        width=width,
    )
    context.exit(exit_status(found, strict=strict))
