"""`hvoinspect watch`: scans at an interval, and what changes."""

from __future__ import annotations

import os
import sys

import click

from hvoinspect.cli.options import scan_options, target_options, verbose_option
from hvoinspect.target.choice import Target

EPILOG = """
\b
Examples:
  sudo hvoinspect watch                    the running kernel, every 5 seconds
  sudo hvoinspect watch -i 60 >> hvo.log   a line a minute
  sudo hvoinspect watch -n 3 --json        three scans, an object a line
  hvoinspect watch --qemu qmp.sock         a QEMU guest, from outside

\b
Keys: q quit, p pause and resume, space scan now, ? help.

\b
Without a terminal it prints a line a scan. A scan that fails is told, and
tried again at the next; with --json it is told on stderr.

\b
Exit status: 0 no error found in any scan, 1 findings, 2 usage, 3 cannot
inspect, 4 looked, but a scan failed or could not see everything. Ctrl-C and
SIGTERM end it as q does.
"""

INTERVAL_SECONDS = 5.0


@click.command(epilog=EPILOG, short_help="Scan at an interval, and show what changes.")
@target_options
@click.option("--json", "as_json", is_flag=True, help="Print each scan as JSON, one a line.")
@verbose_option
@click.option(
    "-i",
    "--interval",
    type=click.FloatRange(0.1, 1_000_000),
    default=INTERVAL_SECONDS,
    metavar="SECONDS",
    help="From the start of one scan to the start of the next; by default 5.",
)
@click.option(
    "-n",
    "--count",
    type=click.IntRange(1),
    metavar="N",
    help="End after N scans.",
)
@scan_options
@click.option("--strict", is_flag=True, help="Let warnings count as findings.")
@click.pass_context
def watch(
    context: click.Context,
    target: Target,
    as_json: bool,
    interval: float,
    count: int | None,
    ignore: tuple[str, ...],
    exhaustive: bool,
    jobs: int | None,
    strict: bool,
) -> None:
    """Scan again and again, and show what HVO saves, what is found, and what changes.

    Changes are told since the scan before and since the first. The kernel is opened once.
    """
    from hvoinspect.api.watch import Watched  # noqa: PLC0415
    from hvoinspect.cli.watch.loop import Loop, Wish  # noqa: PLC0415
    from hvoinspect.cli.watch.views import Lines, Screen  # noqa: PLC0415
    from hvoinspect.report.rules import known_rules  # noqa: PLC0415

    watched = Watched(target, known_rules(ignore), exhaustive=exhaustive, jobs=jobs)
    screen = not as_json and _is_terminal(1) and os.environ.get("TERM", "dumb") != "dumb"
    loop = Loop(
        watched.scan,
        Wish(interval, count, strict),
        Screen() if screen else Lines(as_json=as_json),
        0 if screen and _is_terminal(0) else None,
    )
    context.exit(loop.run())


def _is_terminal(descriptor: int) -> bool:
    stream = sys.stdin if descriptor == 0 else sys.stdout
    return stream is not None and stream.isatty() and os.isatty(descriptor)
