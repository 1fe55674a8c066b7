"""A comparison of hot paths as it is read: on terminals of any width, in ASCII, as Markdown."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from hvoinspect.hotpath.compare import Comparison, compare
from hvoinspect.hotpath.run import Count, read_run
from hvoinspect.report.compare import SHOWN_FUNCTIONS, lines, rate_text, to_json
from hvoinspect.report.compare_page import show, to_markdown
from tests.hotpath.runs import EXAMPLES, steady
from tests.report.test_terminal import HOSTILE

PAGES = Path(__file__).parent / "pages"
WIDTHS = (40, 60, 72, 80, 200)


def example(*, runs: int = 3) -> Comparison:
    before, after = (
        [read_run(file) for file in sorted((EXAMPLES / side).glob("*.json"))[:runs]]
        for side in ("before", "after")
    )
    return compare(before, after)


def many(functions: int = 40) -> Comparison:
    rates = {(f"function_{n}", "_compound_head"): (1, 1.0 + n) for n in range(functions)}
    runs = steady(rates, release="7.1", runs=2, seed=1)
    return compare(runs, runs)


def hostile() -> Comparison:
    (run,) = steady({}, release=HOSTILE, runs=1, seed=1, tail=HOSTILE)
    run = replace(
        run,
        counts=(Count(HOSTILE, HOSTILE, 1, 5),),
        workload={"command": [HOSTILE], "units": 5, "unit": HOSTILE},
    )
    return compare([run], [replace(run, workload={**run.workload, "command": ["other"]})])


def shown(
    comparison: Comparison, width: int = 80, *, encoding: str = "utf-8", every: bool = False
) -> str:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding, newline="")
    console = Console(file=file, width=width, color_system=None, _environ={})
    show(comparison, console, "unit", every=every)
    file.flush()
    return raw.getvalue().decode(encoding)


def test_the_whole_page() -> None:
    """What a person reads; looked over by one, and changed only on purpose."""
    page = shown(example())
    assert page == (PAGES / "compare.txt").read_text(encoding="utf-8")
    assert len(page.splitlines()) <= 23  # and a prompt


def test_the_whole_page_narrow() -> None:
    assert shown(example(), 40) == (PAGES / "compare-narrow.txt").read_text(encoding="utf-8")


def test_the_whole_markdown() -> None:
    text = to_markdown(example(), "unit", every=True)
    assert text == (PAGES / "compare.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("made", [example, many, hostile])
def test_no_line_is_too_wide_or_ends_in_spaces(width: int, made: type) -> None:
    for line in shown(made(), width, every=True).splitlines():
        assert cell_len(line) <= width
        assert line == line.rstrip()


@pytest.mark.parametrize("width", WIDTHS)
def test_each_width_tells_the_same_of_each_function(width: int) -> None:
    page = "".join(shown(example(), width, every=True).split())
    for line in lines(example(), "unit", every=True).lines:
        for text in (*line.name.split(" -> "), line.ratio, line.interval):
            assert text.replace(" ", "") in page


@pytest.mark.parametrize("width", WIDTHS)
def test_what_a_file_wrote_steers_nothing(width: int) -> None:
    for text in (shown(hostile(), width), to_markdown(hostile(), "unit", every=True)):
        assert "\x1b" not in text
        assert "\u202e" not in text
        assert ":smile:" in "".join(text.split())
    assert shown(hostile(), width, encoding="ascii").isascii()


@settings(max_examples=50)
@given(st.text(st.sampled_from("`|\\<>*_[]~\n ab"), min_size=1))
def test_no_name_breaks_out_of_its_cell(name: str) -> None:
    (run,) = steady({(name, "x"): (1, 1.0)}, release="7.1", runs=1, seed=1)
    text = to_markdown(compare([run], [run]), "unit", every=True)
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) == 3
    for row in rows[1:]:
        assert len(row.replace("\\|", "").split("|")) == 9
        assert row.count("`") == (2 if row is rows[1] else 4)


class TestWhatIsShown:
    def test_functions_that_changed_most_unless_all_are_asked_for(self) -> None:
        few, every = (lines(many(), "unit", every=every) for every in (False, True))
        assert (len(few.lines), few.more) == (1 + SHOWN_FUNCTIONS, 40 - SHOWN_FUNCTIONS)
        assert (len(every.lines), every.more) == (1 + 40, 0)
        assert "... and 30 more: --all." in shown(many())
        assert "--all" not in shown(many(), every=True)

    def test_the_total_of_a_single_helper_once(self) -> None:
        assert lines(many(), "unit", every=False).lines[0].name == "_compound_head"

    def test_no_mark_is_explained_where_there_can_be_none(self) -> None:
        assert "*" in shown(example())
        assert "*" not in shown(example(runs=1))

    def test_rates_by_what_was_asked_for(self) -> None:
        assert lines(example(), "unit", every=False).per == "page"
        by_second = lines(example(), "second", every=False)
        assert by_second.per == "second"
        assert float(by_second.lines[0].before.replace(",", "")) > 1000

    @pytest.mark.parametrize(
        ("rate", "text"),
        [
            (None, "-"),
            (0.0, "0"),
            (0.012345, "0.01235"),
            (999.94, "999.9"),
            (1234567.8, "1,234,568"),
        ],
    )
    def test_four_digits_of_a_rate(self, rate: float | None, text: str) -> None:
        assert rate_text(rate) == text


def test_json_has_both_rates_and_every_function() -> None:
    comparison = many()
    result = json.loads(to_json(comparison))
    assert result["schema"] == "hvoinspect.hotpath-compare/1"
    assert (len(result["totals"]), len(result["functions"])) == (2, 40)
    assert result["before"] == result["after"]
    assert result["before"]["runs"] == 2
    for row in result["functions"]:
        for rates in (row["per_second"], row["per_unit"]):
            assert rates["low"] < rates["ratio"] == 1 < rates["high"]
            assert rates["significant"] is False


def test_json_says_null_of_what_one_side_has() -> None:
    result = json.loads(to_json(example()))
    (removed,) = (row for row in result["totals"] if row["helper"] == "page_fixed_fake_head")
    assert removed["only"] == "before"
    assert removed["per_unit"]["before"] > 0
    names = ("after", "ratio", "low", "high", "p_value", "adjusted_p_value", "significant")
    assert [removed["per_unit"][name] for name in names] == [None] * len(names)
