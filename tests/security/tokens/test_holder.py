"""Only the holder of the key that a token names can answer a challenge, and only this challenge."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from openred_central.encoding import ED25519_SPKI_PREFIX, key_id
from openred_central.security.refusals import VerificationError
from openred_central.security.tokens.holder import PossessionProof, check_holder, message, prove
from openred_central.security.tokens.link import Pair, Side, cross_verify, new_pair
from openred_central.security.tokens.tokens import unsigned
from tests.support.keys import NOW, directory_key, keyset

ALICE, BOB, MALLORY = (Ed25519PrivateKey.from_private_bytes(bytes([number] * 32)) for number in (1, 2, 3))
CHALLENGE = bytes(range(32))


def spki(key: Ed25519PrivateKey) -> bytes:
    return ED25519_SPKI_PREFIX + key.public_key().public_bytes_raw()


def verify(spki: bytes, signature: bytes, message: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(spki.removeprefix(ED25519_SPKI_PREFIX)).verify(signature, message)
    except InvalidSignature:
        return False
    return True


def linked(seed: int = 1, *, swapped: bool = False, key_less: bool = False) -> Pair:
    a, b = Side("alice", key_id(spki(ALICE)), 0), Side("bob", None if key_less else key_id(spki(BOB)), 0)
    texts = []
    for token in new_pair(a, b, "peer", NOW, 300, random.Random(seed).randbytes):
        body = unsigned(token, directory_key().public)
        # The pair must be the same for the same seed, down to its text.
        texts.append(body.assemble(signature_of(body.message)))
    pair = cross_verify(*(texts[::-1] if swapped else texts), keyset(directory_key()), NOW).pair
    assert pair is not None
    return pair


def signature_of(message: bytes, made: dict[bytes, bytes] = {}) -> bytes:  # noqa: B006
    return made.setdefault(message, directory_key().sign(message))


def proof(
    key: Ed25519PrivateKey = BOB, node_id: str = "bob", sent: bytes = CHALLENGE, seed: int = 1
) -> PossessionProof:
    return prove(linked(seed), node_id, sent, spki(key), key.sign)


def reason(check: Callable[[], None]) -> str:
    with pytest.raises(VerificationError) as refused:
        check()
    return refused.value.reason


def test_both_nodes_prove_possession_in_either_token_order() -> None:
    check_holder(linked(swapped=True), "bob", CHALLENGE, proof(), verify)
    check_holder(linked(), "alice", CHALLENGE, proof(ALICE, "alice"), verify)


def test_copied_token_proves_no_key() -> None:
    """Mallory has bob's token, but not bob's key, and cannot use another key with it."""
    stolen = proof(MALLORY)
    assert reason(lambda: check_holder(linked(), "bob", CHALLENGE, stolen, verify)) == "wrong_key"
    passed_off = PossessionProof(spki(BOB), stolen.signature)
    assert reason(lambda: check_holder(linked(), "bob", CHALLENGE, passed_off, verify)) == "proof"


def test_a_proof_answers_one_challenge() -> None:
    assert reason(lambda: check_holder(linked(), "bob", bytes(32), proof(), verify)) == "proof"


def test_a_proof_is_for_one_pair() -> None:
    assert reason(lambda: check_holder(linked(2), "bob", CHALLENGE, proof(), verify)) == "proof"


def test_a_proof_is_for_these_tokens_to_the_letter() -> None:
    """Equal claims under another signature are other tokens."""
    pair = linked()
    other = unsigned(pair.a, directory_key().public)
    again = pair._replace(text_a=other.assemble(directory_key().sign(other.message)))
    assert again.text_a != pair.text_a
    assert reason(lambda: check_holder(again, "bob", CHALLENGE, proof(), verify)) == "proof"


def test_proof_cannot_be_reflected() -> None:
    mirrored = proof(ALICE, "alice")
    assert reason(lambda: check_holder(linked(), "bob", CHALLENGE, mirrored, verify)) == "wrong_key"
    # Not even where both nodes have the same key.
    as_bob = prove(linked(), "bob", CHALLENGE, spki(ALICE), ALICE.sign)
    assert reason(lambda: check_holder(linked(), "alice", CHALLENGE, as_bob, verify)) == "proof"


def test_a_node_without_a_proven_key_proves_nothing() -> None:
    pair = linked(key_less=True)
    shown = prove(pair, "bob", CHALLENGE, spki(BOB), BOB.sign)
    assert reason(lambda: check_holder(pair, "bob", CHALLENGE, shown, verify)) == "no_key"


def test_a_node_that_is_none_of_the_pair_proves_nothing() -> None:
    assert reason(lambda: check_holder(linked(), "carol", CHALLENGE, proof(), verify)) == "no_key"
    with pytest.raises(ValueError, match="carol is none of the two nodes"):
        proof(node_id="carol")


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_challenge_of_another_length_is_not_answered(length: int) -> None:
    with pytest.raises(ValueError, match=f"a challenge has 32 bytes, this one {length}"):
        proof(sent=bytes(length))


def test_what_is_signed_is_no_token_and_no_request() -> None:
    assert message(linked(), "bob", CHALLENGE)[16:].startswith(b"openred/3 pop")
