"""The health check reports whether a server is well."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from openred_central.cli.health import LIVE, READY, check, flags_of, own_url
from openred_central.settings.config import load
from tests.support.serving import closed_port


@contextmanager
def answering(answer: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """Serve one client this answer. Yield the URL, and a list that gets its request."""
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            client, _ = listener.accept()
            with client:
                asked.append(client.recv(65_536))
                client.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", asked
        thread.join(30)


def response(status: str, body: bytes = b"{}") -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status.encode(), len(body), body)


@pytest.mark.parametrize(
    ("flags", "url"),
    [
        ({}, "http://127.0.0.1:8000"),
        ({"host": "0.0.0.0", "port": "9000"}, "http://127.0.0.1:9000"),
        ({"host": "::"}, "http://127.0.0.1:8000"),
        ({"host": "192.0.2.1"}, "http://192.0.2.1:8000"),
        ({"tls_certificate": "a", "tls_key": "b"}, "https://127.0.0.1:8000"),
    ],
)
def test_a_server_is_checked_at_the_address_of_its_settings(flags: dict[str, str], url: str) -> None:
    assert own_url(load(flags, {})) == url


@pytest.mark.parametrize(
    "begins",
    [
        ["/opt/openred/bin/python", "/opt/openred/bin/openred-central", "serve"],
        ["/opt/openred/bin/openred-central"],
        ["/sbin/docker-init", "--", "/opt/openred/bin/openred-central", "serve"],
        ["python3", "-m", "openred_central", "serve"],
    ],
)
def test_the_flags_of_a_server_come_from_its_process(tmp_path: Path, begins: list[str]) -> None:
    (tmp_path / "1").mkdir()
    words = [*begins, "--port", "9000", "--begin-anew", "--host=::", "--database", "/data/openred-central"]
    (tmp_path / "1" / "cmdline").write_bytes("\0".join([*words, ""]).encode())
    assert flags_of("1", tmp_path) == {"port": "9000", "host": "::", "database": "/data/openred-central"}


def test_another_process_has_no_flags(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "cmdline").write_bytes(b"/bin/sh\0-c\0openred-central serve\0--port\0009000\0")
    for process_id in ("1", "2", "x"):
        assert flags_of(process_id, tmp_path) == {}


@pytest.mark.parametrize(("path", "word"), [(READY, "ready"), (LIVE, "live")])
def test_a_healthy_server_is_reported(path: str, word: str) -> None:
    with answering(response("200 OK")) as (url, asked):
        assert check(f"{url}/", path, verified=True) == (True, f"{url}/ is {word}")
    assert asked[0].startswith(b"GET %b HTTP/1.1\r\n" % path.encode())


def test_a_server_that_is_not_ready_is_reported_with_its_answer() -> None:
    with answering(response("503 Service Unavailable")) as (url, _):
        health = check(url, READY, verified=True)
    assert not health.well
    assert health.line == f"{url} is not ready: it answers /health/ready with 503 Service Unavailable"


def test_a_refused_connection_is_reported_with_a_hint() -> None:
    health = check(f"http://127.0.0.1:{closed_port()}", LIVE, verified=True)
    assert not health.well
    assert health.line.startswith("connection refused: is the server running on http://127.0.0.1:")


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 2"])
def test_a_broken_answer_is_reported(answer: bytes) -> None:
    with answering(answer) as (url, _):
        health = check(url, LIVE, verified=True)
    assert not health.well
    assert f"no answer from {url}: " in health.line


def test_a_server_that_never_answers_times_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        assert not check(url, LIVE, verified=True, timeout_s=0.05).well


@pytest.mark.parametrize(
    "url", ["", "localhost:8000", "ftp://a", "http://", "http://a/?b", "http://a:port", "http://a b"]
)
def test_a_wrong_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        check(url, LIVE, verified=True)
