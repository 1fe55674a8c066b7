"""What a host allows, as JSON and as a page: readable without colour, in 80 columns."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from hvoinspect.report.doctor import exit_status, show, to_json, verdict
from hvoinspect.target.host import Check, Host

KCORE = Check("kcore", False, "memory", "there is no /proc/kcore here", "go home", ("scan",))
BTF = Check("btf", False, "types", "there is no BTF", "get some", ("scan", "own view"))
FLAGS = Check("kpageflags", False, "flags", "flags cannot be read", "be root", ("own view",))
PMU = Check("pmu", False, "cycles", "there is a clock only")
FINE = Check("root", True, "all of it", "this is root", "not to be shown", ("scan", "hotpath"))


def page(*checks: Check, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    show(Host(release="6.12.0", machine="x86_64"), checks, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("checks", "status", "sentence"),
    [
        ((FINE, PMU), 0, "A scan of this kernel works fully."),
        ((FINE, FLAGS), 0, "A scan of this kernel works fully."),
        (
            (KCORE, PMU),
            4,
            "A scan shows the kernel's own view only: there is no /proc/kcore here.",
        ),
        (
            (KCORE, FLAGS),
            3,
            "No scan of this kernel is possible: there is no /proc/kcore here, "
            "and flags cannot be read.",
        ),
        ((BTF, FINE), 3, "No scan of this kernel is possible: there is no BTF."),
    ],
)
def test_what_a_scan_comes_to(checks: tuple[Check, ...], status: int, sentence: str) -> None:
    assert exit_status(checks) == status
    assert verdict(checks) == sentence


def test_json() -> None:
    result = json.loads(to_json((FINE, KCORE, PMU)))
    assert result["schema"] == "hvoinspect.doctor/1"
    assert result["scan"] == "own view"
    assert result["checks"][1] == {
        "name": "kcore",
        "ok": False,
        "for": ["scan"],
        "enables": "memory",
        "found": "there is no /proc/kcore here",
        "fix": "go home",
    }
    assert [check["fix"] for check in result["checks"]] == [None, "go home", None]


def test_the_page_says_in_words_what_is_ok_and_what_is_not() -> None:
    assert page(FINE, KCORE, PMU) == (
        "Linux 6.12.0 x86_64, on this host\n"
        "\n"
        "A scan shows the kernel's own view only: there is no /proc/kcore here.\n"
        "\n"
        "A full scan of the running kernel takes:\n"
        "  ok      root            this is root; for all of it\n"
        "  not ok  kcore           there is no /proc/kcore here\n"
        "                          for memory\n"
        "                          fix: go home\n"
        "\n"
        "Also good to have or to know:\n"
        "  not ok  pmu             there is a clock only\n"
        "                          for cycles\n"
    )


@pytest.mark.parametrize("width", [40, 80])
def test_long_lines_are_wrapped_and_nothing_hostile_gets_through(width: int) -> None:
    found = "a sentence of many words " * 9 + "\x1b[31m"
    text = page(Check("kcore", False, "all", found, "word " * 40, ("scan",)), width=width)
    assert max(len(line) for line in text.splitlines()) <= width
    assert "\x1b" not in text
    assert not any(line.endswith(" ") for line in text.splitlines())
