"""The dashboard in a real Chromium while much happens: no double counts, nothing moves under the focus."""

from __future__ import annotations

from .browser import Browser
from .conftest import Start
from .dashboard_page import FOCUSED, LINK, MEMORY, NODES, assert_well_behaved, open_page
from .running import Client


def test_a_server_that_died_is_never_said_to_be_asked_every_few_seconds(
    browser: Browser, start: Start
) -> None:
    server = start(*MEMORY)
    tab = open_page(browser, server)
    tab.until(f"{LINK} === 'live'")
    tab.value(
        "window.told = [], new MutationObserver(([{target}]) => told.push(target.dataset.state))"
        ".observe(document.querySelector('#link'), {attributes: true}), true"
    )
    server.kill()
    tab.until(f"{LINK} === 'stale'")
    assert set(tab.value("told")) <= {"live", "waiting", "stale"}
    assert tab.text("#link") == "no figures"


def test_before_anything_came_the_page_does_not_say_that_it_is_live(browser: Browser, start: Start) -> None:
    server = start(*MEMORY)
    tab = open_page(browser, server)
    # As if the server took the page's requests and answered none.
    tab.value("window.states = [], window.EventSource = class extends EventTarget {}, true")
    tab.value("window.fetch = () => new Promise(() => {}), true")
    tab.value("new Feed({link: (state) => states.push(state)}), true")
    tab.until("states.length > 1")
    assert set(tab.value("states")) == {"waiting"}


def test_each_node_is_counted_once_however_often_the_page_is_loaded(browser: Browser, start: Start) -> None:
    """The totals at the loading have what the next events tell again."""
    server = start(*MEMORY)
    tab = open_page(browser, server)
    registered = "document.querySelector('#life [data-of=active] .beside').innerText"
    with Client(server.address) as client:
        for round_number in range(1, 5):
            for number in range(10):
                client.register(f"node-{round_number}-{number}")
            tab.call("Page.reload")
            tab.until(f"document.querySelector('#lately')?.textContent.includes('node-{round_number}-9')")
            assert tab.value(registered) == f"{10 * round_number} registered"
        # A page that was there all the time, and asks for the totals again.
        client.register("node-last")
        tab.until(f"{registered} === '41 registered'")
        asked = "fetch('stats').then((response) => response.json()).then((told) => life.take(told, false))"
        tab.value(f"{asked}.then(() => true)")
        assert tab.value(registered) == "41 registered"


def test_what_a_page_learns_of_a_server_that_began_anew_replaces_what_it_knew(
    browser: Browser, start: Start
) -> None:
    server = start(*MEMORY)
    host, port = server.address
    with Client(server.address) as client:
        for number in range(3):
            client.register(f"node-{number}")
    tab = open_page(browser, server)
    registered = "document.querySelector('#life [data-of=active] .beside').innerText"
    tab.until(f"{registered} === '3 registered'")
    tab.until(f"{LINK} === 'live'")
    server.stop()
    again = start(*MEMORY, "--port", str(port))
    assert again.address == (host, port)
    with Client(again.address) as client:
        client.register("node-new")
    tab.until(f"{LINK} === 'live' && {registered} === '1 registered'")


def test_the_list_of_what_happened_stands_still_while_somebody_is_in_it(
    browser: Browser, start: Start
) -> None:
    server = start(*MEMORY)
    tab = open_page(browser, server)
    said = "document.querySelector('#lately-rate').textContent"
    held = "document.querySelector('#lately').textContent.includes('first')"
    with Client(server.address) as client:

        def register_many(name: str) -> None:
            for number in range(45):
                client.register(f"{name}-{number}")

        client.register("first")
        tab.until("document.querySelector('#lately a') !== null")
        tab.value("document.querySelector('#lately a').focus(), true")
        register_many("second")
        tab.until(f"{said} === 'held while you look at it, 45 newer'")
        assert tab.value("document.activeElement.textContent") == "first"
        tab.value("document.activeElement.blur(), true")
        tab.until(f"!{held} && document.querySelectorAll('#lately li').length === 40")
        assert tab.value("document.querySelector('#lately a').textContent").startswith("second-")
        assert tab.value(said).endswith(("change/s", "changes/s"))
        place = tab.value(
            "(({left, top}) => ({x: left + 20, y: top + 20}))"
            "((document.querySelector('.lately').scrollIntoView({block: 'center'}),"
            " document.querySelector('.lately').getBoundingClientRect()))"
        )
        tab.call("Input.dispatchMouseEvent", type="mouseMoved", **place)
        tab.until("document.querySelector('.lately').matches(':hover')")
        client.register("third")
        tab.until(f"{said} === 'held while you look at it, 1 newer'")
        tab.call("Input.dispatchMouseEvent", type="mouseMoved", x=1, y=1)
        tab.until("document.querySelector('#lately a').textContent === 'third'")
    assert_well_behaved(tab, server)


