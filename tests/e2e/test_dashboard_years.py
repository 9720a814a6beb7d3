"""The section "Over time" of the dashboard, and what axe-core finds on the whole page."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

import orjson
import pytest

from tests.conftest import SEED
from tests.support import analytics_documents as invented
from tests.support.running import Client, Start

from .browser import LINK, MEMORY, Visit, assert_well_behaved, open_page, serious

SCREENS = ((1280, 900, False), (390, 844, True))
FIGURES = ["states", "moves", "returned", "available", "back", "reliable", "retained", "offered"]


def show(visit: Visit, *, days: int = 400, last: dict[str, Any] = invented.LAST) -> None:
    """Open the section, and show it invented years."""
    random = Random(SEED)
    told = (invented.days(days, random), {"last": last}, invented.cohorts(24), invented.returns())
    documents = orjson.dumps([*told, invented.calibration(random)]).decode()
    visit.page.evaluate("years.fetch = () => {}")
    visit.page.click("#years > summary")
    visit.page.evaluate(f"years.show(...{documents})")


@pytest.fixture
def years(browser: Any, start: Start) -> Iterator[Visit]:
    """Yield the page with invented years; it has to have behaved well."""
    server = start(*MEMORY)
    visit = open_page(browser, server)
    show(visit)
    yield visit
    assert_well_behaved(visit, server)


def test_axe_finds_nothing_serious(browser: Any, start: Start) -> None:
    server = start(*MEMORY)
    visit = open_page(browser, server)
    visit.until(f"{LINK} === 'live'")
    found = [serious(visit.page)]
    with Client(server.address) as client:
        client.register("node-1", services=["storage"])
    visit.page.evaluate("location.hash = hashOf('node-1')")
    visit.until("!document.querySelector('#answer').hidden")
    show(visit)
    visit.page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    for width, height, dark in SCREENS:
        visit.view(width, height, dark=dark)
        found.append(serious(visit.page))
    assert found == [[], [], []]


def test_each_chart_has_a_sentence_and_a_table(years: Visit) -> None:
    page = years.page
    assert page.evaluate("[...document.querySelectorAll('.figure-of h3')].map((one) => one.id)") == [
        f"{name}-title" for name in FIGURES
    ]
    for name in FIGURES[:6]:
        figure = page.locator(f".figure-of:has(#{name}-title)")
        assert figure.locator(f"#{name}-sentence").inner_text(), name
        assert figure.locator(".readout").inner_text(), name
        figure.locator("summary").click()
        assert figure.locator("tbody tr").count() > 0, name
    # Four hundred days are drawn as eighty groups of five.
    assert page.locator(".figure-of:has(#states-title) tbody tr").count() == 80
    assert "93%" in page.inner_text(".figure-of:has(#retained-title) tbody")
    assert page.locator(".figure-of:has(#offered-title) tbody tr").count() == 3


def test_keys_explore_a_chart(years: Visit) -> None:
    page = years.page
    figure = page.locator(".figure-of:has(#back-title)")
    readout = figure.locator(".readout")
    figure.locator("svg").focus()
    for key, told in (
        ("End", "Late for 365 days"),
        ("ArrowLeft", "Late for 180 days"),
        ("Home", "Late for 1 hour"),
        ("ArrowLeft", "Late for 1 hour"),
        ("ArrowRight", "Late for 6 hours"),
    ):
        page.keyboard.press(key)
        assert readout.inner_text().startswith(told), key
        assert figure.locator(".cross").count() == 1
    page.keyboard.press("Escape")
    assert figure.locator(".cross").count() == 0
    # Other nodes are chosen by keys as well.
    figure.locator("select").focus()
    page.keyboard.press("ArrowDown")
    years.until("years.made.back.chart.points[0].cohort.startsWith('never away')")


def test_it_fits_every_screen(years: Visit) -> None:
    page = years.page
    for width, height, dark in ((1280, 900, False), (820, 1180, True), (390, 844, True), (320, 568, False)):
        years.view(width, height, dark=dark)
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_without_forecasts_their_charts_are_left_out(browser: Any, start: Start) -> None:
    visit = open_page(browser, start(*MEMORY, "--forecast", "false"))
    documents = orjson.dumps(
        [
            [
                {**day, "returns.expected": "", "returns.happened": ""}
                for day in invented.days(3, Random(SEED))
            ],
            {"last": {"availability": None, "late": None, "brier": None, "services": []}},
        ]
    ).decode()
    visit.page.evaluate("years.fetch = () => {}")
    visit.page.click("#years > summary")
    visit.page.evaluate(f"years.show(...{documents}, [], [], [])")
    shown = "[...document.querySelectorAll('.figure-of h3')].filter((one) => one.offsetParent)"
    assert visit.page.evaluate(f"{shown}.map((one) => one.id)") == ["states-title", "moves-title"]


def test_the_section_asks_the_directory_itself(browser: Any, start: Start) -> None:
    server = start(*MEMORY)
    with Client(server.address) as client:
        client.register("node-1", services=["storage"])
    visit = open_page(browser, server)
    page = visit.page
    assert [url for url in visit.requested if "/analytics" in url] == []
    page.focus("#years > summary")
    page.keyboard.press("Enter")
    visit.until("document.querySelector('#states-sentence')?.textContent.startsWith('From 0 nodes on ')")
    # The first day is not over, and nobody returned or was expected yet.
    assert page.locator("#moves-sentence").inner_text().startswith("In 1 day, ")
    page.get_by_role("button", name="1 year").click()
    visit.until("document.querySelector('#years [aria-pressed=true]').textContent === '1 year'")
    assert_well_behaved(visit, server)
    server.stop()
    page.click("#years > summary")
    page.click("#years > summary")
    visit.until("document.querySelector('#years-body').textContent.includes('did not tell its days')")
