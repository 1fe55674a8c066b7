"""Charts as values: what is in them, and that they depend on nothing else."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from hvoinspect.report import charts
from hvoinspect.report.charts_hotpath import Bar, Ratio, counts_chart, ratios_chart
from hvoinspect.report.charts_picture import CELLS, cells, exact_text, picture_chart
from hvoinspect.report.result import PictureJson

PICTURE: PictureJson = {"struct_pages_per_cell": 32768, "cells": "ooL s"}


def data_of(chart: charts.Chart) -> list[dict[str, list[Any]]]:
    """The columns of each data source in a chart."""
    found = []

    def look(value: object) -> None:
        if isinstance(value, dict):
            if value.get("name") == "ColumnDataSource":
                found.append(dict(value["attributes"]["data"]["entries"]))
            for inner in value.values():
                look(inner)
        elif isinstance(value, list | tuple):
            for inner in value:
                look(inner)

    look(chart["doc"])
    return found


class TestCells:
    def test_those_that_are_alike_are_joined(self) -> None:
        joined = list(cells(PICTURE, 4096, joined=True))
        assert [(cell.memory, cell.pfns, cell.meaning) for cell in joined] == [
            ("0 B to 256 MiB", "0x0 to 0xffff", "shared frames (HVO)"),
            ("256 MiB to 384 MiB", "0x10000 to 0x17fff", "2 MiB mappings"),
            ("384 MiB to 512 MiB", "0x18000 to 0x1ffff", "no struct pages"),
            ("512 MiB to 640 MiB", "0x20000 to 0x27fff", "4 KiB mappings, own frames"),
        ]

    @given(
        st.text("oLs ", max_size=300),
        st.integers(1, 2**40),
        st.sampled_from([4096, 65536]),
        st.booleans(),
    )
    def test_they_cover_all_without_gaps(
        self, codes: str, each: int, page_size: int, joined: bool
    ) -> None:
        picture: PictureJson = {"struct_pages_per_cell": each, "cells": codes}
        found = list(cells(picture, page_size, joined=joined))
        assert (
            "".join(cell.code * ((cell.last + 1 - cell.first) // each) for cell in found) == codes
        )
        pfn = 0
        for cell in found:
            assert (cell.first, cell.start) == (pfn, pfn * page_size)
            pfn = cell.last + 1
            assert cell.end == pfn * page_size

    @given(st.integers(0, 2**70))
    def test_a_size_is_not_rounded(self, count: int) -> None:
        number, unit = exact_text(count).replace(",", "").split()
        whole, _, part = number.partition(".")
        thousandths = int(whole) * 1000 + int(part.ljust(3, "0"))
        factor = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}[unit]
        assert thousandths * factor == count * 1000


class TestPictures:
    def test_a_hole_is_not_drawn(self) -> None:
        (data,) = data_of(picture_chart([("", PICTURE, 4096)]))
        assert data["meaning"] == [
            *("shared frames (HVO)", "shared frames (HVO)"),
            *("2 MiB mappings", "4 KiB mappings, own frames"),
        ]
        assert data["left"] == [0.0, 128.0, 256.0, 512.0]
        assert data["right"] == [128.0, 256.0, 384.0, 640.0]

    def test_kinds_differ_in_height_where_there_is_no_colour(self) -> None:
        heights = [height for _, height in CELLS.values()]
        assert len(set(heights)) == len(heights)

    def test_several_are_to_one_scale(self) -> None:
        small: PictureJson = {"struct_pages_per_cell": 32768, "cells": "L"}
        (data,) = data_of(picture_chart([("a", PICTURE, 4096), ("b", small, 4096)]))
        where = data["name"].index("b")
        assert (data["left"][where], data["right"][where]) == (0.0, 128.0)
        assert data["top"][where] < min(
            bottom for name, bottom in zip(data["name"], data["bottom"], strict=True) if name == "a"
        )


class TestCounts:
    BARS = (
        Bar("f", "head", 20.0, 200, 1),
        Bar("f", "fake", 5.0, 50, 2),
        Bar("g", "head", 1.0, 9, 1),
    )

    def test_helpers_of_a_function_follow_each_other(self) -> None:
        head, fake = data_of(counts_chart(self.BARS, "hits"))
        assert (head["function"], head["left"], head["right"]) == (["f", "g"], [0, 0], [20.0, 1.0])
        assert (fake["function"], fake["left"], fake["right"]) == (["f"], [20.0], [25.0])

    @given(st.lists(st.text("ab$<\u202e", max_size=90), unique=True, max_size=6))
    def test_no_two_names_become_one(self, names: list[str]) -> None:
        chart = counts_chart([Bar(name, "h", 1.0, 1, 1) for name in names], "hits")
        (labels,) = (data["y"] for data in data_of(chart)) if names else ([],)
        assert len(set(labels)) == len(names)
        assert "$" not in "".join(labels)  # which would be TeX


def test_intervals_that_are_open_reach_to_the_end() -> None:
    ratios = (
        Ratio("closed", 0.5, 0.4, 0.6, "2", "1", "0.4 to 0.6", significant=True),
        Ratio("open", 2.0, 1.5, None, "1", "2", "over 1.5", significant=True),
        Ratio("not known", 1.0, None, None, "1", "1", "", significant=False),
    )
    (data,) = [data for data in data_of(ratios_chart(ratios)) if "ratio" in data]
    assert data["low"] == [0.4, 1.5, 1.0]
    assert data["high"][0] == 0.6
    assert data["high"][1] > 2.0
    assert data["high"][2] == 1.0


def test_what_was_drawn_before_changes_nothing() -> None:
    first = charts.renumbered(picture_chart([("", PICTURE, 4096)]), "a")
    counts_chart(TestCounts.BARS, "hits")
    again = charts.renumbered(picture_chart([("", PICTURE, 4096)]), "a")
    assert json.dumps(first) == json.dumps(again)
    other = charts.renumbered(picture_chart([("", PICTURE, 4096)]), "b")
    assert other["root_id"] != first["root_id"]
