"""Manual pages of all commands, made of the text that `--help` prints.

python package/manpages.py FOLDER
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hvoinspect.cli.main import hvoinspect
from hvoinspect.version import __version__

SECTIONS = {"Examples": "EXAMPLES", "Exit status": "EXIT STATUS"}
"""What begins a paragraph of an epilog, and the section of a manual page that it is."""


def pages(date: str) -> dict[str, str]:
    """Return the page of each command, roff, by the name of its file. `date` as YYYY-MM-DD."""
    found = {}
    for context in _commands(_context(hvoinspect, "hvoinspect", None)):
        found[f"{_name(context)}.1"] = _page(context, date)
    return found


def _context(command: click.Command, name: str, parent: click.Context | None) -> click.Context:
    return click.Context(command, info_name=name, parent=parent, **command.context_settings)


def _commands(context: click.Context) -> Iterator[click.Context]:
    yield context
    for command in _children(context):
        yield from _commands(command)


def _children(context: click.Context) -> Iterator[click.Context]:
    if isinstance(context.command, click.Group):
        for name in context.command.list_commands(context):
            command = context.command.get_command(context, name)
            if command is not None and not command.hidden:
                yield _context(command, name, context)


def _name(context: click.Context) -> str:
    return context.command_path.replace(" ", "-")


def _page(context: click.Context, date: str) -> str:
    command, name = context.command, _name(context)
    about, sections = _epilog(command.epilog or "")
    options = [p for p in command.get_params(context) if isinstance(p, click.Option)]
    children = list(_children(context))
    lines = [
        f'.TH {_quoted(name.upper())} 1 {date} "hvoinspect {__version__}" "hvoinspect"',
        *(".SH NAME", f"{_plain(name)} \\- {_plain(_summary(command))}"),
        *(".SH SYNOPSIS", f".B {_plain(context.command_path)}"),
        " ".join(f"\\fI{_plain(piece)}\\fR" for piece in command.collect_usage_pieces(context)),
        *(".SH DESCRIPTION", *_text(command.help or "")[1:], *about),
    ]
    if children:
        lines += [".SH COMMANDS"]
        for child in children:
            lines += [".TP", f".BR {_plain(_name(child))} (1)", _line(_summary(child.command))]
    lines += [".SH OPTIONS"]
    for option in options:
        lines += [".TP", _option(option, context), _line(_help(option, context))]
    for title in SECTIONS.values():
        if title in sections:
            lines += [f".SH {title}", *sections[title]]
    parents = [context.parent] if context.parent else []
    if also := [*parents, *children]:
        lines += [".SH SEE ALSO"]
        names = sorted({_name(other) for other in also})
        lines += [f".BR {_plain(n)} (1){',' if n != names[-1] else ''}" for n in names]
    return "\n".join(lines) + "\n"


def _summary(command: click.Command) -> str:
    """Return a command in a line, as whatis(1) shows it."""
    text = command.short_help or command.get_short_help_str(limit=200)
    return text[:1].lower() + text[1:].rstrip(".")


def _option(option: click.Option, context: click.Context) -> str:
    names = ", ".join(f"\\fB{_plain(name)}\\fR" for name in option.opts)
    value = "" if option.is_flag else f" \\fI{_plain(option.make_metavar(context))}\\fR"
    return names + value


def _help(option: click.Option, context: click.Context) -> str:
    record = option.get_help_record(context)
    return record[1] if record else ""


def _epilog(text: str) -> tuple[list[str], dict[str, list[str]]]:
    """Return what of an epilog belongs to the description, and its sections by title."""
    about: list[str] = []
    sections: dict[str, list[str]] = {}
    for block in _blocks(text):
        first = block.removeprefix("\b\n").split(":")[0]
        if first in SECTIONS:
            rest = block.removeprefix("\b\n").removeprefix(f"{first}:").strip("\n")
            is_list = rest.startswith("  ")
            sections[SECTIONS[first]] = _example(rest) if is_list else [_line(rest)]
        else:
            about += _text(block)
    return about, sections


def _blocks(text: str) -> list[str]:
    """Split what click takes for paragraphs; lines of those that begin with a backspace stay."""
    return [block.strip("\n") for block in re.split(r"\n\s*\n", text) if block.strip()]


def _text(text: str) -> list[str]:
    lines = []
    for block in _blocks(text):
        kept = block.removeprefix("\b\n")
        is_list = kept != block and "\n " in kept
        lines += [".PP", *(_example(kept) if is_list else [_line(kept)])]
    return lines


def _example(text: str) -> list[str]:
    return [".nf", *(_plain(line) for line in text.split("\n")), ".fi"]


def _line(text: str) -> str:
    return _plain(" ".join(text.split()))


def _quoted(text: str) -> str:
    return f'"{_plain(text)}"'


def _plain(text: str) -> str:
    """Escape what roff would take for its own (groff_char(7), groff(7))."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    text = text.replace("`", "\\(ga").replace("~", "\\(ti").replace("^", "\\(ha")
    return f"\\&{text}" if text.startswith((".", "\\(aq")) else text


def main() -> None:
    """Write all pages. The date is SOURCE_DATE_EPOCH's where that is set, or today's."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    seconds = os.environ.get("SOURCE_DATE_EPOCH")
    moment = datetime.fromtimestamp(int(seconds), UTC) if seconds else datetime.now(UTC)
    for name, text in pages(moment.strftime("%Y-%m-%d")).items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
