"""The dashboard in a real Chromium while much happens: no double counts, nothing moves under the focus."""

from __future__ import annotations

from typing import Any

from tests.support.running import Client, Start
from tests.support.serving import lasting_port

from .browser import FOCUSED, LINK, MEMORY, NODES, assert_well_behaved, open_page


def test_the_page_does_not_claim_to_poll_a_dead_server(browser: Any, start: Start) -> None:
    server = start(*MEMORY)
    visit = open_page(browser, server)
    page = visit.page
    visit.until(f"{LINK} === 'live'")
    page.evaluate(
        "window.told = [], new MutationObserver(([{target}]) => told.push(target.dataset.state))"
        ".observe(document.querySelector('#link'), {attributes: true}), true"
    )
    server.kill()
    visit.until(f"{LINK} === 'stale'")
    assert set(page.evaluate("told")) <= {"live", "waiting", "stale"}
    assert page.inner_text("#link") == "no figures"


def test_the_page_is_not_live_before_the_first_event(browser: Any, start: Start) -> None:
    server = start(*MEMORY)
    visit = open_page(browser, server)
    page = visit.page
    # As if the server took the page's requests and answered none.
    page.evaluate("window.states = [], window.EventSource = class extends EventTarget {}, true")
    page.evaluate("window.fetch = () => new Promise(() => {}), true")
    page.evaluate("new Feed({link: (state) => states.push(state)}), true")
    visit.until("states.length > 1")
    assert set(page.evaluate("states")) == {"waiting"}


def test_reloading_the_page_counts_each_node_once(browser: Any, start: Start) -> None:
    """The totals at the loading have what the next events tell again."""
    server = start(*MEMORY)
    visit = open_page(browser, server)
    page = visit.page
    registered = "document.querySelector('#life [data-of=active] .beside').innerText"
    with Client(server.address) as client:
        for round_number in range(1, 5):
            for number in range(10):
                client.register(f"node-{round_number}-{number}")
            page.reload(wait_until="commit")
            visit.until(f"document.querySelector('#lately')?.textContent.includes('node-{round_number}-9')")
            assert page.evaluate(registered) == f"{10 * round_number} registered"
        # A page that was there all the time, and asks for the totals again.
        client.register("node-last")
        visit.until(f"{registered} === '41 registered'")
        asked = "fetch('stats').then((response) => response.json()).then((told) => life.take(told, false))"
        page.evaluate(f"{asked}.then(() => true)")
        assert page.evaluate(registered) == "41 registered"


def test_a_restarted_server_replaces_the_state_of_the_page(browser: Any, start: Start) -> None:
    port = str(lasting_port())
    server = start(*MEMORY, "--port", port)
    with Client(server.address) as client:
        for number in range(3):
            client.register(f"node-{number}")
    visit = open_page(browser, server)
    registered = "document.querySelector('#life [data-of=active] .beside').innerText"
    visit.until(f"{registered} === '3 registered'")
    visit.until(f"{LINK} === 'live'")
    server.stop()
    again = start(*MEMORY, "--port", port)
    assert again.address == server.address
    with Client(again.address) as client:
        client.register("node-new")
    visit.until(f"{LINK} === 'live' && {registered} === '1 registered'")


def test_the_list_of_events_stands_still_while_it_is_used(browser: Any, start: Start) -> None:
    server = start(*MEMORY)
    visit = open_page(browser, server)
    page = visit.page
    said = "document.querySelector('#lately-rate').textContent"
    held = "document.querySelector('#lately').textContent.includes('first')"
    with Client(server.address) as client:

        def register_many(name: str) -> None:
            for number in range(45):
                client.register(f"{name}-{number}")

        client.register("first")
        visit.until("document.querySelector('#lately a') !== null")
        page.evaluate("document.querySelector('#lately a').focus(), true")
        register_many("second")
        visit.until(f"{said} === 'held while you look at it, 45 newer'")
        assert page.evaluate("document.activeElement.textContent") == "first"
        page.evaluate("document.activeElement.blur(), true")
        visit.until(f"!{held} && document.querySelectorAll('#lately li').length === 40")
        assert page.evaluate("document.querySelector('#lately a').textContent").startswith("second-")
        assert page.evaluate(said).endswith(("change/s", "changes/s"))
        page.hover(".lately")
        visit.until("document.querySelector('.lately').matches(':hover')")
        client.register("third")
        visit.until(f"{said} === 'held while you look at it, 1 newer'")
        page.mouse.move(1, 1)
        visit.until("document.querySelector('#lately a').textContent === 'third'")
    assert_well_behaved(visit, server)


