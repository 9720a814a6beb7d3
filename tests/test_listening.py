"""The public listener: where it listens, and what is said where it cannot."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from openred_central.listening import StartError, listeners, tls


def listening(host: str = "127.0.0.1", port: int = 0, unix_socket: str = "") -> list[socket.socket]:
    return listeners(host, port, unix_socket, backlog=5, environment={}, process_id=os.getpid())


def test_an_address_and_a_path_may_be_listened_on(tmp_path: Path) -> None:
    opened = listening(unix_socket=str(tmp_path / "socket"))
    assert [listener.family for listener in opened] == [socket.AF_INET, socket.AF_UNIX]
    for listener in opened:
        listener.close()


def test_a_taken_address_is_told_in_one_line() -> None:
    (taken,) = listening()
    with taken, pytest.raises(StartError, match=r"127\.0\.0\.1, port"):
        listening(port=taken.getsockname()[1])


def test_a_path_that_cannot_be_used_leaves_the_address_free(tmp_path: Path) -> None:
    (free,) = listening()
    port = free.getsockname()[1]
    free.close()
    with pytest.raises(StartError):
        listening(port=port, unix_socket=str(tmp_path / "missing" / "socket"))
    (again,) = listening(port=port)
    again.close()


def test_sockets_that_are_passed_wrongly_are_told_in_one_line() -> None:
    environment = {"LISTEN_PID": "7", "LISTEN_FDS": "many"}
    with pytest.raises(StartError, match="LISTEN_FDS is 'many'"):
        listeners("127.0.0.1", 0, "", backlog=5, environment=environment, process_id=7)


def test_without_a_certificate_there_is_no_tls() -> None:
    assert tls("", "") is None


def test_a_certificate_that_cannot_be_used_is_named_with_its_key(tmp_path: Path) -> None:
    wrong = tmp_path / "chain.pem"
    wrong.write_text("no certificate")
    for certificate in (str(wrong), str(tmp_path / "missing.pem")):
        with pytest.raises(
            StartError, match=f"cannot use the certificate {certificate} with the key key.pem"
        ):
            tls(certificate, "key.pem")
