"""Two nodes that meet, and no directory that could be asked."""

from __future__ import annotations

import random

import pytest

from openred_central.client.peering import TrustedKeys, answer_challenge, check_answer, verify_pair
from openred_central.security.directory_keys.keyset import KeySet, document, message
from openred_central.security.directory_keys.suites import SUITES, DirectoryKey
from openred_central.security.refusals import VerificationError
from openred_central.security.tokens.holder import challenge
from openred_central.security.tokens.link import Side, new_pair
from openred_central.security.tokens.tokens import PeerToken, unsigned
from tests.support.keys import NOW, directory_key, keyset
from tests.support.signed_requests import ed25519_key, other_key, rsa_key

ENTROPY = random.Random(7).randbytes
A, B = Side("alice", ed25519_key().key_id, 0), Side("bob", rsa_key().key_id, 0)
KEYS = keyset(directory_key("r"))
ROOT = directory_key("R", 1)
OTHER_ROOT = directory_key("R", 2)


def mint(token: PeerToken, key: DirectoryKey) -> str:
    body = unsigned(token, key.public)
    return body.assemble(key.sign(body.message))


def pair_texts(suite: str = "r") -> tuple[str, str]:
    first, second = new_pair(A, B, "test", NOW, 300, ENTROPY)
    return mint(first, directory_key(suite)), mint(second, directory_key(suite))


@pytest.mark.parametrize("suite", SUITES)
def test_a_pair_is_verified_either_way_round(suite: str) -> None:
    one, two = pair_texts(suite)
    key = directory_key(suite)
    keys = keyset(key)
    assert verify_pair(one, two, keys, NOW).a.node_id == "alice"
    assert verify_pair(two, one, keys, NOW).a.node_id == "bob"
    with pytest.raises(VerificationError):
        verify_pair(one, two, keyset(directory_key(suite, 1)), NOW)
    with pytest.raises(VerificationError, match="revoked"):
        verify_pair(one, two, keyset(key, revoked=(key.public.key_id,)), NOW)


def test_unlinked_pairs_are_refused_with_a_reason() -> None:
    (one, two), (other_one, other_two) = pair_texts(), pair_texts()
    altered = one[:-2] + ("B" if one[-2] == "A" else "A") + one[-1]
    for a, b, complaint in (
        (one, other_two, "not made together"),
        (other_one, two, "not made together"),
        (one, one, "same node"),
        (altered, two, "token a"),
        (one, "", "token b"),
    ):
        with pytest.raises(VerificationError, match=complaint) as caught:
            verify_pair(a, b, KEYS, NOW)
        assert caught.value.reason == "unlinked"
    with pytest.raises(VerificationError, match="valid until"):
        verify_pair(one, two, KEYS, NOW + 301)


def test_each_node_shows_that_it_holds_its_key() -> None:
    pair = verify_pair(*pair_texts(), KEYS, NOW)
    for node_id, key in (("alice", ed25519_key()), ("bob", rsa_key())):
        challenged = challenge(ENTROPY)
        check_answer(pair, node_id, challenged, answer_challenge(pair, node_id, challenged, key))


def test_no_other_node_answers_a_challenge() -> None:
    pair, challenged = verify_pair(*pair_texts(), KEYS, NOW), challenge(ENTROPY)
    good = answer_challenge(pair, "alice", challenged, ed25519_key())
    bad = [
        ("alice", challenged, answer_challenge(pair, "alice", challenged, other_key()), "wrong_key"),
        ("alice", challenge(ENTROPY), good, "proof"),
        ("bob", challenged, good, "wrong_key"),
        ("carol", challenged, good, "no_key"),
        ("alice", challenged, good | {"signature": "A" * 86}, "proof"),
        ("alice", challenged, good | {"signature": "A="}, "malformed"),
        ("alice", challenged, good | {"public_key": "none"}, "malformed"),
        ("alice", challenged, {}, "malformed"),
    ]
    for node_id, sent, answer, reason in bad:
        with pytest.raises(VerificationError) as caught:
            check_answer(pair, node_id, sent, answer)
        assert caught.value.reason == reason


def vouched(key_set: KeySet, root: DirectoryKey = ROOT) -> bytes:
    encoded = key_set.encode()
    return document(encoded, root.sign(message(encoded)), root.public)


