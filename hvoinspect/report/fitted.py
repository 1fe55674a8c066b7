"""Pages for a terminal of any width, made of parts that come in several forms."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.segment import Segment

Part = Sequence[RenderableType]
"""A part in one or more forms, the widest first."""


def print_fitted(console: Console, parts: Callable[[ConsoleOptions], Iterable[Part]]) -> None:
    """Print each part in the first form that fits `console`, or the last. No line ends in spaces.

    `parts` makes them for the options of what is printed on.
    """
    console.print(_Fitted(parts), highlight=False)


class _Fitted:
    def __init__(self, parts: Callable[[ConsoleOptions], Iterable[Part]]) -> None:
        self._parts = parts

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for part in self._parts(options):
            form = _fitting(part, console, options)
            for line in console.render_lines(form, options, pad=False):
                yield from trimmed(line)
                yield Segment.line()


def _fitting(forms: Part, console: Console, options: ConsoleOptions) -> RenderableType:
    """Return the first of `forms` that is no wider than there is room, or the last."""
    for form in forms[:-1]:
        if (
            console.measure(form, options=options.update(max_width=1000)).maximum
            <= options.max_width
        ):
            return form
    return forms[-1]


def trimmed(line: Sequence[Segment]) -> list[Segment]:
    """Return `line` without the spaces at its end."""
    kept = list(line)
    while kept and not kept[-1].text.rstrip(" "):
        kept.pop()
    if kept:
        kept[-1] = kept[-1]._replace(text=kept[-1].text.rstrip(" "))
    return kept
