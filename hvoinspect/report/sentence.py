"""A sentence on a terminal: wrapped, and without what a kernel could steer the terminal with."""

from __future__ import annotations

import re
import textwrap

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from hvoinspect.errors import printable


def safe(text: str, *, ascii_only: bool) -> str:
    """Return `text` without what could steer the terminal, or what it could not show."""
    text = printable(text)
    return text.encode("ascii", "backslashreplace").decode() if ascii_only else text


class Sentence:
    """Text that is wrapped between words but not between a number and its unit.

    All lines but the first are indented by `indent`. Nothing is shown on less than `columns`.
    Whatever could steer the terminal is escaped, and so is what it could not show.
    """

    def __init__(self, text: str, style: str = "", indent: int = 0, columns: int = 0) -> None:
        self.text = text
        self.style = style
        self.indent = indent
        self.columns = columns

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render for the width at hand."""
        if options.max_width < self.columns:
            return
        text = safe(self.text, ascii_only=options.ascii_only)
        tied = re.sub(r"(\d) (?=[KMGT]?i?B\b)", "\\1\N{NO-BREAK SPACE}", text)
        for line in textwrap.wrap(
            tied,
            max(options.max_width, self.indent + 20),
            break_on_hyphens=False,
            subsequent_indent=" " * self.indent,
        ):
            yield Text(line.replace("\N{NO-BREAK SPACE}", " "), self.style)
