"""The key pair and the certificate by which the instances of a cluster know each other.

Both follow from the key secret, so that all instances have them without exchanging anything: an Ed25519 key
(RFC 8032), whose signatures are deterministic, and a certificate that it signs itself. Either end of a
connection presents this certificate and accepts no other one. Names of hosts and the dates in it mean
nothing: it proves that the other end has the secret.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from .. import crypto
from ..encoding import key_id
from .key_secret import derived_key

if TYPE_CHECKING:
    from ..crypto import ed25519

_PURPOSE: Final = "cluster"
_SERIAL: Final = 1
_SINCE: Final = datetime(1970, 1, 1, tzinfo=UTC)
# No end (RFC 5280 §4.1.2.5).
_UNTIL: Final = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


class ClusterCredentials:
    """The credentials of an instance with the key secret `secret`.

    It accepts those of `others` as well, which are the secrets before and after this one, while instances
    exchange it one after another.
    """

    def __init__(self, secret: bytes, others: Sequence[bytes] = ()) -> None:
        self._key = _key(secret)
        self.certificate = _certificate(self._key)
        self._accepted = [self.certificate, *(_certificate(_key(each)) for each in others)]

    def server_context(self, protocols: Sequence[str]) -> ssl.SSLContext:
        """Return a context for the end that listens, which offers `protocols` by ALPN (RFC 7301)."""
        context = self._context(ssl.PROTOCOL_TLS_SERVER, protocols)
        # Nobody resumes a session.
        context.num_tickets = 0
        return context

    def client_context(self, protocols: Sequence[str]) -> ssl.SSLContext:
        """Return a context for the end that connects, which asks for one of `protocols` by ALPN."""
        return self._context(ssl.PROTOCOL_TLS_CLIENT, protocols)

    def _context(self, purpose: ssl._SSLMethod, protocols: Sequence[str]) -> ssl.SSLContext:
        context = ssl.SSLContext(purpose)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata="".join(map(ssl.DER_cert_to_PEM_cert, self._accepted)))
        context.set_alpn_protocols(list(protocols))
        encodings = crypto.serialization
        pem = self._key.private_bytes(
            encodings.Encoding.PEM, encodings.PrivateFormat.PKCS8, encodings.NoEncryption()
        )
        with _in_memory(pem + ssl.DER_cert_to_PEM_cert(self.certificate).encode()) as path:
            context.load_cert_chain(path)
        return context


def _key(secret: bytes) -> ed25519.Ed25519PrivateKey:
    return crypto.ed25519.Ed25519PrivateKey.from_private_bytes(derived_key(secret, _PURPOSE))


def _certificate(key: ed25519.Ed25519PrivateKey) -> bytes:
    """Return the DER of the certificate of `key`, always the same bytes."""
    x509, encodings = crypto.x509, crypto.serialization
    spki = key.public_key().public_bytes(encodings.Encoding.DER, encodings.PublicFormat.SubjectPublicKeyInfo)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"openred-cluster {key_id(spki)}")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(_SERIAL)
        .not_valid_before(_SINCE)
        .not_valid_after(_UNTIL)
        # It vouches for no other certificate.
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    )
    return builder.sign(key, None).public_bytes(encodings.Encoding.DER)


@contextmanager
def _in_memory(content: bytes) -> Iterator[str]:
    """Yield the path of a file with `content` that no disk ever holds: `ssl` reads keys from files alone."""
    descriptor = os.memfd_create("openred-cluster")
    try:
        os.write(descriptor, content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
