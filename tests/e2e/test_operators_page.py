"""The operators' page in a real Chromium: with the secret alone, by keys alone, with hostile names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.running import Client, Server, Start, until

from .browser import FOCUSED, Visit, assert_asked_alone, serious, visit_at

HOSTILE = "<img src=x onerror='window.ran=1'><script>window.ran=1</script>\"'&lt;b></script>"
SIGNED_IN = "!document.querySelector('#desk').hidden && document.querySelector('#nodes').children.length > 0"


class Office(NamedTuple):
    """A server whose nodes came from strangers, and the operators' page of it, before anybody signed in."""

    server: Server
    address: tuple[str, int]
    secret: str
    visit: Visit

    def sign_in(self) -> None:
        self.visit.page.fill("#secret", self.secret)
        self.visit.page.keyboard.press("Enter")
        self.visit.until(SIGNED_IN)

    def node(self, node_id: str) -> Any:
        """Return what operators are told of a node."""
        with Client(self.address) as client:
            return client.ask("GET", f"/admin/nodes/{node_id}", None, Authorization=f"Bearer {self.secret}")

    def audited(self) -> list[str]:
        return [line for line in self.server.log.splitlines() if "openred.audit" in line]


@pytest.fixture
def office(browser: Any, start: Start, tmp_path: Path) -> Iterator[Office]:
    server = start("--admin-port", "0")
    found = re.search(r"listening for operators on (\S+):(\d+)", server.log)
    assert found is not None, server.log
    address = (found[1], int(found[2]))
    with Client(server.address) as client:
        hostile = {"metadata": {HOSTILE: [HOSTILE]}, "public_key": HOSTILE}
        assert client.register("node-1", services=["storage"], region="eu", **hostile).status == 201
        assert client.register("other", discoverable=False).status == 201
    visit = visit_at(browser, address)
    secret = (tmp_path / "nodes.db.admin-secret").read_text().strip()
    yield Office(server, address, secret, visit)
    # The browser notes each refusal of the server as well.
    visit.complaints[:] = [one for one in visit.complaints if "status of 4" not in one]
    assert_asked_alone(visit, address)
    assert visit.page.evaluate("typeof window.ran") == "undefined"
    assert secret not in server.log


def test_nothing_is_shown_without_the_secret(office: Office) -> None:
    page = office.visit.page
    page.fill("#secret", "wrong")
    page.keyboard.press("Enter")
    office.visit.until("document.querySelector('#entry-refused').textContent")
    assert "does not hold the secret" in page.inner_text("#entry-refused")
    assert page.evaluate("document.querySelector('#desk').hidden")
    assert "node-1" not in page.content()
    office.sign_in()
    assert page.evaluate("document.querySelector('#secret').value") == ""
    # It is in no cookie and in no store of the browser, so it does not outlive the page.
    assert page.context.cookies() == []
    assert page.evaluate("localStorage.length + sessionStorage.length") == 0
    page.click("#leave")
    office.visit.until("document.querySelector('#entry') && !document.querySelector('#entry').hidden")
    assert "node-1" not in page.content()


def test_an_operator_finds_a_node_and_acts_by_keys_alone(office: Office) -> None:
    visit, page = office.visit, office.visit.page
    office.sign_in()
    assert page.locator("#nodes tr").count() == 2
    page.focus("#search-id")
    page.keyboard.type("NODE")
    page.keyboard.press("Enter")
    visit.until("document.querySelector('#nodes').children.length === 1")
    page.focus("#nodes button")
    page.keyboard.press("Enter")
    visit.until(f"{FOCUSED} === 'answer'")
    assert "It gave a sign of life within the tolerance." in page.inner_text("#answer")
    assert "127.0.0.1" in page.inner_text("#answer") or "192.0.2.1" in page.inner_text("#answer")
    for verb, held, instead in (("Hold", True, "Release"), ("Release", False, "Hold")):
        press(visit, verb)
        visit.until(f"document.querySelector('#done').textContent.includes('{verb.lower()} node-1:')")
        assert office.node("node-1").document["held"] is held
        # The focus stays where it was, on what has come there.
        visit.until(f"document.activeElement.textContent === '{instead}'")
    press(visit, "Purge …")
    visit.until("document.querySelector('#confirm').open")
    # The harmless answer has the focus.
    assert page.evaluate(FOCUSED) == "confirm-no"
    page.keyboard.press("Enter")
    visit.until("!document.querySelector('#confirm').open")
    assert office.node("node-1").status == 200
    press(visit, "Purge …")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    visit.until("document.querySelector('#done').textContent.includes('purge node-1: purged')")
    assert office.node("node-1").status in (404, 410)
    until(
        lambda: any('purge node "node-1": 200' in line for line in office.audited()), "the log to tell of it"
    )


