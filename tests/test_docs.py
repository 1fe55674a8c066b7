"""The documentation: it builds without a warning, is complete, and its links lead somewhere.

Links are held twice: those of the site, and those that a git host shows of the files as they are.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import click
import pytest

from tests.commands import ALL_COMMANDS

pytestmark = pytest.mark.xdist_group("docs")

PROJECT = Path(__file__).parents[1]
SOURCES = [PROJECT / "README.md", PROJECT / "CHANGELOG.md", *sorted(PROJECT.glob("docs/*.md"))]
COMMANDS = "docs/site/commands.html"


class Page(HTMLParser):
    """`text` is what a reader sees, spaces as they are; `loads` is what a browser fetches."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.contents: list[str] = []
        self.text = ""
        self._in_contents = False
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        self.ids |= {given["id"]} if "id" in given else set()
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
            if self._in_contents:
                self.contents.append(given["href"])
        elif tag == "link" and given.get("rel") == "stylesheet":
            self.loads.append(given["href"])
        elif "src" in given:
            self.loads.append(given["src"])
        if "sidebar-tree" in given.get("class", ""):
            self._in_contents = True
        elif tag in ("main", "article"):
            self._in_contents = False

    def handle_data(self, data: str) -> None:
        self.text += data


@dataclass
class Site:
    """A built site: its folder, how building it went, and its pages by their path in it."""

    folder: Path
    status: int
    said: str
    pages: dict[str, Page] = field(init=False)

    def __post_init__(self) -> None:
        self.pages = {
            path.relative_to(self.folder).as_posix(): Page(path)
            for path in self.folder.rglob("*.html")
            if "_static" not in path.parts
        }


