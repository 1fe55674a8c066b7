"""Links to folders of the project: each leads to a page that lists the folder's files."""

import shutil
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict[str, bool]:
    """Register what is done here; Sphinx calls this."""
    app.connect("doctree-read", _find_links)
    app.connect("html-collect-pages", _list_folders)
    return {"parallel_read_safe": False, "parallel_write_safe": True}


def _find_links(app: Sphinx, doctree: nodes.document) -> None:
    """Point links to folders, which MyST takes for names that it does not know, to their lists."""
    project, page = Path(app.srcdir), app.env.docname
    for link in list(doctree.findall(addnodes.pending_xref)):
        folder = (project / page).parent.joinpath(link["reftarget"]).resolve()
        if link["reftype"] != "myst" or not folder.is_dir() or project not in folder.parents:
            continue
        name = folder.relative_to(project).as_posix()
        _folders(app).add(name)
        uri = "../" * page.count("/") + quote(f"{name}.html")
        link.replace_self(nodes.reference("", "", *link.children, refuri=uri, internal=True))


def _list_folders(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Copy the folders' files beside the pages, and list them."""
    for name in sorted(_folders(app)):
        entries = []
        for file in sorted(Path(app.srcdir, name).rglob("*")):
            if not file.is_file() or "__pycache__" in file.parts:
                continue
            path = file.relative_to(app.srcdir)
            copy = Path(app.outdir, path)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
            uri = "../" * name.count("/") + quote(path.as_posix())
            entries.append(f'<li><a href="{uri}">{escape(path.as_posix())}</a></li>')
        body = f"<h1>{escape(name)}/</h1><ul>{''.join(entries)}</ul>"
        yield name, {"title": f"{name}/", "body": body}, "page.html"


def _folders(app: Sphinx) -> set[str]:
    """Folders that links lead to; those of pages that are not read again stay."""
    folders: set[str] = app.env.__dict__.setdefault("hvoinspect_folders", set())
    return folders
