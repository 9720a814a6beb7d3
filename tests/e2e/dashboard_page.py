"""The dashboard as its tests open it and look at it."""

from __future__ import annotations

from typing import Any

from .browser import Browser, Tab
from .running import Server

MEMORY = ("--database", "memory:")
NODES = "document.querySelector('#nodes').textContent"
LINK = "document.querySelector('#link').dataset.state"
FOCUSED = "document.activeElement.id"


def open_page(browser: Browser, server: Server, target: str = "/", **view: Any) -> Tab:
    host, port = server.address
    tab = browser.open(f"http://{host}:{port}{target}", **view)
    tab.until(f"{NODES} !== '–'")
    return tab


def assert_well_behaved(tab: Tab, server: Server) -> None:
    """Nothing went wrong, and no other server was asked for anything."""
    host, port = server.address
    assert tab.complaints == []
    assert {url for url in tab.requested if not url.startswith(f"http://{host}:{port}/")} == set()
