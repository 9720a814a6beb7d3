"""The commands that send requests: their requests, output and exit codes."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openred_central.cli import nodes
from openred_central.cli.command import UsageError
from openred_central.cli.console import Style
from openred_central.cli.main import make_parser
from openred_central.client import Client
from tests.support.console import Recorded
from tests.support.fake_server import Asked, FakeServer, Handler, Lost, Told
from tests.support.signed_requests import ed25519_key

OWN = f"k-{ed25519_key().key_id}"


PARSER = make_parser(nodes.COMMANDS)


class Desk:
    """A command line whose directory is the function `handler`."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, handler: Handler, environment: dict[str, str] | None = None
    ) -> None:
        self.server = FakeServer(handler)
        self._recorded = Recorded(clock=self.server.clock, environment=environment)
        self.said, self.complaints = self._recorded.said, self._recorded.complaints
        self.urls: list[str] = []

        def client(url: str, key: Any, **options: Any) -> Client:
            self.urls.append(url)
            return Client(self.server.connections(), key, sleep=self.server.sleep, **options)

        monkeypatch.setattr(nodes, "Client", client)

    def run(self, *words: str) -> int:
        (command,) = [command for command in nodes.COMMANDS if command.name == words[0]]
        return command.run(PARSER.parse_args(words), self._recorded.console)


@pytest.fixture
def key(tmp_path: Path) -> str:
    path = tmp_path / "node.pem"
    path.write_bytes(ed25519_key().to_pem())
    return str(path)


def ok(_: object) -> Told:
    return 200, {"node_id": "x"}


@pytest.mark.parametrize(
    ("words", "line", "said", "proof"),
    [
        ("register a 1 --key K", "POST /register", {"address": "a", "port": 1}, "signature"),
        (
            "register a 1 --key K --services s,t --region e --hidden --node-id n --next-key k --away-until t",
            "POST /register",
            {
                "services": ["s", "t"],
                "region": "e",
                "discoverable": False,
                "node_id": "n",
                "next_key": "k",
                "away_until": "t",
            },
            "signature",
        ),
        ('register a 1 --key K --metadata {"a":1}', "POST /register", {"metadata": {"a": 1}}, "signature"),
        ("heartbeat --key K", f"POST /heartbeat/{OWN}", None, "signature"),
        ("heartbeat --node-id n", "POST /heartbeat/n", None, "nothing"),
        ("heartbeat --node-id n --claim c --port 9", "POST /heartbeat/n", {"port": 9}, "claim"),
        ("leave --node-id n --claim c", "DELETE /nodes/n", {"mode": "leave"}, "claim"),
        ("heartbeat --key K --port 9 --services ,", f"POST /heartbeat/{OWN}", {"port": 9}, "signature"),
        ("discover", "GET /discover", None, "nothing"),
        ("discover a,b --near eu --max-results 3", "GET /discover?services=a%2Cb", None, "nothing"),
        ("node n", "GET /nodes/n", None, "nothing"),
        ("node --key K", f"GET /nodes/{OWN}", None, "nothing"),
        ("stats", "GET /stats", None, "nothing"),
        ("leave --key K", f"DELETE /nodes/{OWN}", {"mode": "leave"}, "signature"),
        ("leave --key K --forget", f"DELETE /nodes/{OWN}", {"mode": "forget"}, "signature"),
    ],
)
def test_each_command_sends_its_request(
    monkeypatch: pytest.MonkeyPatch, key: str, words: str, line: str, said: dict[str, Any] | None, proof: str
) -> None:
    desk = Desk(monkeypatch, ok)
    assert desk.run(*words.replace("K", key).split(" ")) == 0
    (asked,) = desk.server.asked
    assert f"{asked.method} {asked.target}".startswith(line)
    assert (said is None) == (not asked.body)
    for name, value in (said or {}).items():
        assert asked.said[name] == value
    assert asked.proof == proof
    assert desk.complaints == []
    assert "\t" in desk.said[0]


def test_json_is_the_answer_of_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(monkeypatch, ok)
    desk.run("node", "n", "--json")
    assert desk.said == ['{"node_id":"x"}']


@pytest.mark.parametrize(
    ("told", "code"),
    [((404, {}), 1), ((500, {}), 1), ((429, {}, {"Retry-After": "60"}), 4), (b"SSH-2.0\r\n", 1)],
)
def test_each_failure_has_its_exit_code(monkeypatch: pytest.MonkeyPatch, told: Told, code: int) -> None:
    desk = Desk(monkeypatch, lambda _: told)
    assert desk.run("stats") == code
    assert desk.said == []
    assert desk.complaints