def build(folder: Path, project: Path = PROJECT) -> Site:
    """Build the documentation of `project` as `scripts/docs` does."""
    script = (PROJECT / "scripts/docs").read_text(encoding="utf-8")
    (options,) = re.findall(r"/sphinx-build\" (.*) -c docs/site -d build/doctrees \. ", script)
    paths = ["-c", "docs/site", "-d", str(folder / "doctrees"), ".", str(folder / "site")]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *options.split(), *paths],
        cwd=project,
        env=os.environ | {"NO_COLOR": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return Site(folder / "site", done.returncode, done.stdout)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return build(tmp_path_factory.mktemp("docs"))


def test_it_builds_without_a_warning(site: Site) -> None:
    assert (site.said, site.status) == ("", 0)


def test_a_broken_link_is_a_warning_and_a_warning_a_failure(tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(
        PROJECT / "docs", project / "docs", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in ("README.md", "CHANGELOG.md"):
        shutil.copyfile(PROJECT / name, project / name)
    shutil.copytree(PROJECT / "contrib", project / "contrib")
    (project / "hvoinspect").symlink_to(PROJECT / "hvoinspect")
    with (project / "docs/api.md").open("a", encoding="utf-8") as page:
        page.write("\n[a](gone.md), [b](hotpath.md#no-such), [c](../no-folder/)\n")
        page.write(
            "\n[d](drgn.md), [e](../contrib/systemd/), [f](site/conf.py)\n\n```text\n{ $\n```\n"
        )
    broken = build(tmp_path, project)
    assert broken.status == 1
    warnings = [line for line in broken.said.splitlines() if "WARNING" in line]
    for link in ("gone.md", "no-such", "no-folder"):
        assert [link in warning for warning in warnings].count(True) == 1
    assert len(warnings) == 3


def test_every_page_is_in_the_table_of_contents_of_every_page(site: Site) -> None:
    expected = {path.relative_to(PROJECT).with_suffix(".html").as_posix() for path in SOURCES}
    for name, page in site.pages.items():
        if name == "index.html":
            continue
        listed = {_target(name, link)[0] for link in page.contents}
        # The start page is what the name above the contents leads to.
        assert listed | {"README.html"} >= expected | {COMMANDS}, name
        assert "README.html" in {_target(name, link)[0] for link in page.links}, name


def test_the_readme_is_the_start_page(site: Site) -> None:
    index, readme = site.pages["index.html"], site.pages["README.html"]
    assert index.text == readme.text
    first = (PROJECT / "README.md").read_text(encoding="utf-8").splitlines()[0]
    assert first.removeprefix("# ") in index.text


def test_every_link_of_the_site_leads_somewhere(site: Site) -> None:
    broken = [
        f"{name}: {link}"
        for name, page in site.pages.items()
        for link in page.links + page.loads
        if not _is_elsewhere(link) and not _leads(site, name, link)
    ]
    assert not broken
    assert sum(len(page.links) for page in site.pages.values()) > 500


def test_a_folder_is_a_page_of_its_files(site: Site) -> None:
    assert "contrib.html" in site.pages["README.html"].links
    for path in PROJECT.glob("contrib/**/*.*"):
        name = path.relative_to(PROJECT).as_posix()
        assert name in site.pages["contrib.html"].links
        assert (site.folder / name).read_bytes() == path.read_bytes()


def test_reading_it_takes_no_network(site: Site) -> None:
    assert not [load for page in site.pages.values() for load in page.loads if _is_elsewhere(load)]
    styles = list(site.folder.glob("_static/**/*.css"))
    assert styles
    for style in styles:
        text = style.read_text(encoding="utf-8")
        assert not re.search(r"""(url\(\s*["']?|@import\s+["'])(https?:)?//""", text), style


@pytest.mark.parametrize("name", ALL_COMMANDS)
def test_a_command_is_on_the_commands_page_with_all_that_its_help_says(
    site: Site, name: str
) -> None:
    command, page = ALL_COMMANDS[name], site.pages[COMMANDS]
    key, words = name.replace(" ", "-"), _words(page.text)
    assert key in page.ids
    for option in command.params:
        if isinstance(option, click.Option) and not option.hidden:
            for spelling in [*option.opts, *option.secondary_opts]:
                assert f"cmdoption-{key}-{spelling.lstrip('-')}" in page.ids
            assert _words(option.help) in words
    for line in f"{command.help}\n{command.epilog or ''}".splitlines():
        assert _words(line) in words
    for line in (command.epilog or "").splitlines():
        if line.startswith("  "):  # what stands below each other still does
            assert f"\n{line[2:]}\n" in page.text


def links_of(path: Path) -> list[str]:
    text = _prose(path)
    inline = re.findall(r"\]\(<?([^)\s>]+)>?[^)]*\)", text)
    return inline + re.findall(r"^\[[^\]]+\]:\s+(\S+)", text, re.MULTILINE)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_every_link_of_a_file_leads_to_a_file_or_folder_and_a_heading_of_it(path: Path) -> None:
    for link in links_of(path):
        if _is_elsewhere(link):
            continue
        place = urlsplit(link)
        target = path.parent / unquote(place.path) if place.path else path
        assert target.exists(), link
        assert target.resolve().is_relative_to(PROJECT), link
        if place.fragment:
            assert place.fragment in _anchors(target), link


def test_the_files_have_links_to_look_at() -> None:
    links = [link for path in SOURCES for link in links_of(path)]
    assert "hotpath.md#before-and-after-compare" in links
    assert len(links) > 40


def _prose(path: Path) -> str:
    """The text without its blocks of code, as those are no Markdown."""
    return re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.M)


def _anchors(path: Path) -> set[str]:
    """The anchors that git hosts give headings."""
    anchors: set[str] = set()
    for heading in re.findall(r"^#+ +(.+?) *#*$", _prose(path), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        anchor = unique = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        count = 0
        while unique in anchors:
            count += 1
            unique = f"{anchor}-{count}"
        anchors.add(unique)
    return anchors


def _words(text: str | None) -> str:
    return " ".join((text or "").replace("`", "").replace("\x08", "").split())


def _is_elsewhere(link: str) -> bool:
    place = urlsplit(link)
    return bool(place.scheme or place.netloc)


def _target(page: str, link: str) -> tuple[str, str]:
    """The path in the site that `link` of `page` leads to, and the anchor."""
    place = urlsplit(link)
    path = os.path.normpath(Path(page).parent / unquote(place.path)) if place.path else page
    return path, unquote(place.fragment)


def _leads(site: Site, page: str, link: str) -> bool:
    path, anchor = _target(page, link)
    if anchor:
        return path in site.pages and anchor in site.pages[path].ids
    return (site.folder / path).is_file()
