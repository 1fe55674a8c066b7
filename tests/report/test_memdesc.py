"""What `memdesc` tells: its JSON adds up, its page is readable at any width and in ASCII."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console

from hvoinspect.errors import ExitStatus
from hvoinspect.report.memdesc import (
    KINDS,
    MAX_RUNS,
    MemdescResult,
    exit_status,
    memdesc_result,
    to_json,
)
from hvoinspect.report.memdesc_page import SHOWN_RUNS, guard_text, show, verdict
from hvoinspect.vmemmap.memdesc import FALSE_TAILS, MISSED_TAILS, MODELS
from hvoinspect.vmemmap.survey import survey
from tests.madeup import COMPOUND, ORDER_2M, SECTION_PAGES, Machine
from tests.report.situations import TAKEN
from tests.vmemmap.test_quick import free_block

PAGES = Path(__file__).parent / "pages"
WIDTHS = (40, 60, 80, 200)


def machine() -> Machine:
    """Two nodes, holes, offline memory, a device, a slab, kernel memory, a hugepage, free ones."""
    made = Machine((0, 1, 8, 9, 10, 41), offline=frozenset({9}), device=frozenset({10}))
    made.hugetlb(5 << ORDER_2M)
    made.slab(64, 3)
    made.compound(128, 2)
    for pfn in (41 * SECTION_PAGES, 8 * SECTION_PAGES + 1024):
        free_block(made, pfn, 9)
    return made


def result_of(made: Machine, model: str = "self") -> MemdescResult:
    return memdesc_result(survey(made.kernel(), MODELS[model]), TAKEN)


def unreadable() -> MemdescResult:
    made = machine()
    made.unreadable.add(made.frame_of(made.address_of(6400)) or 0)
    return result_of(made)


def damaged() -> MemdescResult:
    made = machine()
    made.set_word((5 << ORDER_2M) + 9, COMPOUND, 0)
    return result_of(made)


def scattered() -> MemdescResult:
    return result_of(Machine(tuple(range(0, 64, 2))))


SITUATIONS: dict[str, Callable[[], MemdescResult]] = {
    **{name: partial(result_of, machine(), name) for name in MODELS},
    "pointer": lambda: result_of(Machine((0,), tail="pointer")),
    "odd": lambda: result_of(Machine((0,), tail="pointer", page_size=56)),
    "five": lambda: result_of(Machine((0, 1), levels=5, block_sections=None)),
    "unreadable": unreadable,
    "damaged": damaged,
    "scattered": scattered,
}


@cache
def situation(name: str) -> MemdescResult:
    return SITUATIONS[name]()


def shown(result: MemdescResult, width: int = 80, encoding: str = "utf-8") -> str:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding, newline="")
    show(result, Console(file=file, width=width, color_system=None, _environ={}))
    file.flush()
    return raw.getvalue().decode(encoding)


@pytest.mark.parametrize("model", MODELS)
def test_the_whole_page(model: str) -> None:
    """What a person reads; looked over by one, and changed only on purpose."""
    page = shown(situation(model))
    assert page == (PAGES / f"memdesc-{model}.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("name", SITUATIONS)
def test_lines_fit_and_end_where_their_text_does(name: str, encoding: str, width: int) -> None:
    page = shown(situation(name), width, encoding)
    lines = page.split("\n")
    assert lines.pop() == "", "the last line is whole"
    assert [line for line in lines if cell_len(line) > width or line != line.rstrip()] == []
    assert "…" not in page, "nothing is cut off"
    assert page.isascii() or encoding == "utf-8"


@pytest.mark.parametrize("name", SITUATIONS)
def test_the_json_adds_up(name: str) -> None:
    result = situation(name)
    assert json.loads(to_json(result)) == result
    rule = result["rule"]
    for side in ("false_tail", "missed_tail"):
        kinds = [kind for kind in result["disagreements"] if kind["side"] == side]
        assert sum(kind["count"] for kind in kinds) == rule[side]
    if (
        result["encoding"]["struct_page_bytes"] == 64
    ):  # else a block of 2 MiB is more than a section
        mapped = sum(run["bytes"] for run in result["runs"])
        judged = rule["agree"] + rule["false_tail"] + rule["missed_tail"]
        assert judged + rule["unjudged"] == mapped // 64
    for run in result["runs"]:
        assert sum(span["bytes"] for span in run["spans"]) == run["bytes"]
        assert run["spans"][0]["start"] == run["start"]
    assert exit_status(result) == (ExitStatus.PARTIAL if name == "unreadable" else ExitStatus.OK)


def test_a_run_is_of_a_node_and_a_zone_if_all_of_it_is() -> None:
    runs = situation("self")["runs"]
    assert [(run["node"], run["zone"]) for run in runs] == [
        (0, "Normal"),
        (None, None),
        (1, "Normal"),
    ]
    spans = [(span["node"], span["zone"], span["offline"]) for span in runs[1]["spans"]]
    assert spans == [(0, "Normal", False), (None, None, True), (0, "Device", False)]


def test_what_decides_the_encoding_is_said() -> None:
    def words(name: str) -> str:
        return " ".join(situation(name)["needs"]["words"])

    assert "compound_info_has_mask() is true" in words("self")
    assert "All tails hold masks" in words("self")
    assert "cannot hold the memdesc of one of them" in words("self")
    assert "from before masks" in words("pointer")
    assert "There are no tails" in words("pointer")
    assert "can hold the same memdesc 64 times over" in words("pointer")


def test_alignment_is_held_against_the_largest_folio() -> None:
    needs = result_of(Machine((0,), vmemmap=0xFFFF_EA00_4000_0000))["needs"]
    assert (needs["vmemmap_aligned_bytes"], needs["aligned"]) == (1 << 30, True)
    needs = result_of(Machine((0,), vmemmap=0xFFFF_EA00_0800_0000))["needs"]
    assert (needs["vmemmap_aligned_bytes"], needs["aligned"]) == (1 << 27, False)
    assert needs["largest_folio_needs_bytes"] == 1 << 28
    assert (needs["largest_hugepage_order"], needs["largest_hugepage_needs_bytes"]) == (18, 1 << 24)
    assert "It is not: sparse_init() warns." in needs["words"][-1]


def test_a_memory_block_of_unknown_size_is_taken_for_a_section_and_told() -> None:
    worst = situation("five")["worst_case"]
    assert (worst["memory_block_bytes"], worst["memory_block_known"]) == (1 << 27, False)
    assert "(a section: the kernel does not tell more)" in shown(situation("five"), 200)


def test_many_runs_are_counted_and_some_listed() -> None:
    result = situation("scattered")
    assert len(result["runs"]) == 32
    assert f"... and {32 - SHOWN_RUNS} more runs: --json lists 32 of all." in shown(result)
    many = Machine((0, 1, 2, 3, 4), base_pages=frozenset({0, 1, 2, 3, 4}))
    for at in range(1, 2 * MAX_RUNS + 20, 2):
        table, index = many.entry(64 * at)
        many.frames[table, index] = np.uint64(0)
    result = result_of(many)
    assert (len(result["runs"]), result["runs_omitted"]) == (MAX_RUNS, 11)
    assert result["guard"]["zero_pages"] == MAX_RUNS + 11


def test_verdicts() -> None:
    assert verdict(situation("self")).endswith("so it is for all of 196,608 struct pages.")
    assert "would be taken for tails" in verdict(situation("null-free"))
    assert "3 tails would be missed" in verdict(situation("slab-table"))
    assert "1 tails would be missed" in verdict(situation("damaged"))


def test_guards_in_words() -> None:
    guard = situation("self")["guard"]
    assert guard_text(guard) == ("3 mappings of it and 5 page tables (3 PTE, 1 PMD, 1 PUD), 20 KiB")
    none = {**guard, "pte_tables": 0, "pmd_tables": 0, "pud_tables": 0, "zero_pages": 1}
    assert guard_text({**none, "unknown": 2}) == (  # type: ignore[typeddict-item]
        "1 mapping of it and no page table; of 2 more the page tables cannot be read"
    )


def test_each_disagreement_has_a_name_and_a_meaning() -> None:
    assert KINDS.keys() == {*FALSE_TAILS, *MISSED_TAILS}
    assert len({name for name, _ in KINDS.values()}) == len(KINDS)
