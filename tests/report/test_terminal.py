"""A result on a terminal: at any width, without colour, in ASCII, and with hostile text in it."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from hvoinspect.report.result import ScanResult
from hvoinspect.report.terminal import SHOWN_FINDINGS, SIGNS, show
from tests.madeup import TAILS
from tests.report.situations import SITUATIONS, situation

PAGES = Path(__file__).parent / "pages"
WIDTHS = (40, 60, 80, 200)
HOSTILE = "\x1b[31m\x1b]0;title\x07 [red]x[/red] :smile:\nsecond\r\u202eline \u4e2d\xfc"
"""Colours and a window's title, rich's markup and emoji, line breaks, right-to-left, non-ASCII."""


def shown(
    result: ScanResult, width: int = 80, *, encoding: str = "utf-8", terminal: bool = False
) -> str:
    """What `show` prints: to a pipe, or to a terminal with colours."""
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding, newline="")
    console = Console(
        file=file,
        width=width,
        force_terminal=terminal,
        color_system="standard" if terminal else None,
        _environ={},
    )
    show(result, console)
    file.flush()
    return raw.getvalue().decode(encoding)


def hostile() -> ScanResult:
    result = situation("error")
    result["kernel"]["release"] = result["source"]["path"] = HOSTILE
    result["notes"] = [HOSTILE]
    for name in ("rule", "expected", "found", "meaning", "address"):
        result["findings"][0][name] = HOSTILE
    return result


@pytest.mark.parametrize("tail", TAILS)
def test_the_whole_page(tail: str) -> None:
    """What a person reads; looked over by one, and changed only on purpose."""
    assert shown(situation(tail)) == (PAGES / f"{tail}.txt").read_text(encoding="utf-8")


def test_the_whole_page_in_ascii_and_narrow() -> None:
    page = shown(situation("pointer"), 40, encoding="ascii")
    assert page == (PAGES / "narrow.txt").read_text(encoding="ascii")


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
@pytest.mark.parametrize("name", [*SITUATIONS, "hostile"])
def test_lines_fit_and_end_where_their_text_does(name: str, encoding: str, width: int) -> None:
    page = shown(hostile() if name == "hostile" else situation(name), width, encoding=encoding)
    lines = page.split("\n")
    assert lines.pop() == "", "the last line is whole"
    assert [line for line in lines if cell_len(line) > width or line != line.rstrip()] == []
    assert "…" not in page, "nothing is cut off"
    assert page.replace("\n", "").isprintable()
    if encoding != "utf-8":
        assert page.isascii()


@settings(max_examples=50)
@given(width=st.integers(1, 39), name=st.sampled_from(sorted(SITUATIONS)))
def test_a_very_narrow_terminal_is_no_reason_to_fail(width: int, name: str) -> None:
    assert all(cell_len(line) <= width for line in shown(situation(name), width).split("\n"))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("tail", TAILS)
def test_every_number_is_there_at_every_width(tail: str, width: int) -> None:
    page = " ".join(shown(situation(tail), width).split())
    pages = situation(tail)["pages"]
    for name in ("head", "fake_head", "tail", "single", "total"):
        assert f" {pages[name]:,} " in page
    for size in ("24 MiB", "7.9 MiB", "16.1 MiB", "36 KiB", "28 KiB", "48 KiB", "112 KiB"):
        assert size in page


def test_colours_only_on_a_terminal_and_none_in_a_pipe() -> None:
    assert "\x1b" not in shown(situation("error"))
    coloured = shown(situation("error"), terminal=True)
    assert "\x1b[31m" in coloured
    assert not any(line.endswith(" \x1b[0m") for line in coloured.split("\n"))


@pytest.mark.parametrize(
    ("name", "style"), [("error", "\x1b[1;31m"), ("warning", "\x1b[1;33m"), ("mask", "\x1b[1;32m")]
)
def test_the_verdict_is_red_yellow_or_green(name: str, style: str) -> None:
    verdict = shown(situation(name), terminal=True).split("\n")[2]
    assert verdict.startswith(f"{style}HVO is on")


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_hostile_text_is_shown_as_it_is_written_and_steers_nothing(encoding: str) -> None:
    page = shown(hostile(), 200, encoding=encoding)
    wide = "\\u4e2d\\xfc" if encoding == "ascii" else "\u4e2d\xfc"
    harmless = r"\x1b[31m\x1b]0;title\x07 [red]x[/red] :smile:\nsecond\r\u202eline " + wide
    assert page.count(harmless) == 8, "release, path, note, and five of the finding"
    assert f"\nNote: {harmless}\n" in page


class TestFindings:
    def with_findings(self, listed: int, omitted: int = 0) -> ScanResult:
        result = situation("error")
        (one,) = result["findings"]
        result["findings"] = [{**one, "pfn": pfn} for pfn in range(listed)]
        result["findings_omitted"] = {one["rule"]: omitted} if omitted else {}
        return result

    def test_one_is_told_whole(self) -> None:
        assert (
            "error: tails-read-only at pfn 0xa00 (0xffffea0000028000)\n"
            "  expected 7 read-only tail vmemmap pages on frame 0x40401\n"
            "  found    1 of them writable\n"
        ) in shown(situation("error"))

    @pytest.mark.parametrize(
        ("listed", "omitted", "last"),
        [
            (SHOWN_FINDINGS, 0, None),
            (SHOWN_FINDINGS + 1, 0, "... and 1 more finding: --json lists them."),
            (1000, 0, "... and 990 more findings: --json lists them."),
            (1000, 234, "... and 1,224 more findings: --json lists the first 1,000 of all."),
        ],
    )
    def test_more_than_a_screen_has_room_for(
        self, listed: int, omitted: int, last: str | None
    ) -> None:
        page = shown(self.with_findings(listed, omitted))
        assert page.count("at pfn 0x") == SHOWN_FINDINGS
        assert page.endswith(f"{last}\n") if last else "more finding" not in page

    def test_none_is_said_only_of_what_was_looked_at(self) -> None:
        assert "No findings." in shown(situation("mask"))
        assert "No findings." not in shown(situation("own view"))


class TestCoverage:
    def test_partial(self) -> None:
        page = shown(situation("partial"))
        assert "Partial: 99.9% of the struct pages could be read;" in page
        assert "Partial" not in shown(situation("mask"))
        assert "Partial" not in shown(situation("own view")), "it was no scan"

    def test_offline(self) -> None:
        said = "32,768 struct pages belong to offline memory"
        assert said in shown(situation("offline"))
        assert "offline" not in shown(situation("mask"))


class TestPartlyOptimized:
    def test_a_column_and_a_note_only_where_there_are_some(self) -> None:
        page = shown(situation("partly"))
        assert "optimized  partly  vmemmap kept" in page
        assert "\nNote: 1 hugepage is partly optimized" in page
        assert "partly" not in shown(situation("mask"))

    def test_where_a_table_does_not_fit(self) -> None:
        page = " ".join(shown(situation("partly"), 40).split())
        assert "1 optimized, 1 of them partly; vmemmap kept 8 KiB" in page
        assert "partly" not in shown(situation("mask"), 40)


class TestOwnView:
    def test_what_is_unknown_is_a_dash_or_left_out(self) -> None:
        page = shown(situation("own view"))
        assert "\nfake heads       -\nt" in page
        assert "\nunreadable       -\nt" in page
        assert "less split" not in page
        assert "the vmemmap of" not in page
        assert "\n2 MiB         1      7     3          -             -      -\n" in page

    def test_it_says_why_and_what_is_left_out(self) -> None:
        page = " ".join(shown(situation("own view")).split())
        assert page.startswith("Linux 7.1.0-made-up x86_64, from the kernel's own view (btf) HVO")
        assert "Note: the kernel's own view only: the kernel does not let even root" in page
        assert "Note: left out: which hugepages are really optimized" in page


class TestStrip:
    def strip(self, cells: str, width: int = 44, encoding: str = "ascii") -> str:
        result = situation("mask")
        result["picture"] = {"struct_pages_per_cell": 1 << 15, "cells": cells}
        lines = shown(result, width, encoding=encoding).split("\n")
        where = next(i for i, line in enumerate(lines) if line.startswith("the vmemmap of"))
        return lines[where + 1]

    @pytest.mark.parametrize(
        ("cells", "drawn"),
        [
            ("oLs ", " [..........##########++++++++++          ]"),
            ("o", " [........................................]"),
            ("L" * 79 + "o", " [#######################################.]"),
            ("sL" * 40, " [########################################]"),
            ("s " * 40, " [++++++++++++++++++++++++++++++++++++++++]"),
        ],
        ids=["spread", "one", "shared wins", "large before split", "split before hole"],
    )
    def test_cells_are_spread_or_put_together(self, cells: str, drawn: str) -> None:
        assert self.strip(cells) == drawn

    def test_it_is_never_wider_than_a_hundred(self) -> None:
        assert len(self.strip("o" * 256, 200)) == len(" []") + 100

    def test_each_sign_is_explained(self) -> None:
        page = shown(situation("mask"))
        assert all(f"{sign} {meaning}" in page for sign, _, _, meaning in SIGNS.values())

    def test_no_picture_no_strip(self) -> None:
        result = situation("mask")
        result["picture"]["cells"] = ""
        assert "the vmemmap of" not in shown(result)
        del result["picture"]
        assert "the vmemmap of" not in shown(result)
