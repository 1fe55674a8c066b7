"""`hvoinspect completion`: what lets a shell complete commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from hvoinspect.cli.output import print_text

EPILOG = """
SHELL is bash (4.4 or later), zsh or fish.

\b
Examples:
  source <(hvoinspect completion bash)       in ~/.bashrc
  hvoinspect completion zsh > ~/.zfunc/_hvoinspect
  hvoinspect completion fish | source        in config.fish

\b
Exit status: 0 printed, 2 usage, 3 cannot inspect.
"""


@click.command(epilog=EPILOG, short_help="Print what lets a shell complete commands.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]), metavar="SHELL")
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a script with which SHELL completes the commands and options of hvoinspect."""
    root = context.find_root()
    name = root.info_name or ""
    kind = get_completion_class(shell)
    if kind is None:
        raise AssertionError(f"click completes for {shell}")
    print_text(kind(root.command, {}, name, f"_{name.upper()}_COMPLETE").source() + "\n")
