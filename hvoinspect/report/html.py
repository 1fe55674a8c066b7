"""One self-contained page of HTML: scans, what changed between them, recordings of the hot path.

The page loads nothing: its Content-Security-Policy forbids all of the network, and scripts run by
their hashes only. All texts are escaped by the templates; what could steer or hide something, as
control characters and those that turn the direction of writing, is spelled out. The same input
gives the same page.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hvoinspect.errors import printable
from hvoinspect.report import charts, html_hotpath, html_scans
from hvoinspect.report.charts import Chart
from hvoinspect.report.charts_hotpath import HELPER_COLOURS
from hvoinspect.report.charts_picture import CELLS
from hvoinspect.report.html_hotpath import Recordings
from hvoinspect.report.html_scans import GivenScan
from hvoinspect.report.terminal import SIGNS
from hvoinspect.report.words import bytes_text, count_text, percent_text
from hvoinspect.target.layout import VMEMMAP_PAGE
from hvoinspect.version import __version__

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).with_name("templates")


@dataclass
class Charts:
    """The charts of a page: an id of an element -> what is drawn in it."""

    by_id: dict[str, Chart] = field(default_factory=dict)

    def add(self, chart: Chart | None) -> str | None:
        """Return the id of the element that `chart` goes into, None if there is none."""
        if chart is None:
            return None
        name = f"chart-{len(self.by_id) + 1}"
        self.by_id[name] = charts.renumbered(chart, name)
        return name


def to_html(
    scans: Sequence[GivenScan], recordings: Sequence[Recordings], title: str | None = None
) -> str:
    """Return the page. Raises HvoinspectError if recordings cannot be compared."""
    drawn = Charts()
    shown = [html_scans.view(number, given, drawn.add) for number, given in enumerate(scans, 1)]
    changes = html_scans.changes(shown, drawn.add) if len(shown) > 1 else None
    hot_path = html_hotpath.view(recordings, drawn.add) if recordings else None
    scripts = [(TEMPLATES / "report.js").read_text("utf-8")]
    if drawn.by_id:
        scripts.insert(0, charts.javascript())
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            title=title or html_scans.title(shown),
            version=__version__,
            scans=shown,
            changes=changes,
            hot_path=hot_path,
            signs={code: sign[3] for code, sign in SIGNS.items()},
            cell_colours={code: colour for code, (colour, _) in CELLS.items()},
            helper_colours=HELPER_COLOURS,
            charts=drawn.by_id,
            scripts=scripts,
            hashes=[_hash(script) for script in scripts],
        )
    )


def _hash(script: str) -> str:
    """Return what a Content-Security-Policy calls `script`."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: PLC0415

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_spelled_out,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: Mapping[str, Any] = {
        "bytes": lambda count: "-" if count is None else bytes_text(count),
        "count": count_text,
        "pages": lambda count: "-" if count is None else bytes_text(count * VMEMMAP_PAGE),
        "percent": percent_text,
        "time": lambda time: time.replace("T", " ").replace("+00:00", " UTC"),
        "plural": lambda count, word: f"{count:,} {word}{'s' * (count != 1)}",
    }
    environment.filters.update(filters)
    # BokehJS reads a model where it comes first, and takes only references to it from there on.
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False, "allow_nan": False}
    return environment


def _spelled_out(value: object) -> object:
    """Return what a template shows of `value`; markup stays as the template made it."""
    return printable(value) if type(value) is str else value
