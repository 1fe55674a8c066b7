"""How often the hot path runs, and what became of it, as charts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hvoinspect.report.charts import Chart, chart_of, labels_of, looks
from hvoinspect.report.compare import rate_text

HELPER_COLOURS = ("#4a7fb5", "#b5701c", "#2f9273", "#9467a8", "#b8505f", "#7d7d32", "#7a7f87")
"""The last one is for all further helpers."""


@dataclass(frozen=True)
class Bar:
    """How often one function ran one helper; `names` are both as they are shown."""

    function: str
    helper: str
    rate: float
    hits: int
    copies: int


@dataclass(frozen=True)
class Ratio:
    """After by before, for what `name` names; the interval may be open or not known.

    No two that are shown together have the same name.
    """

    name: str
    ratio: float
    low: float | None
    high: float | None
    before: str
    after: str
    interval: str
    significant: bool


def helpers_of(bars: Sequence[Bar]) -> list[str]:
    """Return the helpers in the order of their colours."""
    return list(dict.fromkeys(bar.helper for bar in bars))


def counts_chart(bars: Sequence[Bar], what: str) -> Chart:
    """Return how often functions ran helpers, `what` a second, the first function on top."""
    from bokeh.models import (  # noqa: PLC0415
        ColumnDataSource,
        DataRange1d,
        FactorRange,
        HoverTool,
        NoOverlap,
        NumeralTickFormatter,
    )
    from bokeh.plotting import figure  # noqa: PLC0415

    functions = list(dict.fromkeys(bar.function for bar in bars))
    helpers = helpers_of(bars)
    labels = labels_of(functions)
    reached = dict.fromkeys(functions, 0.0)
    plot = figure(
        **looks(70 + 22 * len(functions)),
        tools="",
        y_range=FactorRange(factors=[labels[function] for function in reversed(functions)]),
        x_range=DataRange1d(start=0),
        x_axis_label=f"{what} a second",
    )
    for index, helper in enumerate(helpers):
        own = [bar for bar in bars if bar.helper == helper]
        left = [reached[bar.function] for bar in own]
        for bar in own:
            reached[bar.function] += bar.rate
        source = ColumnDataSource(
            {
                "y": [labels[bar.function] for bar in own],
                "left": left,
                "right": [reached[bar.function] for bar in own],
                "function": [bar.function for bar in own],
                "helper": [bar.helper or "all" for bar in own],
                "rate": [rate_text(bar.rate) for bar in own],
                "hits": [f"{bar.hits:,}" for bar in own],
                "copies": [f"{bar.copies:,}" for bar in own],
            }
        )
        plot.hbar(
            y="y",
            left="left",
            right="right",
            height=0.66,
            color=HELPER_COLOURS[min(index, len(HELPER_COLOURS) - 1)],
            source=source,
        )
    tips = [("function", "@function"), ("helper", "@helper"), (f"{what} a second", "@rate")]
    plot.add_tools(HoverTool(tooltips=[*tips, (what, "@hits"), ("copies", "@copies")]))
    plot.xaxis.formatter = NumeralTickFormatter(format="0,0.[00]")
    plot.xaxis.major_label_policy = NoOverlap(min_distance=8)
    plot.ygrid.visible = False
    return chart_of(plot)


def ratios_chart(ratios: Sequence[Ratio]) -> Chart:
    """Return ratios of after to before, each with its interval, on a logarithmic scale."""
    from bokeh.models import ColumnDataSource, FactorRange, HoverTool, Range1d  # noqa: PLC0415
    from bokeh.plotting import figure  # noqa: PLC0415

    labels = list(labels_of(ratio.name for ratio in ratios).values())
    ends = [
        end
        for one in ratios
        for end in (one.ratio, one.low, one.high)
        if end is not None and end > 0
    ]
    least, most = min([*ends, 0.8]) * 0.9, max([*ends, 1.25]) * 1.1
    source = ColumnDataSource(
        {
            "y": labels,
            "ratio": [one.ratio for one in ratios],
            "low": [one.low or (least if one.high else one.ratio) for one in ratios],
            "high": [one.high or (most if one.low else one.ratio) for one in ratios],
            "name": [one.name for one in ratios],
            "shown": [f"{one.ratio:.4g}" for one in ratios],
            "before": [one.before for one in ratios],
            "after": [one.after for one in ratios],
            "interval": [one.interval or "not known" for one in ratios],
            "colour": ["#b5701c" if one.significant else "#7a7f87" for one in ratios],
        }
    )
    plot = figure(
        **looks(70 + 22 * len(ratios)),
        tools="",
        x_axis_type="log",
        x_range=Range1d(start=least, end=most),
        y_range=FactorRange(factors=labels[::-1]),
        x_axis_label="after / before",
    )
    plot.vspan(x=[1.0], line_color="#7a7f87", line_dash="dashed", line_width=1)
    plot.segment(
        x0="low", x1="high", y0="y", y1="y", line_color="colour", line_width=2, source=source
    )
    dots = plot.scatter(
        x="ratio", y="y", size=9, fill_color="colour", line_color="colour", source=source
    )
    plot.add_tools(
        HoverTool(
            renderers=[dots],
            tooltips=[
                ("", "@name"),
                ("before", "@before"),
                ("after", "@after"),
                ("ratio", "@shown"),
                ("interval", "@interval"),
            ],
        )
    )
    plot.ygrid.visible = False
    return chart_of(plot)
