"""The command line of the benchmarks."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table as Shown

from bench import document, dump, fleet, live, memdesc, startup, terabyte
from bench.machine import machine, processors, sentence
from bench.ours import PROJECT
from bench.tables import Kind, Table
from hvoinspect.errors import HvoinspectError
from lab.errors import EXIT_CANNOT_RUN, LabError
from lab.kernels import Cache

SCHEMA = "hvoinspect.bench/1"
PARTS = ("startup", "dump", "memdesc", "terabyte", "fleet", "live", "guest-900g")
USUAL = PARTS[:-1]
MIN_COLUMNS = 130
DOCUMENT = PROJECT / "docs" / "performance.md"

EPILOG = """
\b
Examples:
  bench                                all but the guest of 900 GiB, half an hour
  bench dump --jobs 1                  one part, on one process
  bench terabyte --size 64             a smaller machine
  bench guest-900g --write             the real thing, and into docs/performance.md
"""


def main() -> None:
    """Run the command line; the one place where errors are caught."""
    try:
        bench(prog_name="bench")
    except (LabError, HvoinspectError) as error:
        _say(error.why)
        _say(error.remedy)
        sys.exit(EXIT_CANNOT_RUN)
    except OSError as error:
        _say(f"a dump cannot be made or read: {error}")
        _say("give a --folder that may be written, on a file system with 10 GB of room")
        sys.exit(EXIT_CANNOT_RUN)


@click.command(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("parts", nargs=-1, type=click.Choice(PARTS), metavar="[PART]...")
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    default=processors(),
    show_default="all processors",
    help="Processes that a scan, and a bound, may use; a guest has one processor.",
)
@click.option(
    "--repeats", type=click.IntRange(min=1), default=5, show_default=True, help="Of each, in turns."
)
@click.option(
    "--size",
    "sizes",
    type=click.IntRange(min=16),
    multiple=True,
    metavar="GIB",
    help=f"Made-up machines, multiples of 16; without: {', '.join(map(str, terabyte.SIZES))}.",
)
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where dumps are kept and machines made; without: in the lab's cache.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--write", is_flag=True, help="Put the tables into docs/performance.md.")
def bench(
    parts: tuple[str, ...],
    jobs: int,
    repeats: int,
    sizes: tuple[int, ...],
    folder: Path | None,
    as_json: bool,
    write: bool,
) -> None:
    """Measure hvoinspect beside its rivals, and beside what cannot be beaten.

    A PART is one of startup, dump, memdesc, terabyte, fleet, live and guest-900g; without any, all
    but the last. Times are of the least of some repeats, each in turn with its rival. Exit status:
    0, whether goals are met or not; 3 if something cannot be measured here, or is wrong.
    """
    if any(size % 16 for size in sizes):
        raise click.UsageError("a made-up machine has a multiple of 16 GiB")
    place = folder or Cache().folder / "bench"
    place.mkdir(parents=True, exist_ok=True)
    measure = {
        "startup": lambda: startup.startup(repeats),
        "dump": lambda: dump.dump(repeats, jobs, place, _say),
        "memdesc": lambda: memdesc.memdesc(repeats, jobs, place, _say),
        "terabyte": lambda: terabyte.terabyte(repeats, jobs, place, sizes or terabyte.SIZES, _say),
        "fleet": lambda: fleet.fleet(repeats, jobs, place, _say),
        "live": lambda: live.guests(repeats, 1, _say),
        "guest-900g": lambda: live.large_guest(repeats, 1, _say),
    }
    where = machine()
    measured = {}
    console = _console()
    for part in parts or USUAL:
        measured[part] = measure[part]()
        if not as_json:
            for table in measured[part]:
                show(table, console)
        if write:
            command = _command(part, jobs, repeats, sizes if part == "terabyte" else ())
            text = f"`{command}`, on {sentence(where)}\n\n{document.markdown(measured[part])}"
            document.rewrite(DOCUMENT, part, text)
    if as_json:
        found = {part: [table.as_json() for table in tables] for part, tables in measured.items()}
        whole = {"schema": SCHEMA, "machine": where, "jobs": jobs, "repeats": repeats}
        click.echo(json.dumps({**whole, "parts": found}))
    else:
        console.print(sentence(where), highlight=False)


def _console() -> Console:
    console = Console()
    console.width = max(console.width, MIN_COLUMNS)  # a table in a file is no use if it is cut off
    return console


def show(table: Table, console: Console) -> None:
    """Print a table."""
    head, *rows = table.lines()
    shown = Shown(title=table.title, title_justify="left", box=None, pad_edge=False)
    for title, column in zip(head, table.shown, strict=True):
        shown.add_column(
            title, justify="left" if column.kind is Kind.TEXT else "right", no_wrap=True
        )
    for row in rows:
        shown.add_row(*row)
    console.print(shown)
    for note in table.notes:
        console.print(note, style="dim", highlight=False)
    console.print()


def _command(part: str, jobs: int, repeats: int, sizes: Sequence[int]) -> str:
    """Return the command that measures a part anew."""
    more = "".join(f" --size {size}" for size in sizes)
    return f"scripts/bench {part} --jobs {jobs} --repeats {repeats}{more}"


def _say(text: str) -> None:
    click.echo(f"bench: {text}", err=True)
