"""`watch` reads streams of events, and resumes broken ones."""

from __future__ import annotations

import http.client
import io
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openred_central.cli import watch as watching
from openred_central.cli.console import Style
from openred_central.cli.watch import StreamEvent, WatchLater, WatchRefused, read_events, show, watch
from openred_central.exit_codes import ExitCode
from openred_central.http_requests import NoReply

PLAIN = Style()
STREAM = (
    b": a comment\n\nretry: 2000\n\nid: 1-1\nevent: transition\n"
    b'data: {"at":"2027-01-15T08:00:00Z","node_id":"alice","from":"active",\n'
    b'data: "to":"coma","reason":"left"}\n\nid: 1-2\r\nevent: figures\r\ndata: {"nodes":1}\r\n\r\n'
    b"event: broken\ndata: {\n\nevent: nothing\n\n"
)


def test_events_are_read_according_to_the_standard() -> None:
    first, second = read_events(STREAM.splitlines(keepends=True))
    assert (first.id, first.name, first.data["to"]) == ("1-1", "transition", "coma")
    assert second == StreamEvent("1-2", "figures", {"nodes": 1})


@pytest.mark.parametrize("line", [b"id: 1\r2", "id: é".encode(), b"id: " + b"1" * 200, b"id: 1\x00", b"id"])
def test_an_id_that_fits_no_header_is_ignored(line: bytes) -> None:
    (event,) = read_events([line + b"\n", b"data: {}\n", b"\n"])
    assert event.id == ""


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_any_lines_are_read_without_harm(lines: list[bytes]) -> None:
    assert all(isinstance(event.data, dict) for event in read_events(lines))


def test_each_event_is_shown() -> None:
    change = {
        "at": "t",
        "node_id": "alice",
        "hidden": False,
        "from": "active",
        "to": "coma",
        "reason": "left",
    }
    assert show(StreamEvent("1", "transition", change), PLAIN) == ["t  alice  active → coma  (left)"]
    assert show(StreamEvent("1", "transition", {**change, "hidden": True, "node_id": None}), PLAIN) == [
        "t  a hidden node  active → coma  (left)"
    ]
    kinds = [{"from": "active", "to": "pending_1st", "reason": "deadline", "count": 12}, "odd"]
    assert show(
        StreamEvent("1", "transitions", {"at": "t", "kinds": kinds, "count": 12, "named": 2}), PLAIN
    ) == ["t  12 nodes  active → pending_1st  (deadline)"]
    assert (
        show(StreamEvent("1", "transitions", {"at": "t", "kinds": kinds, "count": 2, "named": 2}), PLAIN)
        == []
    )
    one = {"at": "t", "kinds": [{**kinds[0], "count": 1}], "count": 1, "named": 0}  # type: ignore[dict-item]
    assert show(StreamEvent("1", "transitions", one), PLAIN) == [
        "t  1 node  active → pending_1st  (deadline)"
    ]
    assert len(show(StreamEvent("1", "reset", {}), PLAIN)) == 1
    assert show(StreamEvent("1", "figures", {"nodes": 1}), PLAIN) == []


def test_events_of_watched_nodes_are_shown() -> None:
    node = {"state": "active", "late": True, "address": "192.0.2.1", "port": 7, "services": ["relay", "x"]}
    event = {"at": "t", "node_id": "alice", "what": ["heard", "moved"], "node": node}
    assert show(StreamEvent("1", "node", event), PLAIN) == [
        "t  alice  heard, moved: active, late, at 192.0.2.1 port 7, relay, x"
    ]
    gone = {"at": "t", "node_id": "bob", "what": ["gone"], "node": None}
    assert show(StreamEvent("1", "node", gone), PLAIN) == ["t  bob  gone: unknown, or hidden"]
    assert len(show(StreamEvent("1", "node", {"what": 1, "node": {}}), PLAIN)) == 1


