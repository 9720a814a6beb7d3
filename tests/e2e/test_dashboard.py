"""The dashboard in a real Chromium: it lives, explains, falls back, and runs no text from the network."""

from __future__ import annotations

import shlex
from typing import Any

import orjson

from tests.support.cluster_figures import LEADER
from tests.support.running import Client, Start, until

from .browser import FOCUSED, LINK, MEMORY, NODES, assert_well_behaved, open_page

# Scripts that run if a page takes them for markup.
HOSTILE = (
    "<img src=x onerror='window.ran=1'><script>window.ran=1</script>\"'&lt;b></script><svg onload=ran=1>"
)
HOURS_2 = 7_200


def test_the_page_lives(browser: Any, start: Start) -> None:
    server = start(*MEMORY)
    visit = open_page(browser, server)
    page = visit.page
    visit.until(f"{LINK} === 'live'")
    assert page.evaluate(NODES) == "0"
    with Client(server.address) as client:
        client.register("node-1")
        client.register("hidden-1", discoverable=False)
        visit.until(f"{NODES} === '2'")
        visit.until("document.querySelectorAll('#lately li').length === 2")
        client.ask("DELETE", "/nodes/node-1", None)
    lately = page.inner_text("#lately")
    assert "node-1" in lately
    assert "a node that is not shown" in lately
    assert "hidden-1" not in page.inner_text("body")
    visit.until("document.querySelector('#life [data-of=active]').innerText.includes('2 registered')")
    assert "180 days" in page.inner_text("#life [data-of=active]")
    visit.until("document.querySelector('#plot .area[data-of=active]').getAttribute('d').length > 20")
    assert_well_behaved(visit, server)


def test_a_node_is_explained_and_the_answer_follows_it(browser: Any, start: Start) -> None:
    server = start(*MEMORY, "--heartbeat-tolerance-s", "2", "--grace-s", str(HOURS_2))
    with Client(server.address) as client:
        key = "a key that nobody needs to see"
        claim = client.register("node-1", services=["storage"], public_key=key).document["claim"]
        visit = open_page(browser, server, "/dashboard#node=node-1")
        page = visit.page
        visit.until("document.querySelector('#answer').innerText.includes('in grace until')")
        answer = page.inner_text("#answer")
        assert "Its tolerance is over, and it is in its grace period." in answer
        assert "It is overdue. It was heard on 1 day so far, so this rests on nodes like it." in answer
        assert "What its owner can do: A heartbeat brings it back at once" in answer
        assert (
            answer.index("failed_1st")
            < answer.index("retry_2m")
            < answer.index("coma")
            < answer.index("dead")
        )
        assert "storage" in answer
        assert "192.0.2.1" not in page.inner_text("body")
        assert key not in page.inner_text("body")

        def is_active() -> bool:
            """Beat on, so that the node is not late again before a slow page has asked."""
            client.ask("POST", "/heartbeat/node-1", None, Authorization=f"Claim {claim}")
            return bool(page.evaluate("document.querySelector('#answer .badge').textContent === 'active'"))

        until(is_active, "the answer to follow the node")
    assert_well_behaved(visit, server)


def test_a_node_that_does_not_exist_is_reported(browser: Any, start: Start) -> None:
    server = start(*MEMORY)
    visit = open_page(browser, server, "/#node=nobody")
    page = visit.page
    visit.until("document.querySelector('#answer').innerText.includes(\"No node is registered as 'nobody'\")")
    for wrong in ("..", "../stats", "a b", "%"):
        page.evaluate(f"location.hash = hashOf({wrong!r})")
        visit.until("document.querySelector('#answer').innerText.includes('This is no valid node_id.')")
        page.evaluate("location.hash = hashOf('nobody')")
        visit.until("document.querySelector('#answer').innerText.includes('is registered as')")
    assert {url.rpartition("/")[2] for url in visit.requested if "/nodes/" in url} == {"nobody"}


