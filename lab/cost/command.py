"""The command `lab cost`."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

import click

from lab.cost import experiment, figures, workload
from lab.cost.hits import count
from lab.errors import LabError
from lab.kernels import Cache

KERNELS = ("6.12", "7.0", "7.1", "7.3")
_SIDES = {"off": (False,), "on": (True,), "both": (False, True)}

EPILOG = """
\b
Examples:
  lab cost                                 all of it, some 8 minutes
  lab cost 7.0 7.1 --operation zap-file    one operation, on either side of the rework
  lab cost --repeat 2 -o cost.json         twice, to see that the figures are the same
"""


@click.command(epilog=EPILOG)
@click.argument("names", nargs=-1, metavar="[KERNEL]...")
@click.option("--hvo", type=click.Choice(list(_SIDES)), default="both", show_default=True)
@click.option(
    "--operation", "chosen", multiple=True, metavar="NAME", help="Only this one; may be repeated."
)
@click.option(
    "--repeat", type=click.IntRange(1, 20), default=1, show_default=True, help="Boots of a guest."
)
@click.option(
    "--hits", is_flag=True, help="Also count how often compound_head() runs; takes far longer."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--markdown", is_flag=True, help="Print Markdown.")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write the JSON object to a new file.",
)
def cost(
    names: tuple[str, ...],
    hvo: str,
    chosen: tuple[str, ...],
    repeat: int,
    hits: bool,
    as_json: bool,
    markdown: bool,
    output: Path | None,
) -> None:
    """Count the instructions a page of map, fault, zap, fork, GUP and read.

    Each KERNEL (without any: 6.12, 7.0, 7.1 and 7.3) boots with HVO off and on, in a guest whose
    clock counts instructions, and does each operation with N pages and with 2 N, so that what is
    done once falls out. It refuses to report where a loop of known length is not counted exactly.
    Instructions are not time.

    With --hits the recorder of `hvoinspect hotpath` counts, in one more guest a kernel, the runs of
    compound_head() a page; where the lab has no vmlinux with DWARF (`lab fetch --debug`), calls of
    the functions that have it.
    """
    if as_json and markdown:
        raise click.UsageError("--json and --markdown are two forms: choose one")
    if output is not None and os.path.lexists(output):
        raise click.UsageError(f"{output} exists already: give another name")
    with tempfile.TemporaryDirectory(prefix="hvolab-") as folder:
        program = workload.build(Path(folder))
        operations = _chosen(workload.operations(program), chosen)
        kernels = tuple(dict.fromkeys(names or KERNELS))
        for name in kernels:
            Cache().get(name, say=lambda text: click.echo(f"lab: {text}", err=True))
        costs = _measure(kernels, _SIDES[hvo], program, operations, repeat, hits=hits)
    result = json.dumps(figures.to_json(costs, operations, experiment.ARGUMENTS)) + "\n"
    if output is not None:
        _write(output, result)
    if as_json:
        click.echo(result, nl=False)
    elif markdown:
        click.echo(figures.markdown(costs, operations), nl=False)
    else:
        click.echo(figures.text(costs), nl=False)


def _chosen(
    known: tuple[workload.Operation, ...], names: tuple[str, ...]
) -> tuple[workload.Operation, ...]:
    known = tuple(one for one in known if one.name != workload.CALIBRATE)
    if unknown := set(names) - {one.name for one in known}:
        raise click.UsageError(
            f"there is no operation {', '.join(sorted(unknown))}: choose of"
            f" {', '.join(one.name for one in known)}"
        )
    return tuple(one for one in known if not names or one.name in names)


def _measure(
    kernels: tuple[str, ...],
    sides: tuple[bool, ...],
    program: Path,
    operations: tuple[workload.Operation, ...],
    boots: int,
    *,
    hits: bool,
) -> list[figures.Cost]:
    guests = len(kernels) * (len(sides) * boots + hits)
    now = ""
    with click.progressbar(
        range(guests * (1 + len(operations))),
        label=f"lab: {guests} guests",
        file=sys.stderr,
        item_show_func=lambda _: now,
        width=12,
    ) as bar:

        def started(doing: str) -> None:
            nonlocal now
            now = doing
            bar.update(1)

        costs = []
        for kernel in kernels:
            places = [experiment.Place(kernel, on) for on in sides]
            found = [
                cost
                for place in places
                for cost in experiment.costs(
                    place, program, operations, boots=boots, started=started
                )
            ]
            if hits:
                # HVO changes what a hit costs, not how many there are.
                counted = count(places[-1], program, operations, started)
                found = figures.with_hits(found, counted)
            costs += found
    return costs


def _write(path: Path, text: str) -> None:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise LabError(
            f"{path} cannot be written: {error.strerror}", "give a path this user may write"
        ) from None
