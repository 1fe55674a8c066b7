"""`hvoinspect page` on made-up machines: what it prints, and what it exits with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from hvoinspect.api import page as api
from hvoinspect.cli.page import page
from hvoinspect.errors import ExitStatus, HvoinspectError
from hvoinspect.target.choice import Target
from hvoinspect.target.layout import Kernel
from tests.madeup import COMPOUND, TAILS, WRITABLE, Machine, Tail

HUGE = 5 << 9


Use = Callable[[Machine], None]


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Use:
    """Let a machine be what is opened, whatever dump is asked for."""

    def use(machine: Machine) -> None:
        def open_target(_target: Target) -> Kernel:
            return machine.kernel()

        monkeypatch.setattr(api, "open_target", open_target)

    return use


@pytest.fixture
def machine(use: Use) -> Machine:
    """A machine with fake heads and one hugepage, which is opened."""
    machine = with_a_hugepage("pointer")
    use(machine)
    return machine


def with_a_hugepage(tail: Tail) -> Machine:
    machine = Machine((0,), tail=tail)
    machine.hugetlb(HUGE, free=True)
    return machine


def run(*arguments: str) -> Result:
    return CliRunner().invoke(page, [*arguments, "-c", "vmcore"])


@pytest.mark.usefixtures("machine")
def test_json_has_what_the_contract_says() -> None:
    done = run("ffffea0000029374", "--json")
    assert done.exit_code == 0
    found = json.loads(done.stdout)
    assert found["schema"] == "hvoinspect.page/1"
    assert found["given"] == "0xffffea0000029374 is byte 52 of the struct page of pfn 0xa4d."
    for name, value in {
        "pfn": 0xA4D,
        "address": "0xffffea0000029340",
        "class": "tail",
        "head_pfn": HUGE,
        "order": 9,
        "raw": {
            "flags": "0x8000000000000",
            "info": "0xffffea0000028001",
            "field": "compound_head",
        },
        "static_key": 1,
        "problem": None,
        "missing": None,
    }.items():
        assert found[name] == value, name
    assert len(found["steps"]) == 4
    assert found["hugepage"] == {
        "pfn": HUGE,
        "address": "0xffffea0000028000",
        "size_bytes": 2 << 20,
        "order": 9,
        "node": 0,
        "zone": 1,
        "free": True,
        "optimized": True,
        "flagged": True,
        "vmemmap_pages": 8,
        "vmemmap_frames": 1,
    }
    assert found["mapping"] == {
        "frame": 0x40228,
        "writable": False,
        "shared_by": 8,
        "looked_at": 8,
        "large": False,
        "shared_tail_of": None,
    }


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("pfn", [3, HUGE, HUGE + 64, HUGE + 77, HUGE + 511])
def test_a_pipe_gets_eighty_columns_without_colour(use: Use, tail: Tail, pfn: int) -> None:
    use(with_a_hugepage(tail))
    done = run(f"pfn:{pfn}")
    assert done.exit_code == 0
    assert "\x1b" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert done.stdout.count(" 1. ") == 1


def flat(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.usefixtures("machine")
def test_a_write_to_a_read_only_tail_explains_itself() -> None:
    said = flat(run(f"pfn:{HUGE + 64}").stdout)
    assert (
        "pfn 0xa40 is a fake head: it reads like a head, but is tail 64 of a hugepage of 2 MiB "
        "(free, optimized)." in said
    )
    assert "mapped read-only, 4 KiB at a time" in said
    assert "all the 7 other vmemmap pages of this hugepage" in said
    assert "A write here faults: this vmemmap page is mapped read-only, because" in said
    assert f"page = pfn_to_page(prog, {HUGE + 64:#x})" in said
    head = flat(run(f"pfn:{HUGE}").stdout)
    assert "A write here does not fault, and shows in all 8 vmemmap pages" in head
    assert "meant to be read-only" not in head
    single = flat(run("pfn:3").stdout)
    assert "A write here does not fault: this vmemmap page is mapped writable." in single
    assert "none of the 511 other vmemmap pages in the same 2 MiB of vmemmap" in single


def test_a_writable_tail_is_told_to_be_meant_read_only(machine: Machine) -> None:
    table, index = machine.entry(HUGE + 64)
    machine.frames[table, index] |= np.uint64(WRITABLE)
    said = flat(run(f"pfn:{HUGE + 64}").stdout)
    assert "A write here does not fault, and shows in all 8 vmemmap pages" in said
    assert "It is meant to be read-only" in said


def test_a_zones_shared_tail_frame_is_named(use: Use) -> None:
    use(with_a_hugepage("mask"))
    said = flat(run(f"pfn:{HUGE + 100}").stdout)
    assert "is tail 100 of a hugepage of 2 MiB (free, optimized)." in said
    assert "6 of the 7 other vmemmap pages of this hugepage" in said
    assert "all other optimized hugepages of 2 MiB in node 0, zone 1" in said
    assert "its 8 vmemmap pages are on 2 frames" in said


def test_a_page_that_is_not_intact_is_a_finding(machine: Machine) -> None:
    machine.set_word(66, COMPOUND, 0x1235)
    done = run("pfn:66")
    assert done.exit_code == ExitStatus.FINDINGS
    assert "Not intact: the word that should lead to its head" in flat(done.stdout)


def test_a_page_whose_head_is_lost_is_partly_seen(use: Use) -> None:
    machine = Machine((0,))
    machine.hugetlb(HUGE, hvo=False)
    use(machine)
    lost = machine.frame_of(machine.address_of(HUGE))
    assert lost is not None
    machine.unreadable.add(lost)
    done = run(f"pfn:{HUGE + 100}")
    assert done.exit_code == ExitStatus.PARTIAL
    assert "Partial: what is at" in flat(done.stdout)


@pytest.mark.parametrize(
    ("address", "status", "why"),
    [
        ("nonsense", ExitStatus.USAGE, "'nonsense' names no page"),
        ("1234", ExitStatus.CANNOT_INSPECT, "neither in the vmemmap"),
        ("pfn:0x8000", ExitStatus.CANNOT_INSPECT, "beyond the memory"),
    ],
)
@pytest.mark.usefixtures("machine")
def test_errors_say_why_and_what_to_do(address: str, status: ExitStatus, why: str) -> None:
    error = run(address, "--json").exception
    assert isinstance(error, HvoinspectError)
    assert error.status == status
    assert why in error.why
    assert error.remedy


def test_an_address_that_names_no_page_is_told_before_the_kernel_is_opened() -> None:
    error = CliRunner().invoke(page, ["nonsense", "-c", "/nonexistent"]).exception
    assert isinstance(error, HvoinspectError)
    assert "names no page" in error.why


@pytest.mark.usefixtures("machine")
def test_the_result_goes_to_a_file_that_is_not_there_yet(tmp_path: Path) -> None:
    file = tmp_path / "page.json"
    assert run("pfn:3", "-o", str(file)).stdout == ""
    assert json.loads(file.read_text())["class"] == "single"
    error = run("pfn:4", "-o", str(file)).exception
    assert isinstance(error, HvoinspectError)
    assert error.status == ExitStatus.USAGE
    assert run("pfn:4", "-o", str(file), "-f", "-q").exit_code == 0
    assert json.loads(file.read_text())["pfn"] == 4


@pytest.mark.usefixtures("machine")
def test_quiet_prints_nothing() -> None:
    done = run("pfn:3", "-q")
    assert (done.exit_code, done.output) == (0, "")


def test_help_shows_examples_and_the_forms_of_an_address() -> None:
    said = CliRunner().invoke(page, ["--help"]).stdout
    assert "hvoinspect page ffffea0004009374 -c vmcore" in said
    assert "phys:0x10024d000" in said


def test_kernel_and_core_exclude_each_other() -> None:
    assert run("pfn:3", "-k").exit_code == ExitStatus.USAGE
