"""A recording of the hot path on a terminal: the table as it grows, and the page at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from hvoinspect.errors import ExitStatus
from hvoinspect.hotpath.run import Count, Mode, Run
from hvoinspect.report.sentence import Sentence, safe
from hvoinspect.report.words import percent_text

SHOWN = 20
LIVE_OVERHEAD = 4
"""Lines of the live view that are not functions, and one that stays free."""
WHAT: dict[Mode, str] = {"sites": "hits", "functions": "calls", "sample": "samples"}
HOW = {
    "sites": "every run of an inlined copy",
    "functions": "calls of the functions that have copies",
    "sample": "samples of the CPUs",
}


def show(run: Run, console: Console, *, every: bool = False) -> None:
    """Print `run`; all functions that were hit if `every`, and otherwise the hottest."""
    for part in _parts(run, every=every):
        console.print(part, highlight=False)


def live_view(
    mode: Mode, counts: Sequence[Count], seconds: float, height: int, *, ascii_only: bool
) -> Group:
    """Return the table of a recording that goes on, for so many lines."""
    total = sum(count.hits for count in counts)
    rows = max(height - LIVE_OVERHEAD, 1)
    head = f"{seconds:.0f} s, {total:,} {WHAT[mode]}; Ctrl-C ends it"
    return Group(
        Text(head, style="dim"), _table(mode, counts[:rows], seconds, ascii_only=ascii_only)
    )


def exit_status(run: Run) -> ExitStatus:
    """Return what a recording exits with.

    1 if the command failed; 4 if what is reported is less than what was asked for: a signal cut
    it short, or probes were given up to keep to the budget. What the kernel lets nobody probe
    is named in the coverage, and is no failure.
    """
    workload, coverage = run.workload, run.coverage
    if workload.get("command") and workload.get("ended") == "command" and workload.get("status"):
        return ExitStatus.FINDINGS
    asked = {"command": workload.get("command"), "time": workload.get("asked")}
    ends = [end for end, wanted in asked.items() if wanted]
    if coverage.get("detached") or (ends and workload.get("ended") not in ends):
        return ExitStatus.PARTIAL
    return ExitStatus.OK


def _parts(run: Run, *, every: bool) -> Iterator[RenderableType]:
    counts = [count for count in run.counts if count.hits]
    shown = counts if every else counts[:SHOWN]
    yield Sentence(_title(run), "dim")
    yield Sentence(_verdict(run), "bold")
    if shown:
        yield Text()
        yield _Fitting(run.mode, shown, run.seconds)
    if len(counts) > len(shown):
        yield Sentence(f"{len(counts) - len(shown):,} more were hit; --all shows them.", "dim")
    yield Text()
    for sentence in _coverage(run):
        yield Sentence(sentence)


class _Fitting:
    """The table, in the characters that the output can show."""

    def __init__(self, mode: Mode, counts: Sequence[Count], seconds: float) -> None:
        self._table = (mode, counts, seconds)

    def __rich_console__(self, console: Console, options: Any) -> Iterator[RenderableType]:
        yield _table(*self._table, ascii_only=options.ascii_only)


def _table(mode: Mode, counts: Sequence[Count], seconds: float, *, ascii_only: bool) -> Table:
    table = Table(
        Column("function", overflow="fold", ratio=1),
        *([] if mode == "functions" else [Column("helper", overflow="fold")]),
        Column(WHAT[mode], justify="right", no_wrap=True),
        Column(f"{WHAT[mode]}/s", justify="right", no_wrap=True),
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
        header_style="dim",
        expand=True,
    )
    for count in counts:
        names = [count.function] if mode == "functions" else [count.function, count.helper]
        table.add_row(
            *(Text(safe(name, ascii_only=ascii_only)) for name in names),
            f"{count.hits:,}",
            f"{count.hits / seconds:,.0f}" if seconds > 0 else "-",
        )
    return table


def _title(run: Run) -> str:
    tail = run.encoding.get("tail")
    kind = {"pointer": "head pointers", "mask": "masks"}.get(str(tail), "an unknown encoding")
    return f"Linux {run.release}, {kind}: {HOW[run.mode]}, counted by {run.coverage.get('backend')}"


def _verdict(run: Run) -> str:
    total = sum(count.hits for count in run.counts)
    if run.mode == "sample":
        # Not the sum of the rows: a sample in a copy that is inlined into another stands in two.
        samples, inside = (int(str(run.coverage.get(name) or 0)) for name in ("samples", "inside"))
        share = percent_text(inside / samples) if samples else "-"
        return f"{inside:,} of {samples:,} samples of busy CPUs, {share}, in {run.seconds:.1f} s."
    rate = f"{total / run.seconds:,.0f} a second" if run.seconds > 0 else "-"
    return f"{total:,} {WHAT[run.mode]} in {run.seconds:.1f} s, {rate}{_per_unit(run, total)}."


def _per_unit(run: Run, total: int) -> str:
    return f", {total / run.units:,.2f} a {run.unit}" if run.units else ""


def _coverage(run: Run) -> Iterator[str]:
    coverage: dict[str, Any] = run.coverage
    what = "copies" if any(count.helper for count in run.counts) else "functions"
    yield f"{coverage['attached']:,} of {coverage['sites']:,} {what} counted."
    reasons = Counter(str(item["reason"]) for item in coverage["refused"])
    for reason, number in reasons.most_common():
        names = sorted({str(i["function"]) for i in coverage["refused"] if i["reason"] == reason})
        more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
        yield f"{number:,} not: {reason} ({', '.join(names[:3])}{more})."
    if run.mode == "functions":
        hot = {count.function for count in run.counts if count.hits}
        loops = [name for name in coverage["loops"] if name in hot]
        if loops:
            yield (
                f"A call is not a hit in {len(loops):,} of these, which loop over their copies: "
                f"{', '.join(loops[:5])}{' ...' if len(loops) > 5 else ''}."
            )
    if coverage["detached"]:
        names = sorted({str(item["function"]) for item in coverage["detached"]})
        yield f"Given up to keep to the budget: {', '.join(names)}; their hits end there."
    if coverage["missed"]:
        yield f"{coverage['missed']:,} hits fell into another's counting and were not counted."
    if coverage["cost"]:
        cost = coverage["cost"]
        yield (
            f"Counting took {cost['nanoseconds_per_hit']:,.0f} ns a hit, "
            f"{cost['percent_of_a_cpu']:.2f}% of a CPU, without the traps into it."
        )
    status = run.workload.get("status")
    if run.workload.get("command") and status:
        yield f"The command ended with status {status}."
    for note in coverage["notes"]:
        yield f"Note: {note}."
