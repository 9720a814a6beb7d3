"""The commands that speak to a directory: what they ask, print, and end with."""

from __future__ import annotations

import argparse
import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from openred_central.cli import asking
from openred_central.cli.arguments import add_arguments
from openred_central.cli.asking import Surroundings, UsageError
from openred_central.cli.showing import Style
from openred_central.client import Client

from ..client.fake import Asked, FakeServer, Handler, Lost, Told
from ..security.signed_requests import ed25519_key

OWN = f"k-{ed25519_key().key_id}"


class Desk:
    """Somebody at a command line, before a directory that is a function."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, handler: Handler) -> None:
        self.server = FakeServer(handler)
        self.said: list[str] = []
        self.complaints: list[str] = []

        def client(url: str, key: Any, **options: Any) -> Client:
            return Client(self.server.connections(), key, sleep=self.server.sleep, **options)

        monkeypatch.setattr(asking, "Client", client)

    async def run(self, command: str, *words: str) -> int:
        parser = argparse.ArgumentParser()
        add_arguments(parser, command, "http://here:1")
        options = parser.parse_args(words, argparse.Namespace(command=command))
        around = Surroundings(
            self.said.append,
            self.complaints.append,
            self.server.clock,
            random.Random(4).randbytes,
            Style(),
        )
        return await asking.run(options, around)


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
async def test_what_a_command_asks(
    monkeypatch: pytest.MonkeyPatch, key: str, words: str, line: str, said: dict[str, Any] | None, proof: str
) -> None:
    desk = Desk(monkeypatch, ok)
    assert (await desk.run(*words.replace("K", key).split(" "))) == 0
    (asked,) = desk.server.asked
    assert f"{asked.method} {asked.target}".startswith(line)
    assert (said is None) == (not asked.body)
    for name, value in (said or {}).items():
        assert asked.said[name] == value
    assert asked.proof == proof
    assert desk.complaints == []
    assert "\t" in desk.said[0]


async def test_json_is_what_the_server_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(monkeypatch, ok)
    await desk.run("node", "n", "--json")
    assert desk.said == ['{"node_id":"x"}']


@pytest.mark.parametrize(
    ("told", "code"),
    [((404, {}), 1), ((500, {}), 1), ((429, {}, {"Retry-After": "60"}), 4), (b"SSH-2.0\r\n", 1)],
)
async def test_each_way_to_fail_has_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, told: Told, code: int
) -> None:
    desk = Desk(monkeypatch, lambda _: told)
    assert (await desk.run("stats")) == code
    assert desk.said == []
    assert desk.complaints


async def test_nobody_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def lose(_: object) -> Told:
        raise Lost

    desk = Desk(monkeypatch, lose)
    assert (await desk.run("stats")) == 3
    assert desk.complaints == ["http://directory.example:8000 ended the connection without an answer"]


async def test_a_refusal_names_every_field_and_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = {
        "type": "urn:openred:problem:bad_request",
        "error": "bad_request",
        "message": "Two fields.\x1b[31m",
        "suggestion": "Mend them.",
        "fields": {"states": "is none", "near": "is none"},
    }
    desk = Desk(monkeypatch, lambda _: (400, refused))
    assert (await desk.run("discover", "--near", "?")) == 1
    assert desk.complaints == [
        *(r"bad_request: Two fields.\x1b[31m", "  states is none", "  near is none", "  Mend them.")
    ]
    assert (await desk.run("discover", "--near", "?", "--json")) == 1
    assert orjson.loads(desk.said[0]) == refused


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["heartbeat"], "name the node by --key or --node-id"),
        (["node"], "name the node, by its id or by --key"),
        (["node", "n", "--url", "nowhere"], "--url: 'nowhere' is not where a directory is"),
        (["node", "--key", "missing.pem"], "`openred-central keygen missing.pem` makes one"),
        (["node", "--key", "/"], "--key: / cannot be read: Is a directory"),
        (["heartbeat", "--node-id", "n", "--metadata", "{"], "--metadata is no JSON"),
    ],
)
async def test_arguments_that_cannot_be_used_are_told(
    monkeypatch: pytest.MonkeyPatch, words: list[str], complaint: str
) -> None:
    desk = Desk(monkeypatch, ok)
    with pytest.raises(UsageError) as caught:
        await desk.run(*words)
    assert complaint in str(caught.value)
    assert desk.server.asked == []


async def test_a_file_that_holds_no_key_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "node.pem"
    path.write_text(ed25519_key().public_text)
    with pytest.raises(UsageError, match=r"node\.pem: no private key can be read"):
        await Desk(monkeypatch, ok).run("heartbeat", "--key", str(path))


async def test_a_node_is_kept_alive_until_interrupted(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    answers: list[Told] = [(200, {"revision": 2}), (200, {"heartbeat_advice_s": 60}), (503, {}), (410, {})]
    desk = Desk(monkeypatch, lambda _: answers.pop(0))
    assert (await desk.run("heartbeat", "--key", key, "--keep-alive", "--port", "9")) == 1
    assert len(desk.said) == 2
    assert [complaint[:8] for complaint in desk.complaints] == ["503 http", "http_410"]
    assert 54 <= desk.server.waited_s[0] <= 60


async def test_a_clock_that_is_off_is_told(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    def answer(asked: Asked) -> Told:
        if len(desk.server.asked) > 1:
            return ok(asked)
        time = datetime.fromtimestamp(desk.server.clock.wall_s() + 3_600, UTC).isoformat()
        return 401, {"error": "proof_required", "reason": "signature_expired", "server_time": time}

    desk = Desk(monkeypatch, answer)
    assert (await desk.run("leave", "--key", key)) == 0
    (warning,) = desk.complaints
    assert warning.startswith("warning: the directory says that its clock is 3,600 s ahead of this machine's")


@pytest.mark.parametrize("services", ["", ",", ",,"])
async def test_to_discover_nothing_is_not_to_discover_everybody(
    monkeypatch: pytest.MonkeyPatch, services: str
) -> None:
    """A variable of a shell that is not set."""
    desk = Desk(monkeypatch, ok)
    with pytest.raises(UsageError, match="SERVICES is empty"):
        await desk.run("discover", services)
    assert desk.server.asked == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["node", "\udcff"], r"node: '\\udcff' holds bytes that are not UTF-8"),
        (["discover", "--near", "\udcff"], "near: "),
        (["leave"], "name the node by --key, or by --node-id and --claim"),
        (["leave", "--claim", "c"], "name the node by --key, or by --node-id and --claim"),
    ],
)
async def test_what_cannot_be_asked_is_wrong_usage(
    monkeypatch: pytest.MonkeyPatch, words: list[str], told: str
) -> None:
    with pytest.raises(UsageError, match=told):
        await Desk(monkeypatch, ok).run(*words)
