"""Chromium for the tests of the page: its looks, what it asks for, and axe's rules."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = shutil.which("chromium")
AXE = Path(__file__).parent / "e2e" / "node" / "node_modules" / "axe-core" / "axe.min.js"
LOOKS = {
    "light": {"color_scheme": "light", "viewport": {"width": 1280, "height": 900}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1280, "height": 900}},
    "phone": {"color_scheme": "light", "viewport": {"width": 390, "height": 844}},
}
ARGUMENTS = [
    "--no-sandbox",
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

_SERIOUS = """() => axe.run(document, {resultTypes: ["violations"]}).then((found) =>
  found.violations.filter((each) => ["serious", "critical"].includes(each.impact)).map((each) =>
    `${each.id}: ${each.help}: ${each.nodes.map((node) => node.html).slice(0, 3).join(" ")}`))"""


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run Debian's Chromium while the block lasts; tests are skipped where there is none."""
    if CHROMIUM is None:
        pytest.skip("There is no chromium on this machine; `apt-get install chromium` adds it.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


class Visit:
    """One visitor's page, and what went wrong in it."""

    def __init__(self, browser: Browser, url: str, *, look: str = "light") -> None:
        self.url = url
        self.look = look
        options: dict[str, Any] = LOOKS[look]
        self.context = browser.new_context(**options)
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(15_000)
        self.faults: list[str] = []
        self.asked: list[str] = []
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))

    def open(self, path: str) -> Page:
        """Go to a path of the page, and wait until it is drawn and hears what is typed."""
        self.page.goto(f"{self.url}{path}")
        self.page.wait_for_selector("h1")
        self.page.wait_for_function("window.did_handshake")
        return self.page

    def serious(self) -> list[str]:
        """Return what axe finds that is serious or critical."""
        self.page.evaluate(AXE.read_text(encoding="utf-8"))
        found: list[str] = self.page.evaluate(_SERIOUS)
        return found

    @property
    def foreign(self) -> list[str]:
        """What was asked of anybody but the service."""
        own = (self.url, "data:", "blob:")
        return [url for url in self.asked if not url.startswith(own)]

    @property
    def too_wide(self) -> int:
        """Pixels by which the page is wider than the screen."""
        width: int = self.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        return width

    def keep(self, name: str) -> None:
        """Keep a screenshot in the folder that `SCREENSHOTS` names, if it names one."""
        folder = os.environ.get("SCREENSHOTS")
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=f"{folder}/{name}-{self.look}.png", full_page=True)

    def close(self) -> None:
        """Leave."""
        self.context.close()
