"""How what was measured is told: in rows, on a terminal, in the document."""

from __future__ import annotations

import pytest

from bench import document
from bench.cli import DOCUMENT, PARTS
from bench.clock import Times, in_turns
from bench.process import run
from bench.tables import RACE, Column, Kind, Table, race, text
from lab.errors import LabError

TABLE = Table(
    "Speed",
    (Column("what", "what", Kind.TEXT), Column("rate", "rate", Kind.RATE), *RACE[-2:]),
    (("scan", 12.3e6, 1.0, 2.0), ("nothing", None, 1.0, 2.0)),
    ("A note.",),
)


@pytest.mark.parametrize(
    ("value", "kind", "shown"),
    [
        ("scan", Kind.TEXT, "scan"),
        (268435456, Kind.COUNT, "268,435,456"),
        (2.719, Kind.SECONDS, "2.72 s"),
        (0.15, Kind.MILLISECONDS, "150 ms"),
        (89.4e6, Kind.RATE, "89.4 M/s"),
        (312_300_000, Kind.MEGABYTES, "312 MB"),
        (12.34, Kind.RATIO, "12.3 x"),
        (0.0049, Kind.PERCENT, "0.49 %"),
        (True, Kind.MET, "yes"),
        (False, Kind.MET, "no"),
        (None, Kind.SECONDS, ""),
    ],
)
def test_values_have_three_digits_and_a_unit(value: float, kind: Kind, shown: str) -> None:
    assert text(value, kind) == shown


def test_a_ratio_is_of_the_least_times_and_above_1_if_ours_is_faster() -> None:
    ours = Times((2.0, 1.0, 4.0), (1.0, 1.0, 0.5))
    theirs = Times((11.0, 10.0, 30.0), (4.0, 4.0, 4.0))
    row = dict(zip([c.key for c in RACE], race("scan", ours, "r", theirs, 100, 10.0), strict=True))
    assert (row["ratio"], row["ratio_of_medians"], row["met"]) == (10.0, 5.5, True)
    assert row["ratio_of_processor"] == 8.0
    assert (row["rate"], row["rival_rate"]) == (100.0, 10.0)
    assert race("scan", theirs, "r", ours, 100, 0.11)[8] is False


def test_ways_take_turns_and_the_first_turn_warms_up() -> None:
    calls: list[str] = []

    def call(name: str) -> int:
        calls.append(name)
        return len(calls)

    times, last = in_turns({"a": lambda: call("a"), "b": lambda: call("b")}, 2)
    assert calls == ["a", "b"] * 3
    assert {name: len(one.seconds) for name, one in times.items()} == {"a": 2, "b": 2}
    assert last == {"a": 5, "b": 6}


def test_processors_time_is_that_of_children_too() -> None:
    command = ["/usr/bin/python3", "-c", "sum(range(3_000_000))"]
    times, _ = in_turns({"child": lambda: run(command), "nothing": lambda: None}, 1, warm=False)
    assert times["child"].least_processor > 0.02 > times["nothing"].least_processor


def test_columns_for_json_only_are_in_json_only() -> None:
    assert TABLE.lines() == [["what", "rate"], ["scan", "12.3 M/s"], ["nothing", ""]]
    assert TABLE.as_json()["rows"][1] == {
        "what": "nothing",
        "rate": None,
        "seconds": 1.0,
        "rival_seconds": 2.0,
    }


def test_the_document_is_rewritten_between_markers_only() -> None:
    before = "# Title\n<!-- dump: begin -->\nold\n<!-- dump: end -->\n<!-- live: begin -->\n"
    table = document.markdown([TABLE])
    assert "| what | rate |\n| --- | ---: |\n| scan | 12.3 M/s |\n" in table
    once = document.insert(before, "dump", table)
    assert once == before.replace("old\n", table)
    assert document.insert(once, "dump", table) == once
    with pytest.raises(LabError, match="no place for the part live"):
        document.insert(before, "live", table)


@pytest.mark.parametrize("part", PARTS)
def test_every_part_has_its_place_in_the_document(part: str) -> None:
    assert document.insert(DOCUMENT.read_text(encoding="utf-8"), part, "text\n")
