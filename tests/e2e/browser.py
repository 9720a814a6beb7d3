"""The dashboard in the system's own Chromium, opened and watched by Playwright."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.support.running import Server

from ..support.parts import needs_module, needs_program

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Nothing here waits longer than this, however slow the machine is.
WAIT_MS_MAX = 60_000
MEMORY = ("--database", "memory:")
NODES = "document.querySelector('#nodes').textContent"
LINK = "document.querySelector('#link').dataset.state"
FOCUSED = "document.activeElement.id"


@dataclass
class Visit:
    """A page (`playwright.sync_api.Page`), every URL that it requested, and all that its console showed."""

    page: Any
    requested: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def until(self, expression: str) -> None:
        """Wait until a JavaScript expression is true. A function is not stopped by the page's own policy."""
        self.page.wait_for_function(f"() => {expression}")

    def view(self, width: int, height: int, *, dark: bool) -> None:
        """Show the page on a screen of that size in pixels, to a person who prefers dark or light."""
        self.page.set_viewport_size({"width": width, "height": height})
        self.page.emulate_media(color_scheme="dark" if dark else "light")


@pytest.fixture(scope="module")
def chrome() -> Iterator[Any]:
    """Run one Chromium for the tests of a file."""
    playwright = needs_module("playwright.sync_api")
    program = needs_program(*PROGRAMS)
    with playwright.sync_playwright() as driver:
        sandbox = [] if os.geteuid() else ["--no-sandbox"]
        running = driver.chromium.launch(executable_path=program, args=sandbox)
        yield running
        running.close()


@pytest.fixture
def browser(chrome: Any) -> Iterator[Any]:
    """Return a fresh profile of the browser, whose pages are closed when the test ends."""
    context = chrome.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(WAIT_MS_MAX)
    yield context
    context.close()


def open_page(browser: Any, server: Server, target: str = "/") -> Visit:
    """Open `target` and wait until the page shows the number of nodes."""
    visit = visit_at(browser, server.address, target)
    visit.until(f"document.querySelector('#nodes') && {NODES} !== '–'")
    return visit


def visit_at(browser: Any, address: tuple[str, int], target: str = "/") -> Visit:
    """Open `target` of the listener at `address`."""
    visit = Visit(browser.new_page())
    visit.page.on("request", lambda request: visit.requested.append(request.url))
    visit.page.on("console", lambda message: visit.complaints.append(f"{message.text} {message.location}"))
    visit.page.on("pageerror", lambda error: visit.complaints.append(str(error)))
    visit.page.goto("http://{}:{}{}".format(*address, target), wait_until="commit")
    return visit


def assert_well_behaved(visit: Visit, server: Server) -> None:
    """Check that nothing went wrong and that the page asked no other server for anything."""
    assert_asked_alone(visit, server.address)


def assert_asked_alone(visit: Visit, address: tuple[str, int]) -> None:
    """Check that nothing went wrong and that the page asked nobody but the listener at `address`."""
    assert visit.complaints == []
    ours = ("http://{}:{}/".format(*address), "data:")
    assert [url for url in visit.requested if not url.startswith(ours)] == []


def serious(page: Any) -> list[tuple[str, list[str]]]:
    """Return what axe-core calls serious or critical on a page, with the elements."""
    axe = needs_module("axe_playwright_python.sync_playwright").Axe()
    return [
        (found["id"], [node["html"][:200] for node in found["nodes"]])
        for found in axe.run(page).response["violations"]
        if found["impact"] in ("serious", "critical")
    ]
