"""`hvoinspect export`: a scan as metrics, for Prometheus and whoever reads its formats."""

from __future__ import annotations

import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from hvoinspect.cli.options import VERBOSE, scan_options, target_options, verbose_option
from hvoinspect.cli.output import destination, print_text, write_output
from hvoinspect.cli.progress import progress_bar
from hvoinspect.cli.tell import as_told, print_lines
from hvoinspect.target.choice import Target

if TYPE_CHECKING:
    from hvoinspect.api.export import Publish, Scan
    from hvoinspect.report.openmetrics import Snapshot
    from hvoinspect.report.result import ScanResult

EPILOG = """
\b
Examples:
  sudo hvoinspect export | promtool check metrics
  sudo hvoinspect export --textfile \\
      /var/lib/prometheus/node-exporter/hvoinspect.prom
  sudo hvoinspect export --listen 127.0.0.1:9751 --interval 300
  hvoinspect export --demo after --format openmetrics

\b
ADDRESS is a port, HOST:PORT or [IPV6]:PORT; without a host it is 127.0.0.1.
The metrics are at /metrics. A scrape never waits for a scan: it gets the last
one, and while there was none yet, none of its metrics.

\b
A scan that fails is exported too: hvoinspect_scan_success is 0, and of all
that a scan would have seen there is no sample. --listen goes on after it.

\b
Exit status: 0 exported, 2 usage, 3 cannot inspect. Findings and what could
not be seen are metrics, and do not change it. With --listen or --interval it
is 0 once SIGTERM or SIGINT ends it.
"""

INTERVAL_SECONDS = 300
LOOPBACK = "127.0.0.1"
READABLE_BY_ALL = 0o644
"""node_exporter runs as a user of its own."""
MAX_TEXTFILE = 1 << 18
"""Bytes of a file of metrics that are read back; what is exported comes to some 10 KiB."""


def _address(
    _context: click.Context, _parameter: click.Parameter, text: str | None
) -> tuple[str, int] | None:
    """Take a host and a port from an address."""
    if text is None:
        return None
    found = re.fullmatch(r"(?:(?:\[([^\[\]]+)\]|([^:\[\]]*)):)?([0-9]{1,5})", text)
    if not found or int(found[3]) > 0xFFFF:
        raise click.BadParameter(f"{text} is no port, HOST:PORT or [IPV6]:PORT")
    return found[1] or found[2] or LOOPBACK, int(found[3])


def _textfile(
    _context: click.Context, _parameter: click.Parameter, path: Path | None
) -> Path | None:
    """Take a path that node_exporter will read."""
    if path is not None and path.suffix != ".prom":
        raise click.BadParameter(
            f"{path} does not end in .prom, and node_exporter reads no other files"
        )
    return path


@click.command(epilog=EPILOG, short_help="Give a scan as metrics, to Prometheus and others.")
@target_options
@click.option(
    "--textfile",
    type=click.Path(path_type=Path),
    callback=_textfile,
    metavar="PATH",
    help="Write the metrics to PATH, for node_exporter's textfile collector; it must end in "
    ".prom, and is replaced, whole or not at all.",
)
@click.option(
    "--listen",
    callback=_address,
    metavar="ADDRESS",
    help="Answer scrapes at ADDRESS until ended, and scan every --interval.",
)
@click.option(
    "--interval",
    type=click.IntRange(1, 1_000_000),
    metavar="SECONDS",
    help=f"Scan at most this often, however often it is scraped; by default {INTERVAL_SECONDS}. "
    "With --textfile: do not end, but write it anew that often.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "openmetrics"]),
    help="What to print: Prometheus's text format 0.0.4 (the default) or OpenMetrics 1.0.0. "
    "With --listen whoever scrapes chooses.",
)
@scan_options
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors and the metrics.")
@verbose_option
@click.pass_context
def export(
    context: click.Context,
    target: Target,
    textfile: Path | None,
    listen: tuple[str, int] | None,
    interval: int | None,
    form: str | None,
    ignore: tuple[str, ...],
    exhaustive: bool,
    jobs: int | None,
    quiet: bool,
) -> None:
    """Scan, and give what was seen as metrics: print them, write them to a file, or serve them.

    Without --textfile and --listen they are printed.
    """
    _check_options(textfile, listen, interval, form)

    from hvoinspect.api.export import attempt, keep_scanning  # noqa: PLC0415
    from hvoinspect.api.scan import scan_target  # noqa: PLC0415
    from hvoinspect.report.openmetrics import Snapshot, render  # noqa: PLC0415
    from hvoinspect.report.rules import known_rules  # noqa: PLC0415

    ignored = known_rules(ignore)
    verbose = VERBOSE in context.meta

    def scan() -> ScanResult:
        with progress_bar("reading the vmemmap", quiet=quiet or repeats) as progress:
            return scan_target(target, progress, ignored, exhaustive=exhaustive, jobs=jobs)

    def write(snapshot: Snapshot) -> None:
        assert textfile is not None  # noqa: S101 - only then it is called
        write_output(textfile, render(snapshot), force=True, mode=READABLE_BY_ALL)

    repeats = listen is not None or interval is not None
    before = Snapshot(last_success=_last_success(textfile)) if textfile else Snapshot()
    seconds = INTERVAL_SECONDS if interval is None else interval

    def tell(error: Exception) -> None:
        told = as_told(error, verbose=verbose)
        print_lines(told.why, told.remedy)

    with _interrupts(end_well=repeats) as interrupts:

        def repeat(publish: Publish) -> None:
            keep_scanning(
                lambda: interrupts.scan(scan), publish, tell, seconds, before, interrupts.sleep
            )

        if listen is not None:
            _serve(listen, repeat, quiet=quiet)
        elif repeats:
            repeat(write)
        else:
            snapshot, failure = attempt(lambda: interrupts.scan(scan), before)
            if textfile is None:
                print_text(render(snapshot, "openmetrics" if form == "openmetrics" else "text"))
            else:
                write(snapshot)
            if failure is not None:
                raise failure