def test_a_stream_of_nodes_goes_on_from_an_id_without_data(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def stream(url: str, recent: int, nodes: str, last_id: str) -> Iterator[StreamEvent]:
        asked.append((nodes, last_id))
        if len(asked) == 2:
            raise WatchRefused("404: no such thing")
        yield from read_events([b"event: node\n", b"data: {}\n", b"\n", b"id: 7-9\n", b"\n", b"\n"])

    monkeypatch.setattr(watching, "_stream", stream)
    reported: list[StreamEvent] = []
    watch("http://x", recent=0, nodes="a,b", report=reported.append, complain=str, pause=lambda _: None)
    assert reported == [StreamEvent("", "node", {})]
    assert asked == [("a,b", ""), ("a,b", "7-9")]


def test_text_of_nodes_cannot_control_the_terminal() -> None:
    network = {"at": "t", "group": "198.51.0.0/16", "state": "dark"}
    assert show(StreamEvent("1", "network", network), PLAIN) == ["t  198.51.0.0/16 is dark"]
    (line,) = show(StreamEvent("1", "transition", {"node_id": "\x1b[2J\nroot"}), PLAIN)
    assert "\x1b" not in line
    assert "\n" not in line


def test_a_broken_stream_is_resumed_until_the_directory_refuses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[int, str]] = []

    def stream(url: str, recent: int, nodes: str, last_id: str) -> Iterator[StreamEvent]:
        asked.append((recent, last_id))
        if len(asked) == 3:
            raise WatchLater("503: too many")
        if len(asked) == 4:
            raise WatchRefused("404: no such thing")
        yield StreamEvent(f"1-{len(asked)}", "figures", {})
        if len(asked) == 2:
            raise NoReply("gone")

    monkeypatch.setattr(watching, "_stream", stream)
    reported: list[StreamEvent] = []
    complaints: list[str] = []
    pauses: list[float] = []
    code = watch(
        "http://x", recent=5, report=reported.append, complain=complaints.append, pause=pauses.append
    )
    assert code == ExitCode.FAILED
    assert asked == [(5, ""), (5, "1-1"), (5, "1-2"), (5, "1-2")]
    assert [event.id for event in reported] == ["1-1", "1-2"]
    assert len(pauses) == 3
    assert complaints[-2:] == ["503: too many; trying again", "404: no such thing"]


def test_a_directory_that_is_never_reached_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def stream(url: str, recent: int, nodes: str, last_id: str) -> Iterator[StreamEvent]:
        raise NoReply("connection refused")
        yield

    monkeypatch.setattr(watching, "_stream", stream)
    complaints: list[str] = []
    code = watch("http://x", recent=0, report=print, complain=complaints.append, pause=lambda seconds: None)
    assert (code, complaints) == (ExitCode.UNREACHED, ["connection refused"])


OWN = b'{"type":"urn:openred:problem:x","error":"x","message":"No."}'
PROBLEM = "Content-Type: application/problem+json\r\n"


@pytest.mark.parametrize(
    ("status", "fields", "body", "code", "complaint"),
    [
        (502, "", b"<html>", ExitCode.UNREACHED, "the answer is 502"),
        (404, "", b"<html>", ExitCode.UNREACHED, "the answer is 404"),
        (301, "Location: https://x\r\n", b"", ExitCode.UNREACHED, "leads to 'https://x'"),
        (404, PROBLEM, OWN, ExitCode.FAILED, "404: No."),
        (503, PROBLEM, OWN, ExitCode.FAILED, "503: No."),
    ],
)
def test_only_a_refusal_of_the_directory_itself_ends_it(
    monkeypatch: pytest.MonkeyPatch, status: int, fields: str, body: bytes, code: int, complaint: str
) -> None:
    """At first every error ends it; after an event, only a lasting refusal by the directory does."""
    head = f"HTTP/1.1 {status} X\r\n{fields}Content-Length: {len(body)}\r\n\r\n".encode()
    refusal = head + body
    event = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nid: 1\ndata: {}\n\n"
    end = b"HTTP/1.1 405 X\r\n" + PROBLEM.encode() + b"Content-Length: %d\r\n\r\n%b" % (len(OWN), OWN)

    def run(*answers: bytes) -> tuple[int, list[str]]:
        left = list(answers)
        monkeypatch.setattr(
            http.client.HTTPConnection,
            "connect",
            lambda self: setattr(self, "sock", Socket(left.pop(0))),
        )
        complaints: list[str] = []
        code = watch(
            "http://x",
            recent=0,
            report=lambda _: None,
            complain=complaints.append,
            pause=lambda seconds: None,
        )
        return code, complaints

    ended, complaints = run(refusal)
    assert ended == code
    assert complaint in complaints[0]
    ended, complaints = run(event, refusal, end)
    lasting = code == ExitCode.FAILED and status < 500
    assert ended == ExitCode.FAILED
    assert len(complaints) == (2 if lasting else 3)
    assert complaints[-1] == ("404: No." if lasting else "405: No.")


class Socket:
    """A socket that receives one answer to any request."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    def sendall(self, data: bytes) -> None:
        assert data

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self._answer)

    def close(self) -> None:
        """Close nothing."""