def press(visit: Visit, name: str) -> None:
    """Press a button of the node that is shown, by keys."""
    visit.until(
        f"[...document.querySelectorAll('#answer button')].some((one) => one.textContent === '{name}')"
    )
    visit.page.get_by_role("button", name=name, exact=True).focus()
    visit.page.keyboard.press("Enter")


def test_an_id_is_blocked_and_unblocked_from_the_page(office: Office) -> None:
    visit, page = office.visit, office.visit.page
    office.sign_in()
    page.locator("#nodes button", has_text="node-1").click()
    press(visit, "Block …")
    # The form is filled in, and waits for a reason.
    assert page.evaluate(FOCUSED) == "block-reason"
    page.keyboard.type(HOSTILE)
    page.keyboard.press("Enter")
    visit.until("document.querySelector('#blocks').textContent.includes('onerror')")
    assert office.node("node-1").document["blocked"] is True
    with Client(office.server.address) as client:
        assert client.ask("POST", "/heartbeat/node-1", None).status == 403
    page.get_by_role("button", name="Unblock id node-1").click()
    visit.until("document.querySelector('#blocks').children.length === 0")
    assert office.node("node-1").document["blocked"] is False
    assert "block id node-1: blocked" in page.inner_text("#done")


def test_counts_lead_to_the_nodes_behind_them(office: Office) -> None:
    visit, page = office.visit, office.visit.page
    office.sign_in()
    for name, node_ids in (("storage", ["node-1"]), ("eu", ["node-1"]), ("active", ["node-1", "other"])):
        page.locator("#counts button", has_text=name).first.click()
        visit.until(f"document.querySelector('#nodes').children.length === {len(node_ids)}")
        assert page.locator("#nodes th").all_inner_texts() == node_ids
    assert "hidden" in page.inner_text("#nodes tr:nth-child(2)")


def test_hostile_names_stay_text(office: Office) -> None:
    visit, page = office.visit, office.visit.page
    office.sign_in()
    page.locator("#nodes button", has_text="node-1").click()
    visit.until("document.querySelector('#answer').textContent.includes('onerror')")
    assert page.evaluate("document.querySelectorAll('img, main script, svg[onload]').length") == 0
    # As if the server itself told such things.
    page.evaluate(
        "((text) => (desk.counts({nodes: 1, by_state: {[text]: 1}, regions: [[text, 1]],"
        " services: [[text, 1]]}),"
        " note(text), document.querySelector('#nodes').append(desk.listing.row({node_id: text, state: text,"
        f" last_seen: text, services: [text], region: text}}))))({HOSTILE!r})"
    )
    assert page.inner_text("#counts").count("onerror") == 3
    assert page.evaluate("document.querySelectorAll('img, main script, svg[onload]').length") == 0


def test_axe_finds_nothing_serious_on_any_screen(office: Office) -> None:
    visit, page = office.visit, office.visit.page
    found = [serious(page)]
    office.sign_in()
    page.locator("#nodes button", has_text="node-1").click()
    visit.until("!document.querySelector('#answer').hidden")
    for width, height, dark in ((1280, 900, False), (390, 844, True)):
        visit.view(width, height, dark=dark)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        found.append(serious(page))
    assert found == [[], [], []]