def test_a_missing_server_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def lose(_: object) -> Told:
        raise Lost

    desk = Desk(monkeypatch, lose)
    assert desk.run("stats") == 3
    assert desk.complaints == ["http://directory.example:8000 ended the connection without an answer"]


def test_a_refusal_names_every_field_and_its_suggestion(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = {
        "type": "urn:openred:problem:bad_request",
        "error": "bad_request",
        "message": "Two fields.\x1b[31m",
        "suggestion": "Fix them.",
        "fields": {"states": "is none", "near": "is none"},
    }
    desk = Desk(monkeypatch, lambda _: (400, refused))
    assert desk.run("discover", "--near", "?") == 1
    assert desk.complaints == [
        *(r"bad_request: Two fields.\x1b[31m", "  states is none", "  near is none", "  Fix them.")
    ]
    assert desk.run("discover", "--near", "?", "--json") == 1
    assert orjson.loads(desk.said[0]) == refused


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["heartbeat"], "name the node by --key or --node-id"),
        (["node"], "name the node, by its id or by --key"),
        (["leave"], "name the node by --key, or by --node-id and --claim"),
        (["leave", "--claim", "c"], "name the node by --key, or by --node-id and --claim"),
        (["node", "n", "--url", "nowhere"], "--url: 'nowhere' is not where a directory is"),
        (["node", "--key", "missing.pem"], "`openred-central keygen missing.pem` makes a key"),
        (["node", "--key", "/"], "--key: / cannot be read: Is a directory"),
        (["register", "a", "1", "--key", ""], "cannot be read: Is a directory"),
        (["heartbeat", "--node-id", "", "--claim", "c"], "name the node by --key or --node-id"),
        (["heartbeat", "--node-id", "n", "--metadata", "{"], "--metadata is no JSON"),
    ],
)
def test_unusable_arguments_are_reported(
    monkeypatch: pytest.MonkeyPatch, words: list[str], complaint: str
) -> None:
    desk = Desk(monkeypatch, ok)
    with pytest.raises(UsageError) as caught:
        desk.run(*words)
    assert complaint in str(caught.value)
    assert desk.server.asked == []


def test_a_file_without_a_key_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "node.pem"
    path.write_text(ed25519_key().public_text)
    with pytest.raises(UsageError, match=r"node\.pem: no private key can be read"):
        Desk(monkeypatch, ok).run("heartbeat", "--key", str(path))


