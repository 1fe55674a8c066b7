"""`hvoinspect fleet scan`: many dumps, on a cluster or on this host."""

from __future__ import annotations

from pathlib import Path

import click

from hvoinspect.cli.options import verbose_option
from hvoinspect.cli.output import destination, print_page, print_text, write_output
from hvoinspect.cli.progress import progress_bar
from hvoinspect.errors import ExitStatus, HvoinspectError

EPILOG = """
DUMPS are dumps or captures, patterns, or folders of which all files in and
below are meant. Each is scanned by a process of its own; one that crashes it,
hangs, or is no dump stops no other. On a cluster the workers must have
hvoinspect installed, and see the dumps at the same paths. If a worker dies,
others scan its dumps.

\b
Examples:
  hvoinspect fleet scan /var/crash -o scans/
  hvoinspect fleet scan 'dumps/*' --scheduler tcp://head:8786 -o scans/
  hvoinspect fleet scans/                  what they come to

\b
Exit status: 0 all scanned, 1 findings, 2 usage, 3 cannot inspect any,
4 some could not be scanned, or not wholly.
"""


@click.command(epilog=EPILOG, short_help="Scan many dumps, on a Dask cluster or here.")
@click.argument("dumps", nargs=-1, required=True, metavar="DUMPS...")
@click.option(
    "--scheduler",
    metavar="ADDRESS",
    help="Scan on the cluster of this Dask scheduler; without, on this host.",
)
@click.option(
    "--timeout",
    "seconds",
    type=click.IntRange(1, 1_000_000),
    default=1800,
    show_default=True,
    metavar="SECONDS",
    help="Give a dump up after so long.",
)
@click.option(
    "--jobs",
    type=click.IntRange(1, 256),
    metavar="N",
    help="Scan N dumps at a time on this host; by default as many as there are CPUs.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write each dump's scan to a file in DIR, which must not exist.",
)
@click.option("--skip-existing", is_flag=True, help="Leave out dumps whose file in DIR exists.")
@click.option("-f", "--force", is_flag=True, help="Overwrite files in DIR.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
@verbose_option
@click.pass_context
def scan(
    context: click.Context,
    dumps: tuple[str, ...],
    scheduler: str | None,
    seconds: int,
    jobs: int | None,
    as_json: bool,
    output: Path | None,
    skip_existing: bool,
    force: bool,
    quiet: bool,
) -> None:
    """Scan many dumps, and write a scan's JSON for each."""
    if scheduler is not None and jobs is not None:
        raise click.UsageError("--jobs is for this host: a cluster's workers have their own number")

    from hvoinspect.api.fleet import scan_fleet  # noqa: PLC0415
    from hvoinspect.fleet.files import find, named  # noqa: PLC0415
    from hvoinspect.fleet.summary import exit_status, show, to_json  # noqa: PLC0415

    files, refused = find(dumps, "")
    goals: dict[Path, Path | None] = dict.fromkeys(files)
    if output is not None:
        _make(output)
        names = named(files)
        goals = {file: output / f"{names[file]}.json" for file in files}
        if skip_existing:
            goals = {file: goal for file, goal in goals.items() if goal and not goal.exists()}
        for goal in goals.values():
            if goal is not None:
                destination(goal, force=force, streams=False)
    with progress_bar("scanning dumps", quiet=quiet) as progress:
        found = scan_fleet(
            goals,
            scheduler,
            lambda path, text: write_output(path, text, force=force),
            progress,
            seconds=seconds,
            jobs=jobs,
            refused=refused,
            skipped=len(files) - len(goals),
        )
    if as_json:
        print_text(to_json(found))
    elif not quiet:
        print_page(lambda console: show(found, console))
    context.exit(exit_status(found))


def _make(folder: Path) -> None:
    """Make the folder for scans, if it is not there. Raises HvoinspectError."""
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise HvoinspectError(
            f"{folder} is no folder, and none can be made there: {error.strerror}",
            "give a folder that this user may write to, with -o DIR",
            ExitStatus.USAGE,
        ) from error