def test_the_keyboard_reaches_everything(browser: Any, start: Start) -> None:
    server = start(*MEMORY)
    with Client(server.address) as client:
        client.register("node-1")
    visit = open_page(browser, server)
    page = visit.page
    reached = []
    for _ in range(3):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.className"))
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert reached[:2] == ["skip", "node-id"]
    # The key that is said to lead there.
    assert page.evaluate(FOCUSED) != "node-id"
    page.keyboard.press("/")
    assert page.evaluate(FOCUSED) == "node-id"
    page.keyboard.insert_text("node-1")
    page.keyboard.press("Enter")
    visit.until("!document.querySelector('#answer').hidden")
    visit.until(f"{FOCUSED} === 'answer'")
    assert page.evaluate("document.querySelector('#ask-said').textContent").startswith("node-1 is active.")
    page.keyboard.press("Escape")
    assert page.evaluate("document.querySelector('#answer').hidden")
    assert page.evaluate(FOCUSED) == "node-id"
    assert_well_behaved(visit, server)


def test_everything_that_can_be_used_has_a_name(browser: Any, start: Start) -> None:
    """As a screen reader finds it: landmarks, and a name for all that takes the focus."""
    server = start(*MEMORY)
    visit = open_page(browser, server)
    page = visit.page
    nodes = [
        (node["role"]["value"], node.get("name", {}).get("value", ""), properties(node))
        for node in page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
        if not node["ignored"]
    ]
    roles = {role for role, _, _ in nodes}
    assert {"banner", "main", "contentinfo", "search", "searchbox", "heading", "list", "region"} <= roles
    nameless = [
        role
        for role, name, told in nodes
        if told.get("focusable") and not name and role not in ("RootWebArea", "main")
    ]
    assert nameless == []
    assert ("searchbox", "How is my node?") in [(role, name) for role, name, _ in nodes]
    picture = next(name for role, name, _ in nodes if role in ("img", "image") and name)
    assert picture.startswith("Nodes by state, over time From ")


def properties(node: dict[str, Any]) -> dict[str, Any]:
    return {one["name"]: one["value"].get("value") for one in node.get("properties", [])}


def test_where_events_are_refused_the_page_asks_by_itself(browser: Any, start: Start) -> None:
    server = start(*MEMORY, "--events-subscribers-max", "0")
    visit = open_page(browser, server)
    visit.until(f"{LINK} === 'polling'")
    with Client(server.address) as client:
        client.register("node-1")
    visit.until(f"{NODES} === '1'")
    # The refused stream is the only complaint.
    assert [one for one in visit.complaints if "/events" not in one] == []


def test_the_page_shows_the_age_of_its_data_without_a_server(browser: Any, start: Start) -> None:
    server = start(*MEMORY)
    visit = open_page(browser, server)
    page = visit.page
    visit.until(f"{LINK} === 'live'")
    server.stop()
    # As if so much time had passed: the page asks its own clock.
    page.evaluate("Date.now = ((now) => () => now() + 60_000)(Date.now), true")
    visit.until(f"{LINK} === 'stale'")
    assert "The server sends nothing. These figures are from " in page.inner_text("#notices")


def test_an_empty_directory_shows_the_first_steps(browser: Any, start: Start) -> None:
    server = start(*MEMORY)
    visit = open_page(browser, server)
    page = visit.page
    assert "No node has registered here yet." in page.inner_text("#first-step")
    program, *options, body = shlex.split(page.inner_text("#first-step-command"))
    host, port = server.address
    assert (program, options) == (
        "curl",
        ["-s", f"http://{host}:{port}/register", "-H", "Content-Type: application/json", "-d"],
    )
    with Client(server.address) as client:
        assert client.ask("POST", "/register", body.encode()).status == 201
        visit.until("document.querySelector('#first-step').hidden")
        client.ask("DELETE", "/nodes/alice?mode=forget", None)
    assert_well_behaved(visit, server)


def test_a_directory_without_live_nodes_is_not_shown_as_new(browser: Any, start: Start) -> None:
    server = start(*MEMORY)
    with Client(server.address) as client:
        claim = client.register("node-1").document["claim"]
        client.ask("DELETE", "/nodes/node-1?mode=forget", None, Authorization=f"Claim {claim}")
    visit = open_page(browser, server)
    page = visit.page
    visit.until("document.querySelector('#nodes-note').textContent.includes('all nodes are gone')")
    assert page.evaluate("document.querySelector('#first-step').hidden")


