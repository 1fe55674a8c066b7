"""The `hvoinspect` command: its sub-commands, and the one place where errors are shown."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import click
from click.shell_completion import shell_complete

from hvoinspect.cli.capture import capture
from hvoinspect.cli.completion import completion
from hvoinspect.cli.diff import diff
from hvoinspect.cli.doctor import doctor
from hvoinspect.cli.export import export
from hvoinspect.cli.fleet import fleet
from hvoinspect.cli.hotpath import hotpath
from hvoinspect.cli.memdesc import memdesc
from hvoinspect.cli.options import VERBOSE
from hvoinspect.cli.page import page
from hvoinspect.cli.report import report
from hvoinspect.cli.scan import scan
from hvoinspect.cli.tell import NAME, as_told, as_usage_error, print_lines
from hvoinspect.cli.watch import watch
from hvoinspect.errors import ExitStatus
from hvoinspect.version import __version__

COMPLETE = "_HVOINSPECT_COMPLETE"
"""The variable with which click's completion scripts for shells ask for words."""

INTERRUPTED, BROKEN_PIPE = 130, 141
"""What a shell shows of a program that SIGINT or SIGPIPE ended: none of the project's statuses."""

EPILOG = """
\b
Examples:
  sudo hvoinspect scan                     the running kernel
  hvoinspect scan --demo after             a kernel that is shipped along
  hvoinspect page ffffea0004009340 -c vmcore
  sudo hvoinspect capture -o host.hvo      a small file to look at elsewhere
  sudo hvoinspect doctor                   what can be read on this host
  hvoinspect scan --help                   all that a command can do

\b
Exit status: 0 no error found, 1 findings, 2 usage, 3 cannot inspect,
4 looked, but could not see everything.
"""


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EPILOG,
    invoke_without_command=True,
    subcommand_metavar="COMMAND [ARGS]...",
)
@click.version_option(__version__, prog_name=NAME)
@click.pass_context
def hvoinspect(context: click.Context) -> None:
    """Show what a Linux kernel's struct page array (the vmemmap) really looks like under HVO."""
    if context.invoked_subcommand is None:
        # No command is a usage error: 0 would tell a script that all is well.
        click.echo(context.get_help(), err=True)
        context.exit(ExitStatus.USAGE)


hvoinspect.add_command(scan)
hvoinspect.add_command(capture)
hvoinspect.add_command(completion)
hvoinspect.add_command(diff)
hvoinspect.add_command(doctor)
hvoinspect.add_command(export)
hvoinspect.add_command(fleet)
hvoinspect.add_command(hotpath)
hvoinspect.add_command(memdesc)
hvoinspect.add_command(page)
hvoinspect.add_command(report)
hvoinspect.add_command(watch)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit; print an error as one line why and one line what to do."""
    status = _run(sys.argv[1:] if arguments is None else arguments)
    if sys.stdout is not None:
        try:
            sys.stdout.flush()
        except OSError:
            # Python would flush again when it exits, and exit with a status of its own.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(status)


def _run(arguments: Sequence[str]) -> int:
    """Run the command line and return the exit status."""
    context: click.Context | None = None
    try:
        if COMPLETE in os.environ:
            return shell_complete(hvoinspect, {}, NAME, COMPLETE, os.environ[COMPLETE])
        # Not click's own `main`, which exits with 1 at a broken pipe and at Ctrl-C.
        with hvoinspect.make_context(NAME, list(arguments)) as context:
            hvoinspect.invoke(context)
    except click.exceptions.Exit as end:
        return end.exit_code
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - what is unknown is told as a bug
        return _tell(error, context)
    return ExitStatus.OK


def _tell(error: BaseException, context: click.Context | None) -> int:
    """Print what ended the command, and return the exit status that says so.

    `context` is the whole command line's, None if it did not come to that.
    """
    if isinstance(error, BrokenPipeError):
        return BROKEN_PIPE
    if isinstance(error, KeyboardInterrupt | click.Abort):
        print_lines("interrupted")
        return INTERRUPTED
    if isinstance(error, click.ClickException):
        command = context and context.invoked_subcommand
        error = as_usage_error(error, f"{NAME} {command or ''}")
    told = as_told(error, verbose=context is not None and VERBOSE in context.meta)
    print_lines(told.why, told.remedy)
    return told.status
