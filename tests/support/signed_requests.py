"""Keys and signed requests for the tests of what reads them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from openred_central.security.refusals import ProofError
from openred_central.security.signatures import Message
from openred_central.security.signing import PrivateKey, signed_headers

NOW = 1_800_000_000
STARTED = NOW - 86_400.0
NONCE = "0123456789abcdef"
BODY = b'{"hello": "world"}'

# RFC 9421, B.1.4: test-key-ed25519.
RFC_9421_ED25519 = """-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIJ+DYvh6SEqVTm50DFtMDoQikTmiCqirVv9mWG9qfSnF
-----END PRIVATE KEY-----
"""
# RFC 9421, B.1.2: test-key-rsa-pss, the public half.
RFC_9421_RSA_PSS = """-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAr4tmm3r20Wd/PbqvP1s2
+QEtvpuRaV8Yq40gjUR8y2Rjxa6dpG2GXHbPfvMs8ct+Lh1GH45x28Rw3Ry53mm+
oAXjyQ86OnDkZ5N8lYbggD4O3w6M6pAvLkhk95AndTrifbIFPNU8PPMO7OyrFAHq
gDsznjPFmTOtCEcN2Z1FpWgchwuYLPL+Wokqltd11nqqzi+bJ9cvSKADYdUAAN5W
Utzdpiy6LbTgSxP7ociU4Tn0g5I6aDZJ7A8Lzo0KSyZYoA485mqcO0GVAdVw9lq4
aOT9v6d+nb4bnNkQVklLQ3fVAvJm+xdDOp9LCNCN48V2pnDOkFV6+U9nV5oyc6XI
2wIDAQAB
-----END PUBLIC KEY-----
"""


@functools.cache
def ed25519_key() -> PrivateKey:
    return PrivateKey.from_pem(RFC_9421_ED25519.encode())


@functools.cache
def other_key() -> PrivateKey:
    return PrivateKey.generate_ed25519()


@functools.cache
def rsa_key() -> PrivateKey:
    return PrivateKey.generate_rsa()


def message(
    method: str = "POST",
    authority: str = "directory.example",
    path: str = "/register",
    query: str = "",
    body: bytes = BODY,
    headers: list[tuple[str, str]] | None = None,
) -> Message:
    """Return a request with these `headers`, and the others that each request has."""
    fields = [("host", authority), ("content-length", str(len(body)))]
    fields += [(name.lower(), value) for name, value in headers or []]
    return Message(method, authority, path, query, body, tuple(fields))


def signed(
    key: PrivateKey,
    *,
    method: str = "POST",
    authority: str = "directory.example",
    path: str = "/register",
    body: bytes = BODY,
    created: int = NOW,
    nonce: str = NONCE,
) -> Message:
    """Return a request signed by `key`."""
    headers = signed_headers(method, authority, path, body, key, created, nonce)
    return message(method, authority, path, "", body, headers)


def signature_base(components: Iterable[tuple[str, str]], parameters: str) -> bytes:
    """Return what RFC 9421 §2.5 says is signed, for any components.

    `components` are pairs of an identifier, with its quotes and parameters, and its value; `parameters` is
    the list of the identifiers and all after it.
    """
    lines = [f"{identifier}: {value}" for identifier, value in components]
    return "\n".join([*lines, f'"@signature-params": {parameters}']).encode("ascii")


def with_field(request: Message, name: str, value: str | None) -> Message:
    """`request` with another `value` of one field, or without it."""
    fields = tuple(pair for pair in request.fields if pair[0] != name)
    return request._replace(fields=fields if value is None else (*fields, (name, value)))


def field(request: Message, name: str) -> str:
    (value,) = [value for given, value in request.fields if given == name]
    return value


def refusal(action: Callable[..., Any], *arguments: Any) -> str:
    """Return the code of the `ProofError` that `action` raises, having said why."""
    with pytest.raises(ProofError) as caught:
        action(*arguments)
    assert caught.value.message.endswith((".", '"', ":", ")", ">")), caught.value.message
    return caught.value.code
