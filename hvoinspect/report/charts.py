"""What all charts have in common: values that BokehJS draws in a browser, plain objects of JSON.

The same data give the same value, whatever was drawn before it in this process. Colours of axes and
texts come from the page's style sheet (Bokeh's `--bk-*` variables), so that they follow it from
light to dark; marks have colours that stand out on both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bokeh.models import Plot

Chart = dict[str, Any]
"""What `Bokeh.embed.embed_item` takes, without the element that it goes into."""

MAX_LABEL = 32
"""Characters of a name on an axis; what is pointed at shows all of it."""


def javascript() -> str:
    """Return the library that draws charts, for a page that may load nothing."""
    from bokeh.resources import Resources  # noqa: PLC0415

    script: str = Resources(mode="inline", components=["bokeh"]).js_raw[0]
    return script


def looks(height: int) -> dict[str, Any]:
    """Return what all charts have in common."""
    return {
        "height": height,
        "sizing_mode": "stretch_width",
        "output_backend": "svg",
        "toolbar_location": None,
        "background_fill_color": None,
        "border_fill_color": None,
        "outline_line_color": None,
        "min_border_right": 16,
    }


def labels_of(texts: Iterable[str]) -> dict[str, str]:
    """Return labels of different texts that BokehJS shows as they are, no two of them the same.

    What is between $$ it would take for TeX, and would load what draws that.
    """
    labels: dict[str, str] = {}
    for text in texts:
        short = text if len(text) <= MAX_LABEL else f"{text[: MAX_LABEL - 3]}..."
        label = short.replace("$", "\N{FULLWIDTH DOLLAR SIGN}") or "?"
        labels[text] = f"{label} ({len(labels)})" if label in labels.values() else label
    return labels


def chart_of(plot: Plot) -> Chart:
    """Return `plot` as a value."""
    from bokeh.embed import json_item  # noqa: PLC0415

    item = json_item(plot)
    return {"version": item["version"], "root_id": item["root_id"], "doc": item["doc"]}


def renumbered(chart: Chart, prefix: str) -> Chart:
    """Return `chart` with ids by place, in place of how many this process had made before."""
    ids: dict[str, str] = {}
    for name in _ids(chart["doc"]):
        ids.setdefault(name, f"{prefix}-{len(ids) + 1}")
    return {**chart, "root_id": ids[chart["root_id"]], "doc": _renamed(chart["doc"], ids)}


def _ids(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("id"), str):
            yield value["id"]
        for inner in value.values():
            yield from _ids(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _ids(inner)


def _renamed(value: Any, ids: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {
            key: ids[inner] if key == "id" and isinstance(inner, str) else _renamed(inner, ids)
            for key, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [_renamed(inner, ids) for inner in value]
    return value