def test_first_root_is_trusted_and_no_other() -> None:
    trusted = TrustedKeys()
    assert (
        trusted.take(vouched(keyset(directory_key())), NOW, '"1"').encode()
        == keyset(directory_key()).encode()
    )
    assert (trusted.root_key_id, trusted.etag) == (ROOT.public.key_id, '"1"')
    with pytest.raises(VerificationError, match="root key"):
        trusted.take(vouched(keyset(directory_key(), version=2), OTHER_ROOT), NOW)
    assert (trusted.root_key_id, trusted.etag) == (ROOT.public.key_id, '"1"')
    assert trusted.key_set is not None
    assert trusted.key_set.encode() == keyset(directory_key()).encode()


def test_known_root_is_the_only_one() -> None:
    trusted = TrustedKeys(OTHER_ROOT.public.key_id)
    with pytest.raises(VerificationError, match="root key"):
        trusted.take(vouched(keyset(directory_key())), NOW)
    assert trusted.key_set is None


def test_an_empty_id_of_a_root_trusts_nobody() -> None:
    for trusted in (TrustedKeys(""), TrustedKeys(classical_root_key_id="")):
        with pytest.raises(VerificationError):
            trusted.take(vouched(keyset(directory_key())), NOW)
        assert trusted.key_set is None


def test_a_classical_root_is_only_trusted_by_choice(caplog: pytest.LogCaptureFixture) -> None:
    key_set, forger = keyset(directory_key()), directory_key("R", 3)
    encoded = key_set.encode()
    second = OTHER_ROOT.sign(message(encoded, classical=True)), OTHER_ROOT.public
    # The classical signature is right, that of the root key is not.
    forged = document(encoded, forger.sign(message(encoded)), ROOT.public, second)
    for unasked in (TrustedKeys(), TrustedKeys(ROOT.public.key_id), TrustedKeys(OTHER_ROOT.public.key_id)):
        with pytest.raises(VerificationError):
            unasked.take(forged, NOW)
    assert caplog.messages == []
    chosen = TrustedKeys(classical_root_key_id=OTHER_ROOT.public.key_id)
    assert chosen.take(forged, NOW).encode() == encoded
    assert "not quantum-safe" in caplog.text
    # It is no root key that was seen first.
    assert chosen.root_key_id is None
    for key_set_by_others in (vouched(key_set), vouched(key_set, OTHER_ROOT)):
        with pytest.raises(VerificationError) as caught:
            chosen.take(key_set_by_others, NOW)
        assert caught.value.reason == "no_classical"
    with pytest.raises(VerificationError) as caught:
        TrustedKeys(classical_root_key_id=ROOT.public.key_id).take(forged, NOW)
    assert caught.value.reason == "root"
    with pytest.raises(ValueError, match="pin one of them"):
        TrustedKeys(ROOT.public.key_id, classical_root_key_id=OTHER_ROOT.public.key_id)


def test_older_key_set_is_refused() -> None:
    trusted = TrustedKeys()
    trusted.take(vouched(keyset(directory_key(), version=5)), NOW)
    trusted.take(vouched(keyset(directory_key(), version=5)), NOW)
    with pytest.raises(VerificationError, match="older than 5"):
        trusted.take(vouched(keyset(directory_key(), version=4)), NOW)


def test_future_version_does_not_block_later_key_sets() -> None:
    trusted = TrustedKeys(ROOT.public.key_id)
    for version in (NOW + 86_400, 2**53 - 1):
        with pytest.raises(VerificationError):
            trusted.take(vouched(keyset(directory_key(), version=version)), NOW)
    assert trusted.take(vouched(keyset(directory_key(), version=NOW + 1)), NOW).version == NOW + 1


def test_a_kept_document_can_be_taken_again() -> None:
    trusted = TrustedKeys()
    trusted.take(vouched(keyset(directory_key())), NOW)
    again = TrustedKeys(trusted.root_key_id)
    assert trusted.key_set is not None
    assert again.take(trusted.document, NOW + 60).encode() == trusted.key_set.encode()


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"root":{}}', b'{"root":{"kid":"x"}}', b"\xff"])
def test_what_is_no_key_set_is_refused(content: bytes) -> None:
    with pytest.raises(VerificationError, match="not the document of a key set"):
        TrustedKeys().take(content, NOW)
