"""`hvoinspect hotpath record`: how often the inlined copies run, on the kernel that runs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from hvoinspect.cli.options import output_options
from hvoinspect.cli.output import check_output, emit
from hvoinspect.errors import ExitStatus, HvoinspectError

if TYPE_CHECKING:
    from hvoinspect.hotpath.plan import Backend
    from hvoinspect.hotpath.run import Mode

EPILOG = """
\b
Examples:
  sudo hvoinspect hotpath record -d 10
  sudo hvoinspect hotpath record --sites 7.3.sites -- make -j8
  sudo hvoinspect hotpath record -d 60 --mode sample     on a busy host
  sudo hvoinspect hotpath record --units 10000 --unit zap -o run.json -- ./zap
  sudo hvoinspect hotpath record -d 10 --budget 2 --cgroup /sys/fs/cgroup/web

\b
Exit status: 0 counted, 1 the command failed (its own status is in the
result), 2 usage, 3 cannot count, 4 less was counted than asked for: cut short
by a signal, or probes given up to keep to the budget.
"""

_path = click.Path(path_type=Path)


class _Number(click.FloatRange):
    """A number in a range; click lets "nan" into any."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"{value!r} is no number", param, ctx)
        return number


@click.command(
    epilog=EPILOG,
    context_settings={"allow_interspersed_args": False},
    short_help="Count how often the copies run.",
)
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND...]")
@click.option(
    "-d",
    "--duration",
    type=_Number(min=0, min_open=True, max=30 * 86400),
    metavar="SECONDS",
    help="Count so long, or until COMMAND ends; without either, until Ctrl-C.",
)
@click.option(
    "--mode",
    type=click.Choice(["sites", "functions", "sample"]),
    help="Count each run of a copy; or calls of the functions that have them; or sample the "
    "CPUs. The best that this host allows, if not given.",
)
@click.option(
    "--sites",
    type=_path,
    metavar="FILE",
    help="The copies of this kernel, as `hotpath sites -o` wrote them.",
)
@click.option(
    "--backend",
    type=click.Choice(["bcc", "tracefs"]),
    help="Count by a BPF program, or with nothing but the kernel's tracefs.",
)
@click.option("--pid", type=click.IntRange(min=1), metavar="PID", help="This process only.")
@click.option("--cgroup", type=_path, metavar="PATH", help="Tasks below this cgroup (v2) only.")
@click.option("--command-only", is_flag=True, help="COMMAND's own process only.")
@click.option(
    "--budget",
    type=_Number(min=0, min_open=True, max=100),
    metavar="PERCENT",
    help="Give up the hottest probes where counting takes more of one CPU than this.",
)
@click.option(
    "--units",
    type=_Number(min=0, min_open=True, max=1e18),
    metavar="N",
    help="How many units of work COMMAND does, for hits a unit.",
)
@click.option("--unit", metavar="WORD", help="What a unit of work is, as page.")
@click.option("--all", "every", is_flag=True, help="Show all functions, not just the hottest.")
@output_options
@click.pass_context
def record(
    context: click.Context,
    command: tuple[str, ...],
    duration: float | None,
    mode: str | None,
    sites: Path | None,
    backend: str | None,
    pid: int | None,
    cgroup: Path | None,
    command_only: bool,
    budget: float | None,
    units: float | None,
    unit: str | None,
    every: bool,
    as_json: bool,
    output: Path | None,
    force: bool,
    quiet: bool,
) -> None:
    """Count how often the copies of compound_head() and its kin run, while a COMMAND runs or so.

    Everything that the machine does is counted, unless --pid, --cgroup or --command-only say
    otherwise. Nothing stays attached, however it ends. With --json, what COMMAND prints goes to
    standard error.
    """
    if command_only and not command:
        raise click.UsageError("--command-only wants a COMMAND")
    if sum((command_only, pid is not None)) > 1:
        raise click.UsageError("--command-only and --pid exclude each other: give one of them")
    if mode == "functions" and sites is not None:
        raise click.UsageError("--sites is for the modes sites and sample")
    check_output(output, force=force)
    if pid is not None and not Path("/proc", str(pid)).exists():
        raise HvoinspectError(
            f"there is no process {pid}", "give the number of one that runs", ExitStatus.USAGE
        )

    from hvoinspect.api.hotpath import record_hot_path  # noqa: PLC0415
    from hvoinspect.cli.hotpath.live import live  # noqa: PLC0415
    from hvoinspect.hotpath.backend import Filter  # noqa: PLC0415
    from hvoinspect.hotpath.plan import Wish  # noqa: PLC0415
    from hvoinspect.hotpath.run import run_json  # noqa: PLC0415
    from hvoinspect.hotpath.workload import Request  # noqa: PLC0415
    from hvoinspect.report.hotpath import exit_status, show  # noqa: PLC0415

    wish = Wish(
        cast("Mode | None", mode),
        cast("Backend | None", backend),
        sites,
        Filter(pid, cgroup),
        budget,
    )
    to_stdout = as_json and output is None
    request = Request(command, duration, command_only, units, unit, stdout=2 if to_stdout else None)
    with live(quiet=quiet, request=request) as (watch, watched):
        run = record_hot_path(wish, watched, watch)
    emit(
        lambda: run_json(run),
        lambda console: show(run, console, every=every),
        output=output,
        force=force,
        as_json=as_json,
        quiet=quiet,
    )
    status = exit_status(run)
    if status is ExitStatus.FINDINGS:
        click.echo(f"hvoinspect: the command ended with status {run.workload['status']}", err=True)
    context.exit(status)