def test_the_list_of_events_can_be_paused_by_keyboard(browser: Any, start: Start) -> None:
    server = start(*MEMORY)
    visit = open_page(browser, server)
    page = visit.page
    button = "document.querySelector('#lately-pause')"
    said = "document.querySelector('#lately-rate').textContent"
    with Client(server.address) as client:
        client.register("first")
        visit.until("document.querySelectorAll('#lately li').length === 1")
        assert page.evaluate(f"{button}.getAttribute('aria-pressed')") == "false"
        page.evaluate(f"{button}.focus(), true")
        page.keyboard.press("Enter")
        assert page.evaluate(f"{button}.getAttribute('aria-pressed')") == "true"
        visit.until(f"{said} === 'paused'")
        client.register("second")
        visit.until(f"{said} === 'paused, 1 newer'")
        assert page.evaluate("document.querySelectorAll('#lately li').length") == 1
        page.keyboard.press("Enter")
        assert page.evaluate(f"{button}.getAttribute('aria-pressed')") == "false"
        visit.until("document.querySelectorAll('#lately li').length === 2")
        # The list moves under the focus of the button, which stays.
        assert page.evaluate(FOCUSED) == "lately-pause"
    assert_well_behaved(visit, server)


def test_the_table_stands_still_while_it_has_focus(browser: Any, start: Start) -> None:
    server = start(*MEMORY)
    visit = open_page(browser, server)
    page = visit.page
    page.evaluate("document.querySelector('#plot-table').open = true")
    visit.until("document.querySelector('#plot-rows td') !== null")
    page.evaluate("document.querySelector('#plot-table .scroll').focus(), true")
    page.evaluate("(window.row = document.querySelector('#plot-rows tr')).isConnected")
    with Client(server.address) as client:
        client.register("node-1")
        visit.until(f"{NODES} === '1'")
    assert page.evaluate("row.isConnected")
    page.evaluate("document.activeElement.blur(), true")
    visit.until("!row.isConnected")


def test_an_answer_stays_where_it_is_renewed_in_vain(browser: Any, start: Start) -> None:
    server = start(*MEMORY)
    with Client(server.address) as client:
        claim = client.register("node-1", metadata={"version": 1}).document["claim"]
        visit = open_page(browser, server, "/#node=node-1")
        page = visit.page
        visit.until("document.querySelector('#answer .badge')?.textContent === 'active'")
        # The focus stays as well, on whatever it is.
        for place in ("summary", ".close"):
            page.evaluate(f"document.querySelector('#answer {place}').focus(), true")
            page.evaluate("explainer.renew('node-1').then(() => true)")
            assert page.evaluate(f"document.activeElement.matches('#answer {place}')")
        # As if a proxy before the server refused.
        refusal = 'new Response(\'{"message": "Too often.", "suggestion": "Wait."}\', {status: 429})'
        page.evaluate(f"window.known = fetch, window.fetch = async () => {refusal}, true")
        page.evaluate("explainer.renew('node-1').then(() => true)")
        assert "Too often." not in page.inner_text("#answer")
        assert page.evaluate("document.querySelector('#answer .badge').textContent") == "active"
        # A visitor who asks is told.
        page.evaluate("explainer.explain('node-1').then(() => true)")
        assert "Too often. Wait." in " ".join(page.inner_text("#answer").split())
        page.evaluate("window.fetch = known, explainer.renew('node-1').then(() => true)")
        assert page.evaluate("document.querySelector('#answer .badge').textContent") == "active"
        # It is an answer that a node is gone.
        client.ask("DELETE", "/nodes/node-1?mode=forget", None, Authorization=f"Claim {claim}")
        page.evaluate("explainer.renew('node-1').then(() => true)")
        assert "No node is registered as 'node-1'." in page.inner_text("#answer")
