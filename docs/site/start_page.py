"""README.md as the start page: with the table of contents, and as the index.html of servers."""

import shutil
from pathlib import Path

from sphinx.application import Sphinx

CONTENTS = Path(__file__).with_name("contents.md")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register what is done here; Sphinx calls this."""
    app.connect("source-read", _add_contents)
    app.connect("build-finished", _name_index)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _add_contents(app: Sphinx, page: str, source: list[str]) -> None:
    """Append the table of contents, which is nothing for a git host to show, to the start page."""
    if page == app.config.root_doc:
        source[0] += "\n" + CONTENTS.read_text(encoding="utf-8")


def _name_index(app: Sphinx, error: Exception | None) -> None:
    """Have the start page as index.html, too."""
    start = Path(app.outdir, f"{app.config.root_doc}.html")
    if error is None and start.is_file():
        shutil.copyfile(start, start.with_name("index.html"))
