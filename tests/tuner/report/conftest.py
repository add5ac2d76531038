"""Headless Chromium for the tests of the page: Debian's, or the one that CHROMIUM names."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = (
    os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome") or ""
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A running browser; tests are skipped where there is none."""
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="needs playwright: pip install 'gan-tuner[dev]'"
    )
    if not CHROMIUM:
        pytest.skip("needs Chromium: apt-get install chromium, or set CHROMIUM to a browser")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


class Window:
    """A tab of the browser; `faults` receives what went wrong: console messages, exceptions, requests."""

    def __init__(self, browser: Browser, width: int, scheme: str, allowed: str) -> None:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        self.page: Page = context.new_page()
        self.faults: list[str] = []
        self.page.on(
            "console", lambda message: self.faults.append(f"{message.type}: {message.text}")
        )
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        inside = ("file:", "data:", "blob:", allowed)
        self.page.on(
            "request",
            lambda each: None if each.url.startswith(inside) else self.faults.append(each.url),
        )

    def show(self, path: Path) -> None:
        """Open a page and scroll through it until every plot that can be seen is drawn."""
        self.page.goto(path.as_uri())
        plots = self.page.locator(".plot:visible")
        for index in range(plots.count()):
            plots.nth(index).scroll_into_view_if_needed()
        missing = "[...document.querySelectorAll('.plot')].filter(p => p.checkVisibility() && p.dataset.drawn !== '')"
        self.until(f"{missing}.length === 0")

    def until(self, condition: str) -> None:
        """Wait for a JavaScript condition; pytest's own timeout ends a test that waits in vain.

        Playwright's wait_for_function needs eval, which the page's policy forbids.
        """
        while not self.page.evaluate(condition):
            self.page.wait_for_timeout(50)


@pytest.fixture
def window(browser: Browser) -> Iterator[Callable[..., Window]]:
    """Open windows: `window(width, scheme)`."""
    made: list[Window] = []

    def make(width: int = 1200, scheme: str = "light", allowed: str = "data:") -> Window:
        made.append(Window(browser, width, scheme, allowed))
        return made[-1]

    yield make
    for each in made:
        each.page.context.close()
