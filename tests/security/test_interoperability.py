"""Requests signed by an independent implementation of RFC 9421 are accepted, and ours by it."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from http_message_signatures import (
    HTTPMessageSigner,
    HTTPMessageVerifier,
    HTTPSignatureKeyResolver,
    InvalidSignature,
    algorithms,
)

from openred_central.security.signatures import (
    TAG,
    Message,
    check_proof,
    read_signature,
)
from openred_central.security.signing import PrivateKey, signed_headers
from tests.support.signed_requests import BODY, NONCE, NOW, ed25519_key, message, refusal, rsa_key


class Their:
    """A request as that implementation takes it."""

    def __init__(self, headers: dict[str, str], method: str = "POST") -> None:
        self.method = method
        self.url = "https://directory.example/register"
        self.headers = headers


class Keys(HTTPSignatureKeyResolver):
    """Finds the one key under every name."""

    def __init__(self, key: PrivateKey) -> None:
        self._key: Any = load_pem_private_key(key.to_pem(), None)

    def resolve_private_key(self, key_id: str) -> Any:
        return self._key

    def resolve_public_key(self, key_id: str) -> Any:
        return self._key.public_key()


CASES = [
    pytest.param(ed25519_key, algorithms.ED25519, id="ed25519"),
    pytest.param(rsa_key, algorithms.RSA_PSS_SHA512, id="rsa-pss-sha512"),
]


def their_request(key: PrivateKey, algorithm: Any, body: bytes, created: int = NOW) -> Message:
    request = Their({"Host": "directory.example"})
    HTTPMessageSigner(signature_algorithm=algorithm, key_resolver=Keys(key)).sign(
        request,
        key_id=key.key_id,
        created=datetime.datetime.fromtimestamp(created, datetime.UTC),
        nonce=NONCE,
        tag=TAG,
        covered_component_ids=("@method", "@authority", "@path"),
        # They make the digest, and append it to the list.
        body=body or None,
    )
    signing = [(name, value) for name, value in request.headers.items() if name != "Host"]
    return message(body=body, headers=signing)


@pytest.mark.parametrize(("make", "algorithm"), CASES)
@pytest.mark.parametrize("body", [BODY, b""], ids=["with body", "without body"])
def test_what_they_sign_is_accepted(make: Any, algorithm: Any, body: bytes) -> None:
    request = their_request(make(), algorithm, body)
    signature = read_signature(request)
    proof = check_proof(signature, request, make().public.spki)
    assert (proof.created, proof.nonce) == (NOW, NONCE)
    assert signature.algorithm == algorithm.algorithm_id
    changed = request._replace(method="PUT")
    assert refusal(check_proof, signature, changed, make().public.spki) == "bad_signature"


@pytest.mark.parametrize(("make", "algorithm"), CASES)
@pytest.mark.parametrize("body", [BODY, b""], ids=["with body", "without body"])
def test_what_we_sign_is_accepted_by_them(make: Any, algorithm: Any, body: bytes) -> None:
    now = int(datetime.datetime.now(datetime.UTC).timestamp())
    headers = signed_headers("POST", "directory.example", "/register", body, make(), now, NONCE)
    verifier = HTTPMessageVerifier(signature_algorithm=algorithm, key_resolver=Keys(make()))
    (result,) = verifier.verify(Their(dict(headers)))
    assert result.parameters["keyid"] == make().key_id
    with pytest.raises(InvalidSignature):
        verifier.verify(Their(dict(headers), "PUT"))
