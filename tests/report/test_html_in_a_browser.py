"""The page in a real browser: it needs nothing, can be asked, read, zoomed and printed."""

from __future__ import annotations

import copy
import itertools
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from hvoinspect.hotpath.run import Count, Run
from hvoinspect.report.html import to_html
from hvoinspect.report.html_hotpath import Recordings
from hvoinspect.report.result import ScanResult
from tests.report.browser import Browser, browser, cannot
from tests.report.pages_of_html import HOSTILE
from tests.report.situations import situation
from tests.report.test_html import SIDES

pytestmark = [pytest.mark.xdist_group("browser"), pytest.mark.timeout(900)]

PICTURE = "chart-1"
FINDINGS = range(0xABC00, 0xABC00 + 60)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scans, the second with many findings, and runs before and after."""
    damaged: ScanResult = copy.deepcopy(situation("error"))
    damaged["picture"] = {"struct_pages_per_cell": 32768, "cells": "oooo" + "LLLL" + "s" * 8}
    (finding,) = damaged["findings"][:1]
    damaged["findings"] = [{**finding, "pfn": pfn} for pfn in FINDINGS]
    damaged["findings_count"]["error"] = len(FINDINGS)
    path = tmp_path_factory.mktemp("pages") / "report.html"
    path.write_text(
        to_html([(Path("damaged.json"), damaged), (Path("mask.json"), situation("mask"))], SIDES)
    )
    return path


@pytest.fixture
def opened(chromium: Browser, page: Path) -> Browser:
    """The page, as it is without any wish of the user's."""
    chromium.media(prefers_color_scheme="light")
    chromium.width(1000)
    chromium.complaints()
    chromium.requests()
    chromium.open(page)
    return chromium


def test_it_loads_nothing_and_has_nothing_to_complain_of(opened: Browser, page: Path) -> None:
    assert opened.complaints() == []
    asked = [url for url in opened.requests() if not url.startswith("data:")]
    assert asked == [page.as_uri()]


def test_what_it_may_not_load_is_not_loaded(opened: Browser) -> None:
    opened.run("document.body.append(Object.assign(new Image(), {src: 'http://192.0.2.1/x.png'}))")
    opened.wait_for(lambda: any("Content Security Policy" in c for c in opened.complaints()))


def test_the_picture_can_be_asked(opened: Browser) -> None:
    opened.point_at(PICTURE, 0.1, 0.4)
    told = opened.wait_for(opened.tooltip)
    assert "shared frames (HVO)" in told
    assert "0x8000 to 0xffff" in told
    assert "128 MiB to 256 MiB" in told
    opened.point_at(PICTURE, 0.4, 0.4)
    opened.wait_for(lambda: "2 MiB mappings" in opened.tooltip())


@pytest.mark.parametrize("key", [Keys.ENTER, None], ids=["by key", "by pointer"])
def test_the_picture_can_be_zoomed(key: str | None, opened: Browser) -> None:
    def ticks() -> list[str]:
        return opened.in_charts("text", PICTURE)

    def press(name: str) -> None:
        button = opened.driver.find_element(By.CSS_SELECTOR, f"#scan-1 [data-zoom={name}]")
        button.send_keys(key) if key else button.click()

    whole = opened.wait_for(ticks)
    press("in")
    closer = opened.wait_for(lambda: ticks() != whole and ticks())
    press("right")
    opened.wait_for(lambda: ticks() not in (whole, closer) and ticks())
    press("all")
    opened.wait_for(lambda: ticks() == whole)
    press("out")  # there is nothing beyond the whole
    opened.point_at(PICTURE, 0.1, 0.4)
    opened.wait_for(lambda: "0x8000 to 0xffff" in opened.tooltip())


