"""Makes reStructuredText of what click prints for ``--help``, which is plain text.

sphinx-click takes it for reStructuredText, and makes lines of what click keeps as it is (after
a backspace), which then no longer stand below each other.
"""

import inspect
import re
from collections.abc import Iterator
from itertools import groupby
from textwrap import dedent, indent

import click
from sphinx.application import Sphinx
from sphinx.util.rst import escape

OPTION_HELP = re.compile(r"(?P<indent> {4})(?P<required>\*\*Required\*\* ?)?(?P<text>[^:].*)")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register what is done here; Sphinx calls this."""
    app.connect("sphinx-click-process-description", _description)
    app.connect("sphinx-click-process-options", _options)
    app.connect("sphinx-click-process-epilog", _epilog)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _description(_app: Sphinx, context: click.Context, lines: list[str]) -> None:
    lines[:] = _rst(context.command.help or "")


def _epilog(_app: Sphinx, context: click.Context, lines: list[str]) -> None:
    lines[:] = _rst(context.command.epilog or "")


def _options(_app: Sphinx, _context: click.Context, lines: list[str]) -> None:
    """Escape what options say of themselves; all else is sphinx-click's own."""
    for i, line in enumerate(lines):
        if found := OPTION_HELP.fullmatch(line):
            lines[i] = found["indent"] + (found["required"] or "") + _inline(found["text"])
        else:
            lines[i] = line.replace("    :options: ", "    :values: ", 1)


def _rst(text: str) -> Iterator[str]:
    """Yield the lines of `text`: what is indented is an example, all else prose."""
    for paragraph in re.split(r"\n[ \t]*\n|\n?\x08\n", inspect.cleandoc(text)):
        for is_example, group in groupby(paragraph.splitlines(), key=lambda line: line[:1] == " "):
            lines = "\n".join(group)
            if is_example:
                yield from (".. code-block:: text", "")
                yield from indent(dedent(lines), "    ").splitlines()
            else:
                yield from _inline(lines).splitlines()
            yield ""


def _inline(text: str) -> str:
    """Escape prose, but for code in backticks."""
    # An escaped space is none, and lets what is code stand beside a letter.
    parts = re.split(r"`([^`]+)`", text)
    return "".join(rf"\ ``{part}``\ " if i % 2 else escape(part) for i, part in enumerate(parts))
