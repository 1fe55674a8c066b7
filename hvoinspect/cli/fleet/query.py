"""`hvoinspect fleet SCANS...`: what many scans come to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hvoinspect.cli.options import output_options, width_option
from hvoinspect.cli.output import check_output, emit
from hvoinspect.cli.progress import progress_bar
from hvoinspect.errors import ExitStatus, printable

if TYPE_CHECKING:
    from hvoinspect.fleet.database import Database

EPILOG = """
SCANS are files that `hvoinspect scan --json` or `scan -o` wrote, patterns, or
folders of them.

\b
Examples:
  hvoinspect fleet scans/ --sql "SELECT release, count(*) FROM latest GROUP BY 1"
  hvoinspect fleet scans/ --parquet tables/
  hvoinspect fleet scans/ --sql "SELECT * FROM outliers" --parquet out.parquet

\b
Exit status: 0 answered, 2 usage, 3 cannot inspect, 4 some could not be read.
"""


@click.command(epilog=EPILOG, short_help="Tell what many scans come to (the default).")
@click.argument("scans", nargs=-1, metavar="SCANS...")
@click.option("--sql", metavar="QUERY", help="Ask this, in DuckDB's SQL, of the tables.")
@click.option("--schema", is_flag=True, help="Describe the tables and views; read no scan.")
@click.option(
    "--parquet",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Write all tables to the folder PATH, or what --sql returns (without: the table hosts) to "
    "a file PATH that ends in .parquet.",
)
@click.option(
    "--jobs",
    type=click.IntRange(1, 256),
    metavar="N",
    help="Read in N processes; by default as many as there are CPUs.",
)
@width_option
@output_options
@click.pass_context
def query(
    context: click.Context,
    scans: tuple[str, ...],
    sql: str | None,
    schema: bool,
    parquet: Path | None,
    jobs: int | None,
    width: int | None,
    as_json: bool,
    output: Path | None,
    force: bool,
    quiet: bool,
) -> None:
    """Tell what many scans come to: of each host its newest.

    Files that are no scans are told, and stop nothing.
    """
    if not scans and not schema:
        raise click.UsageError("give SCANS: files or folders")
    if parquet is not None and sql is not None and parquet.suffix != ".parquet":
        raise click.UsageError("with --sql, --parquet takes a file that ends in .parquet")
    check_output(output, force=force)
    if schema:
        from hvoinspect.fleet.schema import schema_to_json, show_schema  # noqa: PLC0415

        emit(
            schema_to_json,
            show_schema,
            output=output,
            force=force,
            as_json=as_json,
            quiet=quiet,
            width=width,
        )
        return

    from hvoinspect.api.fleet import fleet_of  # noqa: PLC0415
    from hvoinspect.fleet import answers, own_question  # noqa: PLC0415
    from hvoinspect.fleet import page as pages  # noqa: PLC0415

    if parquet is not None:
        from hvoinspect.cli.fleet.parquet import check_parquet  # noqa: PLC0415

        check_parquet(parquet, force=force)
    with (
        progress_bar("reading scans", quiet=quiet) as progress,
        fleet_of(scans, progress, jobs=jobs) as database,
    ):
        if parquet is not None:
            _export(database, parquet, sql, force=force)
        elif sql is not None:
            answer = database.ask_freely(sql)
            refused = answers.refused_json(database)
        else:
            fleet = answers.answers(database)
        status = answers.exit_status(database)
        if status is not ExitStatus.OK and (parquet is not None or sql is not None):
            _tell_refused(database)
    if parquet is None and sql is not None:
        emit(
            lambda: own_question.to_json(answer, refused),
            lambda console: own_question.show(answer, console),
            output=output,
            force=force,
            as_json=as_json,
            quiet=quiet,
            width=width,
        )
    elif parquet is None:
        emit(
            lambda: answers.to_json(fleet),
            lambda console: pages.show(fleet, console),
            output=output,
            force=force,
            as_json=as_json,
            quiet=quiet,
            width=width,
        )
    context.exit(status)


def _export(database: Database, parquet: Path, sql: str | None, *, force: bool) -> None:
    from hvoinspect.cli.fleet.parquet import export  # noqa: PLC0415

    export(database, parquet, sql, force=force)


def _tell_refused(database: Database) -> None:
    """Say on stderr what could not be read: the result has no place for it."""
    count = len(database.refused)
    path, why = database.refused[0]
    more = f", and {count - 1:,} more, in the table refused" if count > 1 else ""
    click.echo(printable(f"hvoinspect: could not be read: {path} {why}{more}"), err=True)