class TestColours:
    PAPER = "return getComputedStyle(document.documentElement).backgroundColor"
    FAINT = """
        const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
        const luminance = (rgb) => rgb.slice(0, 3)
          .map((v) => v / 255)
          .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
          .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
        const behind = (e) => {
          for (; e; e = e.parentElement) {
            const colour = numbers(getComputedStyle(e).backgroundColor);
            if (colour.length === 3 || colour[3] > 0) return colour;
          }
        };
        document.querySelectorAll("details").forEach((e) => { e.open = true; });
        return [...document.body.querySelectorAll("*")]
          .filter((e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()))
          .filter((e) => e.tagName !== "SCRIPT" && e.checkVisibility())
          .map((e) => {
            const pair = [numbers(getComputedStyle(e).color), behind(e)].map(luminance);
            return [e, (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05)];
          })
          .filter(([, contrast]) => !(contrast >= 4.5))
          .map(([e, contrast]) => `${e.tagName} ${e.className} ${contrast}`);
    """
    """Texts whose contrast is less than WCAG 2 asks for (AA)."""

    def labels(self, opened: Browser) -> set[str]:
        return set(
            opened.run(
                """
                const found = new Set();
                const look = (root) => {
                  root.querySelectorAll("text").forEach((e) => found.add(getComputedStyle(e).fill));
                  root.querySelectorAll("*").forEach((e) => e.shadowRoot && look(e.shadowRoot));
                };
                look(document);
                return [...found].filter((colour) => colour !== "none");
                """
            )
        )

    def test_it_follows_the_user(self, opened: Browser) -> None:
        light, labels = opened.run(self.PAPER), opened.wait_for(lambda: self.labels(opened))
        opened.media(prefers_color_scheme="dark")
        opened.wait_for(lambda: opened.run(self.PAPER) != light)
        opened.wait_for(lambda: self.labels(opened).isdisjoint(labels))

    def test_the_button_needs_no_storage(self, opened: Browser) -> None:
        light, labels = opened.run(self.PAPER), opened.wait_for(lambda: self.labels(opened))
        button = opened.driver.find_element(By.ID, "theme")
        button.send_keys(Keys.SPACE)
        opened.wait_for(lambda: opened.run(self.PAPER) != light)
        assert button.get_attribute("aria-pressed") == "true"
        opened.wait_for(lambda: self.labels(opened).isdisjoint(labels))
        button.click()
        opened.wait_for(lambda: opened.run(self.PAPER) == light)
        opened.wait_for(lambda: self.labels(opened) == labels)
        assert opened.run("return [localStorage.length, document.cookie]") == [0, ""]

    def test_charts_on_paper_are_light(self, opened: Browser) -> None:
        light = opened.wait_for(lambda: self.labels(opened))
        opened.media(prefers_color_scheme="dark")
        opened.wait_for(lambda: self.labels(opened).isdisjoint(light))
        opened.run("dispatchEvent(new Event('beforeprint'))")
        assert self.labels(opened) == light
        opened.run("dispatchEvent(new Event('afterprint'))")
        assert self.labels(opened).isdisjoint(light)

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_texts_stand_out(self, scheme: str, opened: Browser) -> None:
        opened.media(prefers_color_scheme=scheme)
        opened.wait_for(
            lambda: opened.run(f"return matchMedia('(prefers-color-scheme: {scheme})').matches")
        )
        assert opened.run(self.FAINT) == []


@pytest.mark.parametrize("width", [400, 320])
def test_it_fits_a_narrow_screen(width: int, opened: Browser) -> None:
    opened.width(width)
    script = "return document.documentElement.scrollWidth"
    opened.wait_for(lambda: opened.run(script) <= width)
    drawn = (
        "return Math.max(...[...document.querySelectorAll('.chart > *')].map(e => e.offsetWidth))"
    )
    opened.wait_for(lambda: 0 < opened.run(drawn) <= width)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_findings_and_charts_are_printed(scheme: str, opened: Browser, tmp_path: Path) -> None:
    program = shutil.which("pdftotext")
    if program is None:
        cannot("pdftotext is not there: apt-get install poppler-utils")
    opened.media(prefers_color_scheme=scheme)
    path = tmp_path / "report.pdf"
    path.write_bytes(opened.pdf())
    done = subprocess.run([program, path, "-"], capture_output=True, text=True, check=True)
    words = done.stdout.split()
    assert {f"{pfn:#x}" for pfn in FINDINGS} <= set(words)
    assert words.count("unmap_page_range") >= 2  # in a table and on an axis
    assert "Dark" not in words
    closed = "return document.querySelectorAll('details:not([open])').length"
    opened.wait_for(lambda: opened.run(closed))  # as it was before


def test_hostile_names_are_texts_in_charts(chromium: Browser, tmp_path: Path) -> None:
    names = [*HOSTILE, "f"]
    counts = tuple(Count(name, name, 1, 1000 - rank) for rank, name in enumerate(names))
    run = Run({"release": "<b>"}, {}, 1.0, "sites", {}, counts, {})
    path = tmp_path / "hostile.html"
    path.write_text(to_html([], [Recordings(Path("<i>"), (run,))] * 2))
    chromium.complaints()
    chromium.requests()
    chromium.open(path)
    shown = chromium.wait_for(lambda: chromium.in_charts("text"))
    assert "<script>alert(1)</script>" in shown
    places = itertools.cycle(place / 100 for place in range(2, 40))

    def told() -> bool:
        chromium.point_at("chart-1", 0.6, next(places))
        return "<script>alert(1)</script>" in chromium.tooltip()

    chromium.wait_for(told)
    assert chromium.in_charts("img, b, i, .bk-tooltip-content script") == []
    assert chromium.complaints() == []
    assert [url for url in chromium.requests() if not url.startswith("data:")] == [path.as_uri()]
