"""A real browser without a screen, with a profile that is thrown away."""

from __future__ import annotations

import base64
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import pytest
from selenium.webdriver import ActionChains, Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

PATIENCE = 120
"""Seconds until what should be seen is missing: a busy machine is no failure."""

OPTIONS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--hide-scrollbars", "--window-size=1000,1000"),
)

Value = TypeVar("Value")


def cannot(reason: str) -> NoReturn:
    """Skip the test; fail it instead where all that tests need must be there."""
    if os.environ.get("HVOINSPECT_LAB") == "required":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


class Browser:
    """What tests do with a page that is a file."""

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver

    def open(self, page: Path) -> None:
        """Load `page` and wait until its charts are drawn."""
        self.driver.get(page.resolve().as_uri())
        self.wait_for(lambda: self.run("return document.documentElement.dataset.drawn"))

    def run(self, script: str, *arguments: object) -> Any:
        """Run JavaScript in the page and return what it returns."""
        return self.driver.execute_script(script, *arguments)

    def wait_for(self, look: Callable[[], Value]) -> Value:
        """Return the first true value of `look`; fails if there is none in time."""
        end = time.monotonic() + PATIENCE
        while True:
            if value := look():
                return value
            assert time.monotonic() < end, "what should be seen does not come"
            time.sleep(0.1)

    def media(self, **features: str) -> None:
        """Pretend that the user prefers what `features` say, as prefers_color_scheme="dark"."""
        told = [{"name": name.replace("_", "-"), "value": text} for name, text in features.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": told})

    def width(self, pixels: int) -> None:
        """Make the screen `pixels` wide."""
        screen = {"width": pixels, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        self.wait_for(lambda: self.run("return innerWidth") == pixels)

    def point_at(self, chart: str, x: float, y: float) -> None:
        """Move the pointer to a place in a chart, in shares of its width and height."""
        element = self.driver.find_element(By.ID, chart)
        self.run("arguments[0].scrollIntoView({block: 'center'})", element)
        size = element.size
        left, top = round((x - 0.5) * size["width"]), round((y - 0.5) * size["height"])
        ActionChains(self.driver).move_to_element_with_offset(element, left, top).perform()

    def tooltip(self) -> str:
        """The text of what is shown beside the pointer."""
        return " ".join(self.in_charts(".bk-tooltip-content")).replace("\n", " ")

    def in_charts(self, selector: str, chart: str | None = None) -> list[str]:
        """The texts of what `selector` selects in all charts, or one, inside their shadow trees."""
        texts: list[str] = self.run(
            """
            const found = [];
            const look = (root) => {
              found.push(...root.querySelectorAll(arguments[0]));
              root.querySelectorAll("*").forEach((e) => e.shadowRoot && look(e.shadowRoot));
            };
            look(arguments[1] ? document.getElementById(arguments[1]) : document);
            return found.map((e) => e.innerText ?? e.textContent);
            """,
            selector,
            chart,
        )
        return texts

    def pdf(self) -> bytes:
        """The page as it is printed, on A4."""
        paper = {"paperWidth": 8.27, "paperHeight": 11.69}
        return base64.b64decode(self.driver.execute_cdp_cmd("Page.printToPDF", paper)["data"])

    def complaints(self) -> list[str]:
        """What the page wrote to the console as warnings and errors since this was last asked."""
        entries = self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        return [e["message"] for e in entries if e["level"] in ("WARNING", "SEVERE")]

    def requests(self) -> list[str]:
        """The addresses that the page asked for since this was last asked."""
        entries = self.driver.get_log("performance")  # type: ignore[no-untyped-call]
        messages = (json.loads(entry["message"]) for entry in entries)
        return [
            message["message"]["params"]["request"]["url"]
            for message in messages
            if message["message"]["method"] == "Network.requestWillBeSent"
        ]


@contextmanager
def browser() -> Iterator[Browser]:
    """Give Debian's Chromium, or skip the test that asked for it."""
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        cannot("Chromium is not there: apt-get install chromium chromium-driver")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = ChromeOptions()
        options.binary_location = program
        for option in (*OPTIONS, f"--user-data-dir={profile}"):
            options.add_argument(option)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        chrome = Chrome(options=options, service=Service(driver))
        try:
            chrome.set_script_timeout(PATIENCE)
            chrome.set_page_load_timeout(PATIENCE)
            yield Browser(chrome)
        finally:
            chrome.quit()
