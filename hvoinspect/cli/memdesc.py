"""`hvoinspect memdesc`: whether memdescs could tell tails from heads on a machine."""

from __future__ import annotations

from pathlib import Path

import click

from hvoinspect.cli.options import jobs_option, output_options, target_options, width_option
from hvoinspect.cli.output import check_output, emit
from hvoinspect.cli.progress import progress_bar
from hvoinspect.target.choice import Target

EPILOG = """
\b
What struct pages hold, beside those of folios:
  self        compound pages one memdesc each, all other pages their own
  null-free   as self, but free memory NULL
  free-block  as self, but a free block one memdesc
  slab-table  slabs and page tables one memdesc each, all other pages their
              own, even where they are compound

\b
Examples:
  sudo hvoinspect memdesc                      the running kernel
  hvoinspect memdesc -c vmcore --model null-free
  hvoinspect memdesc --demo after --json | jq .guard

\b
Exit status: 0 looked, whatever the answer, 2 usage, 3 cannot inspect,
4 looked, but could not see everything.
"""


@click.command(epilog=EPILOG, short_help="Could memdescs tell tails from heads here?")
@target_options
@output_options
@click.option(
    "--model",
    type=click.Choice(["self", "null-free", "free-block", "slab-table"]),
    default="self",
    show_default=True,
    help="What memory holds that is no folio: see below.",
)
@jobs_option
@width_option
@click.pass_context
def memdesc(
    context: click.Context,
    target: Target,
    as_json: bool,
    output: Path | None,
    force: bool,
    quiet: bool,
    model: str,
    jobs: int | None,
    width: int | None,
) -> None:
    """Tell whether a page's memdesc, beside the one before it, could tell a tail.

    Gives each struct page the memdesc that it would have, counts where "a tail has the memdesc of
    the page before it" is wrong, and tells what it takes to let that page always be read: the runs
    of the vmemmap, and what a page of zeros in front of each costs.
    """
    check_output(output, force=force)

    from hvoinspect.api.memdesc import memdesc_target  # noqa: PLC0415
    from hvoinspect.report.memdesc import exit_status, to_json  # noqa: PLC0415
    from hvoinspect.report.memdesc_page import show  # noqa: PLC0415

    with progress_bar("reading the vmemmap", quiet=quiet) as progress:
        result = memdesc_target(target, model, progress, jobs=jobs)
    emit(
        lambda: to_json(result),
        lambda console: show(result, console),
        output=output,
        force=force,
        as_json=as_json,
        quiet=quiet,
        width=width,
    )
    context.exit(exit_status(result))
