"""Instances with one key secret accept each other, and nobody else."""

from __future__ import annotations

import os
import ssl
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pytest

from openred_central import crypto
from openred_central.security.cluster_credentials import ClusterCredentials
from openred_central.security.key_secret import derived_key

SECRET, ANOTHER = b"a secret of operators", b"another secret of theirs"
PROTOCOLS = ["one/1", "two/1"]


def connect(client: ssl.SSLContext, server: ssl.SSLContext) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Return both ends of a connection after their handshake. Raises `ssl.SSLError`."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = client.wrap_bio(to_client, to_server), server.wrap_bio(to_server, to_client, server_side=True)
    open_ends = list(ends)
    for _ in range(8):
        for end in list(open_ends):
            try:
                end.do_handshake()
                open_ends.remove(end)
            except ssl.SSLWantReadError:
                continue
    assert not open_ends
    return ends


def stranger(purpose: ssl._SSLMethod, folder: Path, key: crypto.ed25519.Ed25519PrivateKey) -> ssl.SSLContext:
    """Return a context with a certificate for a key of its own that `key` signed; it accepts everybody."""
    x509, encodings = crypto.x509, crypto.serialization
    own = crypto.ed25519.Ed25519PrivateKey.generate()
    ours = x509.load_der_x509_certificate(ClusterCredentials(SECRET).certificate)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(ours.subject)
        .public_key(own.public_key())
        .serial_number(2)
        .not_valid_before(datetime(2000, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(9999, 1, 1, tzinfo=UTC))
        .sign(key, None)
    )
    (folder / "chain.pem").write_bytes(
        own.private_bytes(encodings.Encoding.PEM, encodings.PrivateFormat.PKCS8, encodings.NoEncryption())
        + certificate.public_bytes(encodings.Encoding.PEM)
        + ours.public_bytes(encodings.Encoding.PEM)
    )
    context = ssl.SSLContext(purpose)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(folder / "chain.pem")
    return context


def test_all_instances_derive_the_same_certificate() -> None:
    certificate = ClusterCredentials(SECRET).certificate
    assert ClusterCredentials(ANOTHER).certificate != certificate
    # Whichever program and library derive it: instances of two releases are one cluster.
    assert sha256(certificate).hexdigest() == (
        "b437855eae70d57e6b5e1fb450b1af0e9c3c5f75d3903545386db555c53f3368"
    )


def test_instances_accept_each_other_and_agree_on_a_protocol() -> None:
    one, other = ClusterCredentials(SECRET), ClusterCredentials(SECRET)
    for protocol in PROTOCOLS:
        client, server = connect(one.client_context([protocol]), other.server_context(PROTOCOLS))
        assert client.selected_alpn_protocol() == server.selected_alpn_protocol() == protocol
        assert client.version() == "TLSv1.3"
        for end in (client, server):
            assert end.getpeercert(binary_form=True) == one.certificate


@pytest.mark.parametrize("is_server", [False, True])
def test_an_instance_with_another_secret_is_refused(is_server: bool) -> None:
    one, other = ClusterCredentials(SECRET), ClusterCredentials(ANOTHER)
    client, server = (one, other) if is_server else (other, one)
    with pytest.raises(ssl.SSLCertVerificationError):
        connect(client.client_context(PROTOCOLS[:1]), server.server_context(PROTOCOLS))


@pytest.mark.parametrize("by_the_cluster", [False, True])
def test_any_other_certificate_is_refused_even_one_that_the_key_signed(
    tmp_path: Path, by_the_cluster: bool
) -> None:
    key = crypto.ed25519.Ed25519PrivateKey.from_private_bytes(
        derived_key(SECRET, "cluster") if by_the_cluster else bytes(32)
    )
    ours = ClusterCredentials(SECRET)
    with pytest.raises(ssl.SSLCertVerificationError):
        connect(stranger(ssl.PROTOCOL_TLS_CLIENT, tmp_path, key), ours.server_context([]))
    with pytest.raises(ssl.SSLCertVerificationError):
        connect(ours.client_context(PROTOCOLS[:1]), stranger(ssl.PROTOCOL_TLS_SERVER, tmp_path, key))


def test_a_caller_without_a_certificate_is_refused() -> None:
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    with pytest.raises(ssl.SSLError, match="peer did not return a certificate"):
        connect(client, ClusterCredentials(SECRET).server_context(PROTOCOLS))


def test_an_older_tls_is_refused() -> None:
    client = ClusterCredentials(SECRET).client_context(PROTOCOLS[:1])
    client.minimum_version = client.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError, match="protocol"):
        connect(client, ClusterCredentials(SECRET).server_context(PROTOCOLS))


def test_while_a_secret_is_exchanged_instances_of_both_accept_each_other() -> None:
    before, after = ClusterCredentials(SECRET, [ANOTHER]), ClusterCredentials(ANOTHER, [SECRET])
    for one in (before, after):
        for other in (before, after):
            client, server = connect(one.client_context(PROTOCOLS[:1]), other.server_context(PROTOCOLS))
            assert client.getpeercert(binary_form=True) == other.certificate
            assert server.getpeercert(binary_form=True) == one.certificate


def test_the_private_key_stays_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = []

    def look(context: ssl.SSLContext, path: str) -> None:
        kept.append(os.readlink(path))

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", look)
    ClusterCredentials(SECRET).client_context(PROTOCOLS[:1])
    assert kept == ["/memfd:openred-cluster (deleted)"]
