"""A recording on a terminal, and what it exits with."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from hvoinspect.hotpath.run import Count, Run
from hvoinspect.report.hotpath import SHOWN, exit_status, live_view, show

COVERAGE: dict[str, Any] = {
    "sites": 3,
    "attached": 2,
    "backend": "bcc",
    "refused": [
        {"function": "quiet", "helper": "h", "address": "0x1", "reason": "the function is notrace"}
    ],
    "detached": [],
    "missed": 0,
    "loops": [],
    "cost": {"nanoseconds_per_hit": 48.2, "percent_of_a_cpu": 1.234},
    "notes": [],
}
RUN = Run(
    kernel={"release": "7.1.0-made-up", "build_id": "ab", "arch": "x86_64", "page_size": 4096},
    encoding={"tail": "mask"},
    seconds=2.0,
    mode="sites",
    coverage=COVERAGE,
    counts=(
        Count("__zap_vma_range", "_compound_head", 4, 20_000),
        Count("do_fault", "_compound_head", 3, 10_000),
        Count("never", "_compound_head", 1, 0),
    ),
    workload={"command": None, "status": None, "asked": 2.0, "units": None, "ended": "time"},
)


def page(run: Run, width: int = 80, *, every: bool = False, encoding: str = "utf-8") -> str:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    show(run, Console(file=file, width=width), every=every)
    file.seek(0)
    return file.read()


def with_coverage(**more: Any) -> Run:
    return replace(RUN, coverage={**COVERAGE, **more})


def test_it_says_what_was_counted_and_what_was_not() -> None:
    text = page(RUN)
    assert "30,000 hits in 2.0 s, 15,000 a second." in text
    assert "2 of 3 copies counted." in text
    assert "1 not: the function is notrace (quiet)." in text
    assert "48 ns a hit, 1.23% of a CPU" in text
    assert text.index("__zap_vma_range") < text.index("do_fault")
    assert "never" not in text


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_it_fits(width: int) -> None:
    assert all(len(line) <= width for line in page(RUN, width).splitlines())


def test_it_is_ascii_where_nothing_else_can_be_shown() -> None:
    strange = replace(RUN, counts=(Count("fn_\x1b[31m\u00e9", "h", 1, 5),))
    assert "\x1b" not in page(strange)
    page(strange, encoding="ascii").encode("ascii")


def test_hits_a_unit_are_shown_where_units_are_known() -> None:
    run = replace(RUN, workload={**RUN.workload, "units": 10_000, "unit": "zap"})
    assert "15,000 a second, 3.00 a zap." in page(run)


def test_the_hottest_are_shown_and_all_on_demand() -> None:
    many = replace(RUN, counts=tuple(Count(f"f{n:03}", "h", 1, 500 - n) for n in range(SHOWN + 7)))
    assert "7 more were hit" in page(many)
    assert f"f{SHOWN + 6:03}" not in page(many)
    assert f"f{SHOWN + 6:03}" in page(many, every=True)


def test_functions_that_loop_are_named() -> None:
    run = replace(with_coverage(loops=["do_fault", "never"]), mode="functions")
    assert "loop over their copies: do_fault." in page(run)


def test_samples_are_a_share_of_all() -> None:
    run = replace(with_coverage(samples=120_000, inside=24_000, cost=None), mode="sample")
    assert "24,000 of 120,000 samples of busy CPUs, 20.0%" in page(run)


def test_the_live_table_fits_the_terminal() -> None:
    file = io.StringIO()
    console = Console(file=file, width=80, height=10)
    counts = [Count(f"f{n}", "h", 1, 100 - n) for n in range(50)]
    console.print(live_view("sites", counts, 3.0, 10, ascii_only=True))
    lines = file.getvalue().splitlines()
    assert len(lines) < 10
    assert any(line.startswith("f0 ") for line in lines)


class TestExitStatus:
    @pytest.mark.parametrize(
        ("workload", "status"),
        [
            ({}, 0),
            ({"ended": "SIGTERM"}, 4),
            ({"asked": None, "ended": "SIGINT"}, 0),
            ({"command": ["x"], "status": 0, "ended": "command"}, 0),
            ({"command": ["x"], "status": 3, "ended": "command"}, 1),
            ({"command": ["x"], "status": -9, "ended": "command"}, 1),
            ({"command": ["x"], "status": -15, "ended": "time"}, 0),
            ({"command": ["x"], "status": -15, "ended": "SIGINT"}, 4),
            ({"command": ["x"], "status": -15, "asked": None, "ended": "SIGHUP"}, 4),
        ],
    )
    def test_it_is_of_how_it_ended(self, workload: dict[str, object], status: int) -> None:
        assert exit_status(replace(RUN, workload={**RUN.workload, **workload})) == status

    def test_less_than_asked_for_is_partial(self) -> None:
        given_up = [{"function": "f", "helper": "h", "percent_of_a_cpu": 3.0}]
        assert exit_status(with_coverage(detached=given_up)) == 4
