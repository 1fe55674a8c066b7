"""`%hvo`: commands of hvoinspect at drgn's prompt, of the kernel that drgn has open."""

from __future__ import annotations

from collections.abc import Sequence

import click
from drgn import Program
from drgn.commands import CommandArgumentError, CommandError

from hvoinspect.cli.memdesc import memdesc
from hvoinspect.cli.options import PROGRAM, VERBOSE, without_target
from hvoinspect.cli.page import page
from hvoinspect.cli.scan import scan
from hvoinspect.cli.tell import as_told, as_usage_error

EPILOGS = {
    scan: """
\b
Examples:
  %hvo                            the scan, for people
  %hvo scan --exhaustive
  %hvo scan --json | jq .vmemmap
""",
    page: """
\b
ADDRESS is one of:
  ffffea0004009340         a struct page, or an address in one (0x or not)
  pfn:0x10024d             a page frame number, also in decimal
  phys:0x10024d000         a physical address, also in decimal
  0xffff88810024d000       an address in the direct map of all memory
""",
    memdesc: """
\b
Examples:
  %hvo memdesc
  %hvo memdesc --model slab-table
""",
}


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    invoke_without_command=True,
    subcommand_metavar="[COMMAND] [ARGS]...",
)
@click.pass_context
def hvo(context: click.Context) -> None:
    """Show what the struct page array of the kernel that drgn has open really looks like.

    Without a command, scan.
    """
    if context.invoked_subcommand is None:
        context.invoke(hvo.commands["scan"])


for _command, _epilog in EPILOGS.items():
    hvo.add_command(without_target(_command, _epilog))


def run(prog: Program, name: str, arguments: Sequence[str]) -> None:
    """Run `%hvo` with `arguments`, on the kernel that `prog` has open.

    Prints what it finds. Raises drgn's CommandError, of which drgn prints why and what to do.
    """
    context: click.Context | None = None
    try:
        with hvo.make_context(f"%{name}", list(arguments)) as context:
            context.meta[PROGRAM] = prog
            hvo.invoke(context)
    except click.exceptions.Exit:
        pass  # what a shell is told by a status is on the screen
    except BrokenPipeError:
        raise  # drgn's own business: the command was piped into another
    except click.ClickException as error:
        told = as_usage_error(error, f"%{name}")
        raise CommandArgumentError(f"{told.why}\n{told.remedy}") from None
    except Exception as error:  # what is unknown is told as a bug, as a command line does
        told = as_told(error, verbose=context is not None and VERBOSE in context.meta)
        raise CommandError(f"{told.why}\n{told.remedy}") from error
