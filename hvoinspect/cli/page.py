"""`hvoinspect page`: what one struct page is, and how the kernel gets to its head."""

from __future__ import annotations

from pathlib import Path

import click

from hvoinspect.cli.options import output_options, target_options
from hvoinspect.cli.output import check_output, emit
from hvoinspect.target.choice import Target

EPILOG = """
\b
ADDRESS is one of:
  ffffea0004009340         a struct page, or an address in one (0x or not)
  pfn:0x10024d             a page frame number, also in decimal
  phys:0x10024d000         a physical address, also in decimal
  0xffff88810024d000       an address in the direct map of all memory

\b
Examples:
  sudo hvoinspect page pfn:0x10024d
  hvoinspect page ffffea0004009374 -c vmcore    the page that an oops names
  sudo hvoinspect page pfn:1049165 --json | jq .head_pfn

\b
Exit status: 0 explained, 1 the page is not intact, 2 usage, 3 cannot inspect,
4 explained, but its head or hugepage could not be seen whole.
"""


@click.command(epilog=EPILOG)
@click.argument("address")
@target_options
@output_options
@click.pass_context
def page(
    context: click.Context,
    address: str,
    target: Target,
    as_json: bool,
    output: Path | None,
    force: bool,
    quiet: bool,
) -> None:
    """Explain the struct page at ADDRESS, step by step.

    Says what the struct page is, how compound_head() gets from it to its head on this very kernel,
    which hugepage it belongs to, which frame is behind it, with whom that is shared, and whether a
    write to it faults. Prints drgn code that shows the same.
    """
    check_output(output, force=force)

    from hvoinspect.api.page import explain_page  # noqa: PLC0415
    from hvoinspect.report.page import exit_status, show, to_json  # noqa: PLC0415

    result = explain_page(address, target)
    emit(
        lambda: to_json(result),
        lambda console: show(result, console),
        output=output,
        force=force,
        as_json=as_json,
        quiet=quiet,
    )
    context.exit(exit_status(result))