def test_a_node_is_kept_alive_until_interrupted(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    answers: list[Told] = [(200, {"revision": 2}), (200, {"heartbeat_advice_s": 60}), (503, {}), (410, {})]
    desk = Desk(monkeypatch, lambda _: answers.pop(0))
    assert desk.run("heartbeat", "--key", key, "--keep-alive", "--port", "9") == 1
    assert len(desk.said) == 2
    assert [complaint[:8] for complaint in desk.complaints] == ["503 http", "http_410"]
    assert 54 <= desk.server.waited_s[0] <= 60


def test_a_clock_that_is_off_is_reported(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    def answer(asked: Asked) -> Told:
        if len(desk.server.asked) > 1:
            return ok(asked)
        time = datetime.fromtimestamp(desk.server.clock.wall_s() + 3_600, UTC).isoformat()
        return 401, {"error": "proof_required", "reason": "signature_expired", "server_time": time}

    desk = Desk(monkeypatch, answer)
    assert desk.run("leave", "--key", key) == 0
    (warning,) = desk.complaints
    assert warning.startswith(
        "warning: the clock of the directory is 3,600 s ahead of the clock of this machine;"
    )


@pytest.mark.parametrize("services", ["", ",", ",,"])
def test_empty_services_do_not_discover_every_node(monkeypatch: pytest.MonkeyPatch, services: str) -> None:
    """A shell passes an empty text if a variable is not set."""
    desk = Desk(monkeypatch, ok)
    with pytest.raises(UsageError, match="SERVICES is empty"):
        desk.run("discover", services)
    assert desk.server.asked == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["node", "\udcff"], r"node: '\\udcff' holds bytes that are not UTF-8"),
        (["discover", "--near", "\udcff"], "near: "),
    ],
)
def test_invalid_utf_8_is_wrong_usage(
    monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        Desk(monkeypatch, ok).run(*words)


@pytest.mark.parametrize(
    "words", [["heartbeat", "--node-id", "n", "--port", "9"], ["leave", "--node-id", "n"]]
)
def test_claim_and_url_may_come_from_variables(monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    desk = Desk(monkeypatch, ok, {"OPENRED_CLAIM": "c", "OPENRED_URL": "http://there:1"})
    assert desk.run(*words) == 0
    assert (desk.server.asked[0].proof, desk.urls) == ("claim", ["http://there:1"])
    assert desk.run(*words, "--url", "http://elsewhere") == 0
    assert desk.urls[-1] == "http://elsewhere"


PLAIN, TERMINAL, COLOURED = Style(), Style(terminal=True), Style(terminal=True, colour=True)
NODES = {
    "nodes": [
        {"node_id": "alice", "state": "active", "port": 7, "services": ["a", "b"], "availability": 0.9},
        {"node_id": "b", "state": "retry_48h", "region": "eu"},
    ],
    "total_found": 5,
    "degraded": True,
}


def test_a_terminal_gets_a_table_and_a_pipe_gets_tabs() -> None:
    assert nodes.discovered(NODES, TERMINAL).splitlines() == [
        "NODE   STATE      AVAILABILITY  ADDRESS  PORT  SERVICES  REGION  LAST SEEN",
        "alice  active     0.9           -        7     a,b       -       -",
        "b      retry_48h  -             -        -     -         eu      -",
        "2 others; no node matches",
    ]
    assert nodes.discovered(NODES, PLAIN).splitlines() == [
        "node\tstate\tavailability\taddress\tport\tservices\tregion\tlast seen",
        "alice\tactive\t0.9\t-\t7\ta,b\t-\t-",
        "b\tretry_48h\t-\t-\t-\t-\teu\t-",
    ]


def test_colours_do_not_change_the_text() -> None:
    coloured = nodes.discovered(NODES, COLOURED)
    assert "\x1b[32mactive" in coloured
    assert "\x1b[33mretry_48h" in coloured
    assert re.sub(r"\x1b\[\d*m", "", coloured) == nodes.discovered(NODES, TERMINAL)


def test_an_empty_discovery_is_reported() -> None:
    assert nodes.discovered({"nodes": [], "total_found": 0}, TERMINAL) == "0 of 0 that match"


def test_a_node_is_explained() -> None:
    node = {
        "node_id": "alice",
        "state": "coma",
        "metadata": {"version": 3},
        "explain": {
            "why": "It is dormant.",
            "deadlines": [{"state": "dead", "at": "2030-01-01T00:00:00.000Z", "in_s": 86_399.999}],
            "history": [{"from": "absent", "to": "active", "at": "2026", "reason": "registered"}],
        },
    }
    shown = nodes.explained(node, TERMINAL)
    assert "why         It is dormant." in shown
    assert 'metadata    {"version":3}' in shown
    assert "if silent: dead  2030-01-01T00:00:00.000Z  1 day" in shown
    assert "absent to active  2026  registered" in shown
    assert "ahead\tif silent: dead\t2030-01-01T00:00:00.000Z\t1 day" in nodes.explained(node, PLAIN)


def test_answers_name_the_next_heartbeat() -> None:
    answer = {"node_id": "a", "current_state": "active", "heartbeat_advice_s": 90_000, "message": "Noted."}
    assert nodes.heard(answer, PLAIN).splitlines() == [
        *("node\ta", "state\tactive", "before\t-", "heartbeat due\t-", "advised\tevery 1 day 1 hour"),
        "says\tNoted.",
    ]
    assert "durable\tyes" in nodes.registered({"durable": True}, PLAIN)
    assert "status\tleft" in nodes.left({"status": "left"}, PLAIN)


def test_figures_are_named_by_their_path() -> None:
    figures = {"a": {"b": 1, "c": [{"d": None}], "e": [1, 2]}, "f": False}
    assert nodes.figures(figures, PLAIN) == "a.b\t1\na.c.0.d\t-\na.e\t1,2\nf\tno"


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False)
    | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=9,
)
FIELDS = st.sampled_from(
    [*("node_id", "state", "nodes", "explain", "message", "metadata", "services", "deadlines", "history")]
)


@given(st.dictionaries(FIELDS, JSON | st.dictionaries(FIELDS, JSON)))
def test_no_answer_can_control_a_terminal(answer: dict[str, object]) -> None:
    for show in (nodes.registered, nodes.heard, nodes.left, nodes.discovered, nodes.figures):
        for style in (PLAIN, TERMINAL):
            assert_harmless(show(answer, style))
    assert_harmless(nodes.explained(answer, TERMINAL))


def assert_harmless(shown: str) -> None:
    assert all(character.isprintable() or character in "\n\t" for character in shown)
