"""The public listener: where it listens, and what is said where it cannot."""

from __future__ import annotations

import os
import socket
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from openred_central.listening import Certificate, StartError, certificate_of, listeners
from tests.micro_engine.serving import certificate as make_certificate


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
    assert certificate_of("", "") is None


def test_a_certificate_that_cannot_be_used_is_named_with_its_key(tmp_path: Path) -> None:
    wrong = tmp_path / "chain.pem"
    wrong.write_text("no certificate")
    for certificate in (str(wrong), str(tmp_path / "missing.pem")):
        with pytest.raises(
            StartError, match=f"cannot use the certificate {certificate} with the key key.pem"
        ):
            certificate_of(certificate, "key.pem")


def test_a_certificate_tells_when_it_ends_and_is_read_again(tmp_path: Path) -> None:
    paths = make_certificate(tmp_path)
    certificate = Certificate(*map(str, paths))
    assert certificate.expires_at == datetime(2100, 1, 1, tzinfo=UTC).timestamp()
    before = certificate.context
    paths[1].write_text("no key")
    with pytest.raises(StartError):
        certificate.renew()
    assert certificate.context is before
    make_certificate(tmp_path)
    certificate.renew()
    assert certificate.context is not before


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_a_key_that_is_encrypted_is_refused_at_once(tmp_path: Path, form: PrivateFormat) -> None:
    certificate, key = make_certificate(tmp_path)
    plain = load_pem_private_key(key.read_bytes(), None)
    key.write_bytes(plain.private_bytes(Encoding.PEM, form, BestAvailableEncryption(b"x")))
    with pytest.raises(StartError, match=r"key\.pem: the key is encrypted; write it without a passphrase"):
        Certificate(str(certificate), str(key))
