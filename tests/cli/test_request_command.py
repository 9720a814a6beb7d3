"""The commands that send requests: their requests, arguments and exit codes."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openred_central.cli import discover, heartbeat, leave, node, register, stats
from openred_central.cli.command import UsageError
from tests.support.fake_server import Asked, Lost, Told
from tests.support.signed_requests import ed25519_key

from .desk import PLAIN, TERMINAL, Desk, ok

OWN = f"k-{ed25519_key().key_id}"


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
    for command in (register, heartbeat, discover, stats, leave):
        for style in (PLAIN, TERMINAL):
            assert_harmless(command.show(answer, style))
    assert_harmless(node.show(answer, TERMINAL))


def assert_harmless(shown: str) -> None:
    assert all(character.isprintable() or character in "\n\t" for character in shown)