def _check_options(
    textfile: Path | None,
    listen: tuple[str, int] | None,
    interval: int | None,
    form: str | None,
) -> None:
    """Raise click.UsageError if options do not go together, HvoinspectError if no file can be."""
    if textfile and listen:
        raise click.UsageError("--textfile and --listen exclude each other: give one of them")
    if interval is not None and not (textfile or listen):
        raise click.UsageError("--interval is for --listen and --textfile")
    if form is not None and (textfile or listen):
        raise click.UsageError("--format is for metrics that are printed")
    if textfile is not None:
        destination(textfile, force=True, streams=False)


def _serve(address: tuple[str, int], repeat: Callable[[Publish], None], *, quiet: bool) -> None:
    """Answer scrapes with what `repeat` publishes. Raises HvoinspectError if it cannot listen."""
    from hvoinspect.report.scrape import PATH, Scrapes, address_text  # noqa: PLC0415

    scrapes = Scrapes(*address)
    where = address_text(*scrapes.address)

    def publish(snapshot: Snapshot) -> None:
        scrapes.snapshot = snapshot

    if not scrapes.loopback:
        print_lines(f"{where} is no loopback address: others can read the metrics from there")
    with scrapes.answering():
        if not quiet:
            print_lines(f"listening at http://{where}{PATH}")
        repeat(publish)


class _Interrupts:
    """Raises KeyboardInterrupt for SIGTERM, too, and again where it got lost.

    It does where foreign code that calls back makes another error of it, and where it is raised in
    a finalizer, which nobody called.
    """

    def __init__(self) -> None:
        self._raised = False

    def interrupt(self, _number: int, _frame: FrameType | None) -> None:
        """Handle a signal."""
        self._raised = True
        raise KeyboardInterrupt

    def ignored(self, error: sys.UnraisableHookArgs) -> None:
        """Say what cannot be raised, but nothing of an interrupt: it will be raised again."""
        if error.exc_type is not KeyboardInterrupt:
            sys.__unraisablehook__(error)

    def scan(self, scan: Scan) -> ScanResult:
        """Make a scan. Raises what it raises, and an interrupt that got lost in it."""
        try:
            return scan()
        finally:
            self._raise_again()

    def sleep(self, seconds: float) -> None:
        """Do nothing for a while. Raises an interrupt that got lost before."""
        self._raise_again()
        time.sleep(seconds)

    def _raise_again(self) -> None:
        if self._raised:
            raise KeyboardInterrupt


@contextmanager
def _interrupts(*, end_well: bool) -> Iterator[_Interrupts]:
    """Let SIGTERM interrupt as SIGINT does; `end_well`: and let either end what runs, no more."""
    interrupts = _Interrupts()
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, interrupts.interrupt) for number in numbers}
    hook, sys.unraisablehook = sys.unraisablehook, interrupts.ignored
    try:
        yield interrupts
    except KeyboardInterrupt:
        if not end_well:
            raise
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


def _last_success(path: Path) -> float | None:
    """Return when a scan last succeeded, as the file of metrics says that is to be replaced."""
    from hvoinspect.report.openmetrics import last_success_in  # noqa: PLC0415

    try:
        with path.open("rb") as file:
            text = file.read(MAX_TEXTFILE).decode(errors="replace")
    except OSError:
        return None
    return last_success_in(text, time.time())
