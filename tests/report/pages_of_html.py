"""Reads a page of HTML as a browser would: its text, its elements, its scripts."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Any

CELLS = {"td", "th", "dt", "dd", "li", "p", "caption"}
VOID = {"meta", "link", "br", "img", "input", "hr"}


HOSTILE = (
    *("<script>alert(1)</script>", "</script>", "</style>", "<!--", "-->", "]]>", "</title>"),
    *("'\"><img src=x onerror=alert(1)>", "{{ 7 * 7 }}", "{% raw %}", "$$x$$", "&lt;", "&#60;"),
    *("\u2028", "\u202eevil", "\x00", "\x1b[31m", "\ud800", "javascript:alert(1)", "\\u003c"),
)
"""Texts that a careless page would take for something else."""


class Page(HTMLParser):
    """`texts` are what a reader sees, `elements` all tags with their attributes."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.texts: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert not self._open, f"not closed: {self._open}"

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        if tag in CELLS:
            self.texts.append(" ")

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "script":
            self.scripts[-1] += data
        elif not self._open or self._open[-1] != "style":
            self.texts.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data[:60]}")

    @property
    def text(self) -> str:
        return " ".join("".join(self.texts).split())

    @property
    def charts(self) -> dict[str, Any]:
        charts: dict[str, Any] = json.loads(self.scripts[0])
        return charts

    @property
    def shape(self) -> list[tuple[str, list[str]]]:
        """The elements and the names of their attributes."""
        return [(tag, sorted(attributes)) for tag, attributes in self.elements]
