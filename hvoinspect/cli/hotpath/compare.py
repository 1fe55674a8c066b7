"""`hvoinspect hotpath compare`: what two kernels' functions run, before and after."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from hvoinspect.cli.options import output_options
from hvoinspect.cli.output import check_output, emit

if TYPE_CHECKING:
    from hvoinspect.hotpath.run import Run

EPILOG = """
BEFORE and AFTER are each a run that `hvoinspect hotpath record -o FILE` wrote,
or a folder of them (its *.json); --before and --after add further ones. With
two or more runs a side the ratios have intervals, and the changes that are
more than chance are marked; five or more make the intervals much narrower.

\b
Examples:
  hvoinspect hotpath compare 7.0.json 7.1.json
  hvoinspect hotpath compare 7.0/ 7.1/     folders of runs
  hvoinspect hotpath compare a1.json b1.json --before a2.json --after b2.json
  hvoinspect hotpath compare 7.0/ 7.1/ --markdown --all -o table.md
  hvoinspect hotpath compare 7.0/ 7.1/ --json | jq '.totals[0].per_unit.ratio'

\b
Exit status: 0 compared, whatever changed, 2 usage, 3 cannot
inspect: a file that is no run.
"""

_path = click.Path(path_type=Path)


@click.command(epilog=EPILOG)
@click.argument("before", type=_path)
@click.argument("after", type=_path)
@click.option(
    "--before", "more_before", type=_path, multiple=True, metavar="PATH", help="Add to BEFORE."
)
@click.option(
    "--after", "more_after", type=_path, multiple=True, metavar="PATH", help="Add to AFTER."
)
@click.option(
    "--per",
    type=click.Choice(["second", "unit"]),
    help="Show hits per second or per unit of work (the default where all runs know theirs).",
)
@click.option(
    "--all", "every", is_flag=True, help="Show all functions, not those that changed most."
)
@click.option(
    "--markdown", "as_markdown", is_flag=True, help="Print, or write to FILE, a Markdown table."
)
@output_options
def compare(
    before: Path,
    after: Path,
    more_before: tuple[Path, ...],
    more_after: tuple[Path, ...],
    per: Literal["second", "unit"] | None,
    every: bool,
    as_markdown: bool,
    as_json: bool,
    output: Path | None,
    force: bool,
    quiet: bool,
) -> None:
    """Compare two kernels, by recordings of their hot paths."""
    if as_json and as_markdown:
        raise click.UsageError("--json and --markdown exclude each other: give one of them")
    check_output(output, force=force)

    from hvoinspect.hotpath.compare import compare as compare_runs  # noqa: PLC0415
    from hvoinspect.hotpath.runfiles import run_files  # noqa: PLC0415
    from hvoinspect.report.compare import to_json  # noqa: PLC0415
    from hvoinspect.report.compare_page import show, to_markdown  # noqa: PLC0415

    files = (
        run_files("before", [before, *more_before]),
        run_files("after", [after, *more_after]),
    )
    comparison = compare_runs(*(_runs(paths) for paths in files))
    if per == "unit" and comparison.unit is None:
        raise click.UsageError("not all runs know how many units of work they did, of one kind")
    by = per or ("unit" if comparison.unit else "second")
    emit(
        lambda: to_markdown(comparison, by, every=every) if as_markdown else to_json(comparison),
        lambda console: show(comparison, console, by, every=every),
        output=output,
        force=force,
        as_json=as_json or as_markdown,
        quiet=quiet,
    )


def _runs(files: list[Path]) -> list[Run]:
    from hvoinspect.hotpath.run import read_run  # noqa: PLC0415

    return [read_run(file) for file in files]
