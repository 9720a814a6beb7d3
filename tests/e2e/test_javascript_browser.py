"""The node in JavaScript for browsers lives in a page of Chromium."""

from __future__ import annotations

from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from openred_central.cli.example import node_example
from tests.support.running import Start
from tests.support.signing import Node, wait_for_the_next_second

LIFE = """async () => {
  const { Node, NodeKey, verifyPair } = await import("/openred.js");
  const node = new Node(location.origin, await NodeKey.generate());
  const { identity } = await node.register("192.0.2.2", 7001, { services: ["storage"] });
  const { current_state } = await node.heartbeat();
  const { nodes } = await node.discover(["relay"]);
  const { token, peer_token } = await node.tokens(nodes[0].node_id);
  const pair = await verifyPair(token, peer_token, await node.keySet(), { nowS: Date.now() / 1000 });
  return [identity, current_state, pair.a.aud, pair.b.sub];
}"""
ELSEWHERE = """async (url) => {
  const { Node, NodeKey } = await import("/openred.js");
  const node = new Node(url, await NodeKey.generate());
  const { nodes } = await node.discover(["relay"]);
  const versions = [(await node.keySet()).version, (await node.keySet()).version];
  const refused = await node.register("192.0.2.2", 7001).catch((error) => error.error);
  return [nodes.length, versions[0] === versions[1], refused];
}"""
PAGE = "<title>node</title>"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Print nothing."""


def show(browser: Any, origin: str) -> Any:
    page = browser.new_page()
    page.goto(f"{origin}/page.html")
    return page


def test_a_page_is_a_node_at_its_own_origin_and_a_reader_elsewhere(
    browser: Any, start: Start, tmp_path: Path
) -> None:
    server = start("--database", "memory:", OPENRED_PQ="off")
    wait_for_the_next_second()
    bob = Node(server, "bob")
    assert bob.register(services=["relay"]).status == 201
    bob.close()
    directory = f"http://127.0.0.1:{server.address[1]}"

    def fulfil(route: Any) -> None:
        """Answer as a proxy would that serves the page beside the directory."""
        route.fulfill(path=tmp_path / route.request.url.rpartition("/")[2])

    for name, content in (("page.html", PAGE), ("openred.js", node_example("browser"))):
        (tmp_path / name).write_text(content)
        browser.route(f"{directory}/{name}", fulfil)
    assert show(browser, directory).evaluate(LIFE) == ["proven", "active", "bob", "bob"]
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as elsewhere:
        Thread(target=elsewhere.serve_forever, daemon=True).start()
        page = show(browser, f"http://127.0.0.1:{elsewhere.server_port}")
        assert page.evaluate(ELSEWHERE, directory) == [1, True, "no_answer"]
        elsewhere.shutdown()
