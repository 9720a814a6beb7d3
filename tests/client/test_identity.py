"""The proofs that a request carries."""

from __future__ import annotations

import random

import pytest

from openred_central.client.identity import Identity, ProofLevel
from openred_central.security.node_keys import load_node_key
from openred_central.security.signatures import (
    Message,
    check_proof,
    check_time,
    read_rotation,
    read_signature,
)
from openred_central.security.signing import PrivateKey
from tests.support.clock import VirtualClock
from tests.support.signed_requests import ed25519_key, other_key

SESSION = "or3s.1.1.0.x"


def identity(
    key: PrivateKey | None = None, node_id: str | None = None, claim: str | None = None
) -> tuple[Identity, VirtualClock]:
    clock = VirtualClock()
    return Identity(node_id, key, claim, clock, random.Random(1).randbytes), clock


def message(method: str, path: str, body: bytes, headers: list[tuple[str, str]]) -> Message:
    fields = tuple((name.lower(), value) for name, value in headers)
    return Message(method, "a:1", path, "", body, (("host", "a:1"), *fields))


def test_default_node_id_comes_from_the_key() -> None:
    assert identity(ed25519_key())[0].node_id == f"k-{ed25519_key().key_id}"
    assert identity(ed25519_key(), "alice")[0].node_id == "alice"
    with pytest.raises(ValueError, match="needs a node_id"):
        identity()


@pytest.mark.parametrize("body", [b"", b'{"a":1}'])
def test_a_signature_holds_and_has_a_nonce_of_its_own(body: bytes) -> None:
    node, clock = identity(ed25519_key())
    node.correct(clock.wall_s() + 500)
    nonces = set()
    for _ in range(3):
        asked = message("POST", "/x", body, node.headers(ProofLevel.NODE, "POST", "a:1", "/x", body))
        signature = read_signature(asked)
        check_time(signature, clock.wall_s() + 500, 0)
        nonces.add(check_proof(signature, asked, ed25519_key().public.spki).nonce)
    assert len(nonces) == 3


def test_session_replaces_signatures_for_signs_of_life_until_it_ends() -> None:
    node, clock = identity(ed25519_key())

    def shown(proof: ProofLevel) -> str:
        headers = dict(node.headers(proof, "POST", "a:1", "/x", b""))
        return headers.get("Authorization", "signed" if "Signature" in headers else "nothing")

    assert shown(ProofLevel.LIFE) == "signed"
    node.take({"session": SESSION, "claim": 7})
    assert [shown(proof) for proof in ProofLevel] == ["nothing", f"OpenRed {SESSION}", "signed"]
    clock.advance(289)
    assert shown(ProofLevel.LIFE) == f"OpenRed {SESSION}"
    clock.advance(2)
    assert shown(ProofLevel.LIFE) == "signed"
    # A session that is given back ends when it would have ended.
    node.take({"session": SESSION})
    assert shown(ProofLevel.LIFE) == "signed"
    node.take({"session": f"{SESSION}2"})
    assert shown(ProofLevel.LIFE) == f"OpenRed {SESSION}2"
    node.end_session()
    assert shown(ProofLevel.LIFE) == "signed"


def test_a_claim_is_shown_only_where_it_is_needed() -> None:
    node, _ = identity(None, "bob")
    assert node.headers(ProofLevel.NODE, "POST", "a", "/x", b"") == []
    node.take({"claim": "secret"})
    assert node.headers(ProofLevel.NODE, "POST", "a", "/x", b"") == [("Authorization", "Claim secret")]
    assert node.headers(ProofLevel.LIFE, "POST", "a", "/x", b"") == []
    assert node.headers(ProofLevel.NOTHING, "POST", "a", "/x", b"") == []


def test_identity_signs_a_key_change_by_both_keys_or_the_new_one() -> None:
    node, _ = identity(ed25519_key())
    for lost in (False, True):
        headers = node.rotation_headers(other_key(), "a:1", "/k", b"{}", lost=lost)
        asked = message("POST", "/k", b"{}", headers)
        old, new = read_rotation(asked)
        assert (old is None) == lost
        if old is not None:
            check_proof(old, asked, ed25519_key().public.spki)
        check_proof(new, asked, load_node_key(other_key().public_text).spki)


def test_a_node_without_a_key_takes_one_by_its_claim() -> None:
    node, _ = identity(None, "bob", "secret")
    headers = node.rotation_headers(other_key(), "a:1", "/k", b"{}", lost=False)
    assert dict(headers)["Authorization"] == "Claim secret"
    assert read_rotation(message("POST", "/k", b"{}", headers))[0] is None
