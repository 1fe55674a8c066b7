"""drgn's plugin: the command `%hvo`, and helpers for scripts (`hvoinspect.plugin.helpers`).

drgn imports this for every program that it opens wherever hvoinspect is installed (entry point
`hvo` of the group `drgn.plugins`), so it imports nothing but drgn until the command is run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from drgn import Program, ProgramFlags
from drgn.commands import custom_command, parse_shell_command


def _is_linux(prog: Program) -> bool:
    return bool(prog.flags & ProgramFlags.IS_LINUX_KERNEL)


@custom_command(
    description="HugeTLB Vmemmap Optimization: is it on, what does it save, is it intact",
    usage="**hvo** [**scan** | **page** | **memdesc**] [*argument* ...]",
    long_description="""
    Show what the struct page array really looks like. Without an argument it scans;
    hvo page ADDRESS explains one struct page. These are the commands of hvoinspect,
    of the kernel that drgn has open: hvo COMMAND --help tells all that they can do.
    """,
    parse=parse_shell_command,
    enabled=_is_linux,
)
def _cmd_hvo(prog: Program, name: str, args: Sequence[str], **_: Any) -> None:
    from hvoinspect.plugin.command import run  # noqa: PLC0415 - heavy

    run(prog, name, args)
