"""The picture of a vmemmap, or of several to one scale, as a chart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hvoinspect.report.charts import Chart, chart_of, looks
from hvoinspect.report.result import PictureJson
from hvoinspect.report.terminal import SIGNS, struct_pages

CELLS = {"o": ("#2f9273", 0.4), "L": ("#4a7fb5", 1.0), "s": ("#b5701c", 0.7)}
"""Code in a picture -> colour, and height: the kinds differ on paper without colours as well."""

HOLE = "no struct pages"


@dataclass(frozen=True)
class Cell:
    """Neighbouring cells of a picture that are mapped alike, or one of them.

    `first` and `last` are pfns, `start` and `end` bytes of memory.
    """

    first: int
    last: int
    start: int
    end: int
    code: str

    @property
    def pfns(self) -> str:
        """From which pfn to which."""
        return f"{self.first:#x} to {self.last:#x}"

    @property
    def memory(self) -> str:
        """From which byte of memory to which."""
        return f"{exact_text(self.start)} to {exact_text(self.end)}"

    @property
    def meaning(self) -> str:
        """What maps the struct pages."""
        return SIGNS[self.code][3] if self.code in SIGNS else HOLE


def exact_text(count: int) -> str:
    """Return a number of bytes, not rounded: "2.125 GiB"."""
    for unit, name in ((40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
        thousandths = 1000 * count
        if count >= 1 << unit and thousandths % (1 << unit) == 0:
            whole, part = divmod(thousandths >> unit, 1000)
            return f"{whole:,}{f'.{part:03}'.rstrip('.0')} {name}"
    return f"{count:,} B"


def cells(picture: PictureJson, page_size: int, *, joined: bool) -> Iterator[Cell]:
    """Yield the cells of a picture, those that are alike `joined` to one."""
    codes, each = picture["cells"], picture["struct_pages_per_cell"]
    begin = 0
    for index in range(1, len(codes) + 1):
        if joined and index < len(codes) and codes[index] == codes[begin]:
            continue
        first, end = begin * each, index * each
        yield Cell(first, end - 1, first * page_size, end * page_size, codes[begin])
        begin = index


def picture_chart(pictures: Sequence[tuple[str, PictureJson, int]]) -> Chart:
    """Return vmemmaps, one below the other and to one scale: (name, picture, page size) of each."""
    from bokeh.models import (  # noqa: PLC0415
        AdaptiveTicker,
        ColumnDataSource,
        HoverTool,
        NoOverlap,
        PanTool,
        Range1d,
        WheelZoomTool,
    )
    from bokeh.plotting import figure  # noqa: PLC0415

    span = max(struct_pages(picture) * page for _, picture, page in pictures)
    unit, name_of_unit = _unit(span)
    least = min(picture["struct_pages_per_cell"] * page for _, picture, page in pictures)
    rows = [
        (row, name, cell)
        for row, (name, picture, page) in enumerate(pictures)
        for cell in cells(picture, page, joined=False)
        if cell.code in CELLS
    ]
    count = len(pictures)
    low = [float(count - 1 - row) for row, _, _ in rows]
    source = ColumnDataSource(
        {
            "left": [cell.start / unit for _, _, cell in rows],
            "right": [cell.end / unit for _, _, cell in rows],
            "bottom": low,
            "top": [
                base + 0.86 * CELLS[cell.code][1]
                for base, (_, _, cell) in zip(low, rows, strict=True)
            ],
            "colour": [CELLS[cell.code][0] for _, _, cell in rows],
            "name": [name for _, name, _ in rows],
            "memory": [cell.memory for _, _, cell in rows],
            "pfns": [cell.pfns for _, _, cell in rows],
            "meaning": [cell.meaning for _, _, cell in rows],
        }
    )
    plot = figure(
        **looks(64 + 56 * count),
        tools="",
        x_range=Range1d(
            start=0.0, end=span / unit, bounds=(0.0, span / unit), min_interval=least / unit
        ),
        x_axis_label=f"memory, {name_of_unit}",
        y_range=Range1d(start=-0.06, end=count - 0.06),
    )
    bars = plot.quad(
        left="left",
        right="right",
        bottom="bottom",
        top="top",
        fill_color="colour",
        line_color="colour",
        line_width=0.5,
        source=source,
        hover_line_color="#e8e4d8",
        hover_fill_color="colour",
        hover_fill_alpha=0.75,
    )
    tips = [("memory", "@memory"), ("pfns", "@pfns"), ("mapped by", "@meaning")]
    wheel = WheelZoomTool(dimensions="width", modifiers={"ctrl": True})
    plot.add_tools(
        HoverTool(
            renderers=[bars],
            tooltips=[("scan", "@name"), *tips] if count > 1 else tips,
            point_policy="follow_mouse",
        ),
        PanTool(dimensions="width"),
        wheel,
    )
    plot.toolbar.active_scroll = wheel
    plot.xaxis.ticker = AdaptiveTicker(base=2, mantissas=[1.0], desired_num_ticks=8)
    plot.xaxis.major_label_policy = NoOverlap(min_distance=8)
    plot.yaxis.visible = False
    plot.ygrid.visible = False
    plot.xgrid.visible = False
    return chart_of(plot)


def _unit(span: int) -> tuple[int, str]:
    """Return the largest unit, in bytes, that `span` bytes hold two of, and its name."""
    units = ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"))
    return next((unit for unit in units if span >= 2 * unit[0]), (1 << 10, "KiB"))
