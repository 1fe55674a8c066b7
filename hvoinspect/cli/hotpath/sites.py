"""`hvoinspect hotpath sites`: where the helpers of the hot path were inlined."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hvoinspect.cli.options import output_options
from hvoinspect.cli.output import check_output, emit
from hvoinspect.cli.progress import progress_bar
from hvoinspect.errors import HvoinspectError

if TYPE_CHECKING:
    from hvoinspect.hotpath.sitesfile import Sites

EPILOG = """
Without --vmlinux and --sites it is about the running kernel, whose vmlinux is
looked for where debug packages put it, below /usr/lib/debug. A host needs
none: what -o wrote elsewhere is taken from

\b
  $XDG_DATA_HOME/hvoinspect/sites/BUILD_ID.json  or
  /var/lib/hvoinspect/sites/BUILD_ID.json

\b
Examples:
  hvoinspect hotpath sites                 the running kernel
  hvoinspect hotpath sites --vmlinux vmlinux -o sites.json
  hvoinspect hotpath sites --sites sites.json --all
  hvoinspect hotpath sites --compare 7.0.json vmlinux-7.1
  hvoinspect hotpath sites --json | jq '.copies[] | select(.in_loop)'

\b
Exit status: 0 done, 2 usage, 3 cannot inspect: a file that is no vmlinux
with DWARF of x86-64, or no file of sites.
"""

_path = click.Path(path_type=Path)

Progress = Callable[[int, int], None]


@click.command(epilog=EPILOG, short_help="Find the inlined copies of compound_head() and its kin.")
@click.option("--vmlinux", type=_path, metavar="PATH", help="Search this vmlinux with DWARF.")
@click.option("--sites", "file", type=_path, metavar="FILE", help="Show what -o wrote; no DWARF.")
@click.option(
    "--compare",
    "pair",
    type=(_path, _path),
    metavar="A B",
    help="Put two kernels side by side, each a vmlinux or a file that -o wrote.",
)
@click.option("--all", "every", is_flag=True, help="Show all functions.")
@output_options
def sites(
    vmlinux: Path | None,
    file: Path | None,
    pair: tuple[Path, Path] | None,
    every: bool,
    as_json: bool,
    output: Path | None,
    force: bool,
    quiet: bool,
) -> None:
    """Find the inlined copies of compound_head() and its kin in a kernel.

    A copy is code of one helper in one function; what a function runs many times a call is in a
    loop. Helpers call helpers, so that copies lie in copies, and bytes do not add up.
    """
    if sum(given is not None for given in (vmlinux, file, pair)) > 1:
        raise click.UsageError("--vmlinux, --sites and --compare exclude each other")
    check_output(output, force=force)

    from hvoinspect.hotpath.sitesfile import read_sites, sites_json  # noqa: PLC0415
    from hvoinspect.hotpath.totals import compare_sites  # noqa: PLC0415
    from hvoinspect.report.sites import (  # noqa: PLC0415
        comparison_json,
        show_comparison,
        show_sites,
    )

    with progress_bar("searching debug data", quiet=quiet) as progress:
        if pair is not None:
            comparison = compare_sites(*(_either(path, progress) for path in pair))
        elif file is not None:
            found = read_sites(file)
        else:
            found = _searched(vmlinux, progress) if vmlinux else _running(progress)
    emit(
        lambda: comparison_json(comparison) if pair else sites_json(found),
        lambda console: (
            show_comparison(comparison, console)
            if pair
            else show_sites(found, console, every=every)
        ),
        output=output,
        force=force,
        as_json=as_json,
        quiet=quiet,
    )


def _either(path: Path, progress: Progress) -> Sites:
    """Return the sites in `path`, a vmlinux or a file of sites."""
    from hvoinspect.hotpath.sitesfile import read_sites  # noqa: PLC0415

    try:
        with path.open("rb") as file:
            is_elf = file.read(4) == b"\x7fELF"
    except (OSError, ValueError):  # whoever reads it will say why
        is_elf = False
    return _searched(path, progress) if is_elf else read_sites(path)


def _searched(vmlinux: Path, progress: Progress) -> Sites:
    from hvoinspect.hotpath.sites import sites_of  # noqa: PLC0415

    return sites_of(vmlinux, progress)


def _running(progress: Progress) -> Sites:
    """Return the sites of the running kernel, from its vmlinux or else from a kept file."""
    from hvoinspect.hotpath.sitesfile import find_sites  # noqa: PLC0415
    from hvoinspect.hotpath.vmlinux import find_vmlinux  # noqa: PLC0415
    from hvoinspect.target.notes import running_build_id  # noqa: PLC0415

    build_id = running_build_id()
    try:
        vmlinux = find_vmlinux(build_id, os.uname().release)
    except HvoinspectError:
        kept = find_sites(build_id) if build_id else None
        if kept is None:
            raise
        return kept
    return _searched(vmlinux, progress)