def test_one_of_a_thing_is_in_the_singular(browser: Any, start: Start) -> None:
    visit = open_page(browser, start(*MEMORY))
    page = visit.page
    for rate, told in (
        ("0", "0 requests/s"),
        ("1", "1 request/s"),
        ("0.9999", "1 request/s"),
        ("1.1", "1.1 requests/s"),
        ("null", "– requests/s"),
    ):
        assert page.evaluate(f"pace({rate}, 'request', 'requests')") == told


def test_a_node_in_coma_is_hardly_available(browser: Any, start: Start) -> None:
    server = start(*MEMORY)
    with Client(server.address) as client:
        claim = client.register("node-1").document["claim"]
        client.ask("DELETE", "/nodes/node-1", None, Authorization=f"Claim {claim}")
        visit = open_page(browser, server, "/#node=node-1")
        page = visit.page
        visit.until("document.querySelector('#answer .badge')?.textContent === 'coma'")
    told = page.inner_text("#answer dl").split("\n")
    # As for any late node: nothing is certain.
    assert told[told.index("Available") + 1] == "1%"


def test_hostile_text_stays_text(browser: Any, start: Start) -> None:
    server = start(*MEMORY)
    with Client(server.address) as client:
        registered = client.register("node-1", metadata={HOSTILE: [HOSTILE]}, public_key=HOSTILE)
        assert registered.status == 201, registered
    visit = open_page(browser, server, "/#node=node-1")
    page = visit.page
    visit.until("document.querySelector('#answer pre')?.textContent.includes('onerror')")
    # As if the server itself told such things.
    for path in ("happened", "happenedInAll"):
        page.evaluate(
            f"((text) => {path}({{at: text, node_id: text, from: text, to: text, reason: text, count: 1,"
            f" named: 0, kinds: [{{from: text, to: text, reason: text, count: 1}}]}}))({HOSTILE!r})"
        )
    visit.until("document.querySelector('#lately').textContent.includes('onerror')")
    page.evaluate(f"drawSilence({{held: true, reason: {HOSTILE!r}, waiting: 1}}), drawStore({HOSTILE!r})")
    # Read it at once: an event that comes now lets the page fetch the true words.
    expected = page.evaluate(
        "(async (words) => (explainer.show({...await (await fetch('nodes/node-1')).json(),"
        f" forecast: {{words}}}}), document.querySelector('#answer .expected').innerText))({HOSTILE!r})"
    )
    assert "onerror" in expected
    page.evaluate(f"location.hash = hashOf({HOSTILE!r})")
    visit.until("document.querySelector('#answer h3').textContent.includes('onerror')")
    assert page.evaluate("typeof window.ran") == "undefined"
    assert page.evaluate("document.querySelectorAll('img, main script, svg[onload]').length") == 0
    # Where text did become markup by a mistake of ours, the policy would still keep it from running.
    page.evaluate(
        "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.ran=1\">'), true"
    )
    visit.until("performance.now() > 0")
    assert page.evaluate("typeof window.ran") == "undefined"


def test_it_fits_every_screen(browser: Any, start: Start) -> None:
    server = start(*MEMORY)
    with Client(server.address) as client:
        client.register("n" * 128, services=["s" * 64])
    visit = open_page(browser, server, f"/#node={'n' * 128}")
    page = visit.page
    visit.until("!document.querySelector('#answer').hidden")
    for width, height, dark in ((1280, 900, False), (820, 1180, True), (390, 844, True), (320, 568, False)):
        visit.view(width, height, dark=dark)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(int(part) for part in background[4:-1].split(",")) < 200) is dark
    assert_well_behaved(visit, server)


def test_a_cluster_is_shown_and_nothing_of_it_elsewhere(browser: Any, start: Start) -> None:
    server = start(*MEMORY)
    visit = open_page(browser, server)
    page = visit.page
    visit.until(f"{LINK} === 'live'")
    visit.until("document.querySelector('#server-version').innerText")
    assert not page.is_visible("#cluster")
    page.evaluate(f"drawCluster({orjson.dumps(LEADER.document()).decode()})")
    assert page.inner_text("#cluster-note") == "Term 3, led by one, 17 commits."
    assert page.inner_text("#instances").split("\n") == [
        "one leader, version 3.0.0",
        "two follower, heard 0.5 s ago",
    ]
    assert_well_behaved(visit, server)