def test_the_list_of_what_happened_can_be_paused_with_the_keyboard(browser: Browser, start: Start) -> None:
    server = start(*MEMORY)
    tab = open_page(browser, server)
    button = "document.querySelector('#lately-pause')"
    said = "document.querySelector('#lately-rate').textContent"
    with Client(server.address) as client:
        client.register("first")
        tab.until("document.querySelectorAll('#lately li').length === 1")
        assert tab.value(f"{button}.getAttribute('aria-pressed')") == "false"
        tab.value(f"{button}.focus(), true")
        tab.press("Enter", "\r")
        assert tab.value(f"{button}.getAttribute('aria-pressed')") == "true"
        tab.until(f"{said} === 'paused'")
        client.register("second")
        tab.until(f"{said} === 'paused, 1 newer'")
        assert tab.value("document.querySelectorAll('#lately li').length") == 1
        tab.press("Enter", "\r")
        assert tab.value(f"{button}.getAttribute('aria-pressed')") == "false"
        tab.until("document.querySelectorAll('#lately li').length === 2")
        # The list moves under the focus of the button, which stays.
        assert tab.value(FOCUSED) == "lately-pause"
    assert_well_behaved(tab, server)


def test_the_table_stands_still_while_somebody_is_in_it(browser: Browser, start: Start) -> None:
    server = start(*MEMORY)
    tab = open_page(browser, server)
    tab.value("document.querySelector('#plot-table').open = true")
    tab.until("document.querySelector('#plot-rows td') !== null")
    tab.value("document.querySelector('#plot-table .scroll').focus(), true")
    tab.value("(window.row = document.querySelector('#plot-rows tr')).isConnected")
    with Client(server.address) as client:
        client.register("node-1")
        tab.until(f"{NODES} === '1'")
    assert tab.value("row.isConnected")
    tab.value("document.activeElement.blur(), true")
    tab.until("!row.isConnected")


def test_an_answer_stays_where_it_is_renewed_in_vain(browser: Browser, start: Start) -> None:
    server = start(*MEMORY)
    with Client(server.address) as client:
        claim = client.register("node-1", metadata={"version": 1}).document["claim"]
        tab = open_page(browser, server, "/#node=node-1")
        tab.until("document.querySelector('#answer .badge')?.textContent === 'active'")
        # The focus stays as well, on whatever it is.
        for place in ("summary", ".close"):
            tab.value(f"document.querySelector('#answer {place}').focus(), true")
            tab.value("explainer.renew('node-1').then(() => true)")
            assert tab.value(f"document.activeElement.matches('#answer {place}')")
        # As if a proxy before the server refused.
        refusal = 'new Response(\'{"message": "Too often.", "suggestion": "Wait."}\', {status: 429})'
        tab.value(f"window.known = fetch, window.fetch = async () => {refusal}, true")
        tab.value("explainer.renew('node-1').then(() => true)")
        assert "Too often." not in tab.text("#answer")
        assert tab.value("document.querySelector('#answer .badge').textContent") == "active"
        # A visitor who asks is told.
        tab.value("explainer.explain('node-1').then(() => true)")
        assert "Too often. Wait." in " ".join(tab.text("#answer").split())
        tab.value("window.fetch = known, explainer.renew('node-1').then(() => true)")
        assert tab.value("document.querySelector('#answer .badge').textContent") == "active"
        # It is an answer that a node is gone.
        client.ask("DELETE", "/nodes/node-1?mode=forget", None, Authorization=f"Claim {claim}")
        tab.value("explainer.renew('node-1').then(() => true)")
        assert "No node is registered as 'node-1'." in tab.text("#answer")
