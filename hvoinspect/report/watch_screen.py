"""The screen of `watch`: the latest scan, what changed, and what goes on, in a window of any size.

Where all of it does not fit, what changed goes first, and then pools from the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.segment import Segment
from rich.table import Column, Table
from rich.text import Text

from hvoinspect.report.fitted import trimmed
from hvoinspect.report.sentence import Sentence, safe
from hvoinspect.report.terminal import title_of
from hvoinspect.report.watch import (
    POOL_COLUMNS,
    Pool,
    Seen,
    Value,
    change_text,
    findings_count,
    hvo_text,
)
from hvoinspect.report.words import ENCODINGS, bytes_text, count_text, percent_text

KEYS = (
    ("q", "quit"),
    ("p", "pause, and resume"),
    ("space", "scan now, also while paused"),
    ("?", "this help, and back"),
)
KEY_LINE = "q quit  p pause  space scan now  ? help"
LEAST_COLUMNS = 20
"""No window is narrower: what does not fit is cut off."""


@dataclass(frozen=True)
class Watching:
    """What is shown. `seen` is None until a scan succeeded, `failure` why the last one failed.

    `number`: scans begun. `progress`: how much of how much the one that is being made has done,
    None if none is. `due`: in how many seconds the next begins.
    """

    seen: Seen | None
    failure: tuple[str, str] | None
    number: int
    interval: float
    due: float
    progress: tuple[int, int] | None
    paused: bool = False
    keys: bool = True
    helping: bool = False


class WatchScreen:
    """Draws one state of what goes on, over the whole window."""

    def __init__(self, watching: Watching) -> None:
        self.watching = watching

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render for the window at hand, with the state of things in its last line."""
        options = options.update(max_width=max(options.max_width, LEAST_COLUMNS), height=None)
        room = max(console.height - 1, 1)
        lines: list[list[Segment]] = []
        for details in (2, 1, 0):
            parts = self._help() if self.watching.helping else self._parts(details)
            lines = [
                trimmed(line)
                for part in parts
                for line in console.render_lines(part, options, pad=False)
            ]
            if len(lines) <= room:
                break
        if len(lines) > room:
            cut = len(lines) - room + 1
            more = Text(f"{cut} more lines do not fit in this window", "dim")
            lines = lines[: room - 1] + console.render_lines(more, options, pad=False)[:1]
        for line in [*lines, *([[]] * (room - len(lines)))]:
            yield from line
            yield Segment.line()
        yield from trimmed(console.render_lines(self._state(options), options, pad=False)[0])

    @staticmethod
    def _help() -> Iterator[RenderableType]:
        yield Text("keys", "dim")
        for key, meaning in KEYS:
            yield Text(f"  {key:<7}{meaning}")
        yield Text()
        yield Sentence(
            "Scans begin at the interval, counted from start to start; one that takes longer is "
            "followed by the next at once. Changes are since the last scan and since the first."
        )

    def _parts(self, details: int) -> Iterator[RenderableType]:
        """Yield all but the last line; `details` 1 leaves the changes of pools out but the whole.

        0 leaves all of them out.
        """
        seen, failure = self.watching.seen, self.watching.failure
        if seen is not None:
            result = seen.now
            yield Sentence(title_of(result["source"], result["kernel"]), "dim")
            how = ENCODINGS.get(result["encoding"]["hvo"] or "")
            yield Sentence(f"HVO: {hvo_text(result)}" + (f"; {how}" if how else ""), "bold")
            for text in seen.switched():
                yield Sentence(text, "yellow")
            yield Text()
            yield _pools(list(seen.pools()), details)
            yield Text()
            yield _sizes(seen)
            yield Text()
            yield _findings(seen)
            fraction = result["coverage"]["fraction"]
            if fraction < 1.0 and result["coverage"]["struct_pages_read"]:
                part = percent_text(fraction)
                yield Sentence(f"Partial: {part} of the struct pages could be read.", "yellow")
            elif fraction < 1.0 and result["notes"]:
                yield Sentence(f"Note: {result['notes'][0]}", "yellow")
        elif failure is None:
            yield Text("looking for the first time ...", "dim")
        if failure is not None:
            why, remedy = failure
            yield Sentence(f"scan {self.watching.number} failed: {why}", "bold red")
            yield Sentence(remedy)

    def _state(self, options: ConsoleOptions) -> Text:
        """Return the last line: which scan this is, when the next one is, and the keys."""
        watching, seen = self.watching, self.watching.seen
        parts = [f"scan {watching.number}"]
        if watching.progress is not None:
            done, total = watching.progress
            parts.append("scanning" + (f" {percent_text(done / total)}" if done and total else ""))
        elif seen is not None and watching.failure is None:
            parts.append(f"took {seen.now['elapsed_seconds']:.2f} s")
        if watching.paused:
            parts.append("paused")
        elif watching.progress is None:
            parts.append(f"next in {max(watching.due, 0.0):.0f} s")
        left = ", ".join(parts)
        text = Text(left, "reverse", no_wrap=True, overflow="crop")
        room = options.max_width - len(left) - len(KEY_LINE)
        if watching.keys and room >= 2:
            text.append(" " * room + KEY_LINE)
        elif watching.keys:
            text.append("  ? help")
        text.truncate(options.max_width)
        return text


def _pools(pools: list[Pool], details: int) -> RenderableType:
    if not pools:
        return Text("There are no hugetlb pages.")
    table = Table(
        Column("hugepages", no_wrap=True, overflow="crop"),
        *(
            Column(name, justify="right", no_wrap=True, overflow="crop")
            for name in ("node", *POOL_COLUMNS)
        ),
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
        header_style="dim",
    )
    for pool in pools:
        table.add_row(
            bytes_text(pool.size_bytes),
            str(pool.node),
            *(count_text(value.now) for value in pool.counts),
        )
        if details > 1 and any(value.last for value in pool.counts):
            table.add_row("  since last", "", *(_change(value.last) for value in pool.counts))
        if details and any(value.start for value in pool.counts):
            table.add_row("  since start", "", *(_change(value.start) for value in pool.counts))
    return table


def _change(change: int | None, *, of_bytes: bool = False) -> Text:
    return Text(change_text(change, of_bytes=of_bytes), "cyan" if change else "dim")


def _sizes(seen: Seen) -> Table:
    table = Table(
        Column("vmemmap", no_wrap=True, overflow="crop"),
        *(
            Column(name, justify="right", no_wrap=True, overflow="crop")
            for name in ("now", "since last", "since start")
        ),
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
        header_style="dim",
    )
    for name, value in seen.sizes():
        table.add_row(
            name,
            "-" if value.now is None else bytes_text(value.now),
            _change(value.last, of_bytes=True),
            _change(value.start, of_bytes=True),
        )
    return table


def _findings(seen: Seen) -> RenderableType:
    count = seen.now["findings_count"]
    style = "red" if count["error"] else "yellow" if count["warning"] else "green"
    return _Rules(findings_count(seen.now), seen.rules(), style)


class _Rules:
    """How many findings there are, and the rules that speak, with what changed of each."""

    def __init__(self, count: str, rules: list[tuple[str, Value]], style: str) -> None:
        self._count, self._rules, self._style = count, rules, style

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(safe(f"findings: {self._count}", ascii_only=options.ascii_only), self._style)
        for name, value in self._rules:
            changes = [
                f"{change_text(change)} since the {which}"
                for which, change in (("last scan", value.last), ("start", value.start))
                if change
            ]
            told = f"  {value.now:>5,}  {name}" + (f"  ({', '.join(changes)})" if changes else "")
            yield Sentence(told, indent=9)
